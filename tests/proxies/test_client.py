"""The client through real proxies, alone and behind each other: it finds out by itself what lets its messages pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from imcore.client import Client
from tests.gateway.running import run, until
from tests.proxies.passing import FOUND_S, Known, behind, passes
from tests.proxies.servers import ALONE, FORWARD, PAIRS, Kind, needs


@pytest.mark.parametrize("kinds", [*[(kind,) for kind in ALONE], *PAIRS], ids=lambda kinds: " > ".join(map(str, kinds)))
def test_a_thousand_messages_each_way_come_once_and_in_order_by_the_right_mode(
    tmp_path: Path, kinds: tuple[Kind, ...]
) -> None:
    needs(*kinds)
    passed = run(passes(tmp_path, *kinds))
    assert passed.whole, passed
    assert passed.found == passed.right, passed
    assert passed.found_s < FOUND_S, passed


@pytest.mark.parametrize("kind", FORWARD, ids=str)
def test_raw_frames_pass_a_proxy_by_connect(tmp_path: Path, kind: Kind) -> None:
    needs(kind)

    async def main() -> None:
        async with behind(tmp_path, kind, scheme="tcp") as (here, _, point, proxy):
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
        async with behind(tmp_path, kind, scheme=scheme) as (_, _, point, proxy):
            said: list[str] = []
            other = str(proxy).replace("user:secret@", login)
            async with Client([point], "bob", "phone", proxy=other, on_state=lambda _, text: said.append(text)):
                await until(lambda: any("PROXY_LOGIN" in text for text in said))
            assert not any("wrong" in text for text in said)

    run(main())
