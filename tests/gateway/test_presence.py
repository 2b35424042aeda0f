"""Before a push: who is on, who came and went, and payloads for old and new clients side by side, on both engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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
from tests.bus.engines import ENGINES
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
            dying._pipe.abandon()  # type: ignore[attr-defined]  # as if killed
            await until(lambda: sorted(here.told[20:]) == sorted((f"user {n}", "phone", False) for n in range(20)), 15)
            await dying.close()

    run(main())
