"""Before a push: who is on, who came and went, and payloads for old and new clients side by side, on both engines."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from imcore import Online, Seen, Uplink
from imcore.bus.ports import Bus, Route
from imcore.errors import EncodeError
from imcore.gateway import presence
from imcore.gateway.auth import anonymous
from imcore.gateway.gateway import Gateway
from imcore.gateway.limits import Limits
from imcore.gateway.listeners import Listen
from imcore.service import Service
from tests import redis_server
from tests.bus.engines import ENGINES, SHARDS, pipe
from tests.gateway.running import run, until
from tests.gateway.wire import ACK, MSG, Wire, frame


class Node:
    """A gateway and a service of one process, and what the service was told of who comes and goes."""

    def __init__(self, bus: Bus, gateway: Gateway, service: Service, seen: list[tuple[str, Seen]]) -> None:
        self.bus = bus
        self.gateway = gateway
        self.service = service
        self.seen = seen
        self.address = gateway.addresses[0]

    @property
    def told(self) -> list[tuple[str, str, bool]]:
        return [(user, what.device, what.online) for user, what in self.seen]


@pytest.fixture(params=["embedded", "redis"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "AWAY_S", 0.5)


@asynccontextmanager
async def node(tmp_path: Path, engine: str, name: str = "one") -> AsyncIterator[Node]:
    bus = ENGINES[engine](tmp_path / "data")
    await bus.start()
    seen: list[tuple[str, Seen]] = []
    service = Service(bus)

    @service.on("@presence")
    async def told(message: Uplink) -> None:
        seen.append((message.user, msgspec.msgpack.decode(message.body, type=Seen)))

    await service.start()
    try:
        async with Gateway(bus, name=name, authenticate=anonymous, limits=Limits(drain_s=0.1)) as gateway:
            await gateway.listen([Listen("127.0.0.1:0")])
            yield Node(bus, gateway, service, seen)
    finally:
        await service.close()
        await bus.close()


def test_online_says_device_since_when_client_and_node(tmp_path: Path, engine: str) -> None:
    async def main() -> None:
        async with node(tmp_path, engine) as here:
            assert await here.service.online("bob") == []
            async with Wire(here.address) as phone, Wire(here.address) as desk:
                await phone.greet("bob", device="phone", client="app/2")
                await desk.greet("bob", device="desk", client="web/1", role="down")
                one, two = await here.service.online("bob")
                assert one == Online("phone", one.since_ms, "app/2", "one", "both")
                assert two == Online("desk", two.since_ms, "web/1", "one", "down")
                assert 0 <= two.since_ms - one.since_ms < 60_000

    run(main())


def test_coming_and_going_is_told_and_a_reconnect_is_neither(tmp_path: Path, engine: str) -> None:
    async def main() -> None:
        async with node(tmp_path, engine) as here:
            async with Wire(here.address) as wire:
                await wire.greet("bob", device="phone", client="app/2")
                await until(lambda: here.told == [("bob", "phone", True)])
                assert here.seen[0][1].client == "app/2"
                assert here.seen[0][1].node == "one"
            async with Wire(here.address) as wire:  # back at once
                await wire.greet("bob", device="phone")
                await asyncio.sleep(1.0)
                assert here.told == [("bob", "phone", True)]
            await until(lambda: here.told == [("bob", "phone", True), ("bob", "phone", False)])

    run(main())


def test_a_device_that_comes_and_goes_all_the_time_has_one_going_that_counts(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "AWAY_S", 30)

    async def main() -> None:
        async with node(tmp_path, engine) as here:
            for _ in range(20):
                async with Wire(here.address) as wire:
                    await wire.greet("bob", device="phone")
                    assert not here.gateway._presence._gone
                await until(lambda: here.gateway.users == 0)
                assert len(here.gateway._presence._gone) == 1
            await until(lambda: here.told == [("bob", "phone", True)])

    run(main())


def test_a_link_that_only_sends_is_no_presence(tmp_path: Path, engine: str) -> None:
    async def main() -> None:
        async with node(tmp_path, engine) as here, Wire(here.address) as wire, Wire(here.address) as other:
            await wire.greet("bob", role="up")
            await other.greet("carol", role="down")
            await until(lambda: here.told == [("carol", "phone", True)])

    run(main())


def test_nobody_can_speak_in_the_channels_name(tmp_path: Path, engine: str) -> None:
    async def main() -> None:
        async with node(tmp_path, engine) as here, Wire(here.address) as wire:
            await wire.greet("bob")
            wire.say(frame(MSG, 1, "@presence", b"\x80"))
            answer = await wire.hear()
            assert answer.type == ACK
            assert answer.map["code"] == "no_route"

    run(main())


def test_each_generation_of_clients_gets_its_payload(tmp_path: Path, engine: str) -> None:
    async def main() -> None:
        async with node(tmp_path, engine) as here:
            async with Wire(here.address) as old, Wire(here.address) as new:
                await old.greet("bob", device="old")
                await new.greet("bob", device="new", accepts=["3", "2"])
                await here.service.push("bob", "chat", b"plain", variants={"2": b"second", "1": b"first"})
                await here.service.push("bob", "chat", b"all the same")
                assert [(m.route, m.body) for m in (await old.hear(), await old.hear())] == [
                    ("chat", b"plain"),
                    ("chat", b"all the same"),
                ]
                assert [(await new.hear()).body, (await new.hear()).body] == [b"second", b"all the same"]
            async with Wire(here.address) as late:  # from the inbox
                await late.greet("bob", device="late", accepts=["1"])
                assert [(await late.hear()).body, (await late.hear()).body] == [b"first", b"all the same"]

    run(main())


def test_variants_that_no_client_could_ask_for_are_refused(tmp_path: Path, engine: str) -> None:
    async def main() -> None:
        async with node(tmp_path, engine) as here:
            for variants in ({"": b""}, {"x" * 17: b""}, {str(n): b"" for n in range(9)}):
                with pytest.raises(EncodeError, match="variants: expected"):
                    here.service.push("bob", "chat", b"", variants=variants)
            with pytest.raises(EncodeError, match="at most 65536 bytes"):
                here.service.push("bob", "chat", b"", variants={"2": bytes(70_000)})
            with pytest.raises(EncodeError, match="zero byte"):
                here.service.push("bob", "\0chat", b"")

    run(main())


def test_when_a_node_dies_those_who_stay_away_are_told_as_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imcore.bus.redis.push.NODE_MS", 1500)
    monkeypatch.setattr("imcore.bus.redis.routes.UNSEEN_MS", 500)

    async def main() -> None:
        async with node(tmp_path, "redis") as here:
            dying = ENGINES["redis"](tmp_path / "data")
            await dying.start()
            dying.routes.attach("dying", lambda route, newer: None)
            for n in range(20):
                route = Route(f"user {n}", "phone", "dying", "phone", "both", n + 1)
                await dying.routes.claim(route)
                dying.routes.presence(route)
            await until(lambda: len(here.told) == 20)
            pipe(dying).abandon()  # as if killed
            await until(lambda: sorted(here.told[20:]) == sorted((f"user {n}", "phone", False) for n in range(20)), 15)
            await dying.close()

    run(main())


DYING = """
import sys
from imcore.bus.redis import push
from imcore.cli import main
push.NODE_MS = 1500
sys.exit(main(sys.argv[1:]))
"""

CONFIG = """
[node]
name = "dying"
roles = ["downlink", "uplink"]
[[listen]]
address = "127.0.0.1:0"
[bus]
engine = "redis"
url = "{url}"
space = "{space}"
shards = {shards}
"""


@asynccontextmanager
async def process(tmp_path: Path, beside: Path) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """A gateway that is a process of its own, on the bus of `node(beside, "redis")`; its address."""
    file = tmp_path / "dying.toml"
    file.write_text(CONFIG.format(url=redis_server.shared().url, space=f"test {beside / 'data'}", shards=SHARDS))
    dying = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DYING, "serve", "--anonymous", "--config", str(file),
        stdout=asyncio.subprocess.PIPE, cwd=tmp_path,
    )  # fmt: skip
    assert dying.stdout is not None
    try:
        line = (await asyncio.wait_for(dying.stdout.readline(), 20)).decode()
        yield line.removeprefix("listening on ").strip(), dying
    finally:
        with contextlib.suppress(ProcessLookupError):
            dying.kill()
        await dying.communicate()


def test_a_node_that_is_killed_with_hundreds_of_links_is_no_storm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes back by another node is no news, and who stays away is told as gone, a few at a time."""
    monkeypatch.setattr("imcore.bus.redis.routes.UNSEEN_MS", 500)
    monkeypatch.setattr("imcore.bus.redis.routes.UNSEEN", 15)
    count = 300
    everyone, away = ({f"user {n}" for n in range(first, count)} for first in (0, count // 2))

    async def main() -> None:
        beside = Path(*tmp_path.parts[-2:])  # as long as the name of a space may be
        async with (
            node(beside, "redis") as here,
            process(tmp_path, beside) as (address, dying),
            AsyncExitStack() as links,
        ):
            gone: list[float] = []

            async def link(to: str, user: str) -> None:
                await (await links.enter_async_context(Wire(to))).greet(user, role="down")

            await asyncio.gather(*(link(address, user) for user in everyone))
            await until(lambda: {user for user, _, online in here.told if online} == everyone, 20)
            dying.kill()
            await asyncio.gather(*(link(here.address, user) for user in everyone - away))

            def all_gone() -> bool:
                gone.extend([asyncio.get_running_loop().time()] * (len(here.told) - count - len(gone)))
                return len(gone) >= len(away)

            await until(all_gone, 30)
            assert sorted(here.told[count:]) == sorted((user, "phone", False) for user in away)
            assert gone[-1] - gone[0] > 1.0  # 150 of them, of each shard 15 a second

    run(main())
