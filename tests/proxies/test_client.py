"""The client through real proxies, alone and behind each other: it finds out by itself what lets its messages pass."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from imcore.client import Client
from imcore.ways.learned import Learned
from imcore.ways.memory import Memory
from tests.gateway.running import Running, run, running, until
from tests.proxies.servers import ALONE, FORWARD, PAIRS, Kind, needs, serving

COUNT = 1000
SLOW_S = 5
"""What a busy machine may add to the time that the right mode takes to be found, 3 s."""
MODES = {"nginx, deaf": "padded"}
"""What is right, where it is not to stream."""


class Known(Memory):
    """What is known of the way to a gateway, and of how proxies are passed."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, Learned] = {}

    def keep(self, way: str, learned: Learned) -> None:
        super().keep(way, learned)
        self.kept[way] = learned

    @property
    def mode(self) -> str:
        return next((learned.mode for way, learned in self.kept.items() if " through " not in way), "stream")

    @property
    def passages(self) -> set[str]:
        return {learned.passage for way, learned in self.kept.items() if " through " in way}


@asynccontextmanager
async def behind(folder: Path, *kinds: Kind, scheme: str = "http") -> AsyncIterator[tuple[Running, str, str | bool]]:
    """A gateway behind proxies, the first of which is the client's: with a point and a proxy for it."""
    async with running(folder / "data") as here, AsyncExitStack() as stack:
        port = int(here.address.rpartition(":")[2])
        proxy: str | bool = False
        point = port
        for at, kind in enumerate(reversed(kinds)):
            port = await stack.enter_async_context(serving(kind, folder / str(at), port))
            if kind.forward:
                proxy = f"http://user:secret@127.0.0.1:{port}"
            else:
                point = port
        yield here, f"{scheme}://127.0.0.1:{point}", proxy


@pytest.mark.parametrize("kinds", [*[(kind,) for kind in ALONE], *PAIRS], ids=lambda kinds: " > ".join(map(str, kinds)))
def test_a_thousand_messages_each_way_come_once_and_in_order(tmp_path: Path, kinds: tuple[Kind, ...]) -> None:
    needs(*kinds)
    ways = Known()
    bodies = [b"%d" % number for number in range(1, COUNT + 1)]

    async def main() -> None:
        async with behind(tmp_path, *kinds) as (here, point, proxy):
            await here.service.push("bob", "chat", bodies[0])
            began = asyncio.get_running_loop().time()
            async with Client([point], "bob", "phone", proxy=proxy, memory=ways) as im:
                messages = aiter(im)
                assert (await anext(messages)).body == bodies[0]
                took_s = asyncio.get_running_loop().time() - began
                sending = asyncio.gather(*(im.send("note", body, timeout=None) for body in bodies))
                for body in bodies[1:]:
                    await here.service.push("bob", "chat", body)
                assert [(await anext(messages)).body for _ in bodies[1:]] == bodies[1:]
                await sending
            await until(lambda: len(here.seen) >= COUNT)
            assert [message.body for message in here.seen] == bodies
            assert ways.mode == max((MODES.get(kind.name, "stream") for kind in kinds), key=("stream", "padded").index)
            assert took_s < 3 + SLOW_S

    run(main())


@pytest.mark.parametrize("kind", FORWARD, ids=str)
def test_raw_frames_pass_a_proxy_by_connect(tmp_path: Path, kind: Kind) -> None:
    needs(kind)

    async def main() -> None:
        async with behind(tmp_path, kind, scheme="tcp") as (here, point, proxy):
            async with Client([point], "bob", "phone", proxy=proxy, memory=(ways := Known())) as im:
                for number in range(100):
                    await im.send("note", b"%d" % number)
                await here.service.push("bob", "chat", b"down")
                assert (await anext(aiter(im))).body == b"down"
            assert [message.body for message in here.seen] == [b"%d" % number for number in range(100)]
            assert ways.passages == {"address"}

    run(main())


@pytest.mark.parametrize("scheme", ["http", "tcp"])
@pytest.mark.parametrize("login", ["user:wrong@", ""])
def test_a_proxy_that_wants_a_login_is_named(tmp_path: Path, scheme: str, login: str) -> None:
    [kind] = [kind for kind in FORWARD if "login" in kind.name]
    needs(kind)

    async def main() -> None:
        async with behind(tmp_path, kind, scheme=scheme) as (_, point, proxy):
            said: list[str] = []
            other = str(proxy).replace("user:secret@", login)
            async with Client([point], "bob", "phone", proxy=other, on_state=lambda _, text: said.append(text)):
                await until(lambda: any("PROXY_LOGIN" in text for text in said))
            assert not any("wrong" in text for text in said)

    run(main())
