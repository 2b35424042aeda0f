"""What split channels are known to break, over real gateways for up and down and a service: each is answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from imcore import Client, Config, Node, State, Unknown, Uplink
from imcore.config import Bus
from imcore.config import Limits as LinkLimits
from imcore.config import Node as NodeConfig
from tests import redis_server
from tests.client.peer import run, until

pytestmark = pytest.mark.skipif(redis_server.missing is not None, reason=redis_server.missing or "")


def node(tmp_path: Path, name: str, role: str) -> Node:
    bus = Bus(engine="redis", url=redis_server.shared().url, space=f"apart {tmp_path}", shards=2)
    roles = NodeConfig(name=name, data=str(tmp_path / name), roles=[role])  # type: ignore[list-item]  # one of them
    made = Node(Config(node=roles, bus=bus, limits=LinkLimits(drain_s=0.1)), listen=["127.0.0.1:0"])
    if role == "service":

        @made.service.on("note")
        async def note(message: Uplink) -> asyncio.Future[int]:
            return made.service.push(message.user, "note", message.body, key=message.key)

    return made


@asynccontextmanager
async def system(tmp_path: Path) -> AsyncIterator[tuple[list[str], AsyncExitStack]]:
    """Points of a gateway for what comes down, then of one for what goes up, which ends with the stack."""
    async with (
        node(tmp_path, "service", "service"),
        node(tmp_path, "down", "downlink") as down,
        AsyncExitStack() as ends,
    ):
        up = await ends.enter_async_context(node(tmp_path, "up", "uplink"))
        yield [*down.addresses, *up.addresses], ends


def split(points: list[str], device: str) -> Client:
    return Client(points, "alice", device)


def test_what_one_device_sent_its_others_see_and_it_sees_itself(tmp_path: Path) -> None:
    """Sent but not seen: what was said comes back through the inbox, in the one order that all devices have."""

    async def main() -> None:
        async with system(tmp_path) as (points, _), split(points, "phone") as phone, split(points, "desk") as desk:
            for each in (phone, desk):
                await until(lambda each=each: each.state is State.OPEN)  # type: ignore[misc]
            for text in (b"one", b"two"):
                await phone.send("note", text)
            for each in (phone, desk):
                bodies = []
                async for message in each:
                    bodies.append(message.body)
                    if len(bodies) == 2:
                        break
                assert bodies == [b"one", b"two"]

    run(main())


def test_without_a_way_up_what_comes_is_seen_and_the_states_tell_the_two_apart(tmp_path: Path) -> None:
    """Seen but not able to send, and two things to track."""

    async def main() -> None:
        async with system(tmp_path) as (points, up), split(points, "phone") as phone, split(points, "desk") as desk:
            await until(lambda: phone.state is State.OPEN and desk.state is State.OPEN)
            assert phone.up_state is State.IDLE
            await desk.send("note", b"from the desk")
            await up.aclose()
            async for message in phone:
                assert message.body == b"from the desk"
                break
            with pytest.raises(Unknown):
                await phone.send("note", b"later", timeout=0.5)
            assert phone.state is State.OPEN
            assert phone.up_state in (State.CONNECTING, State.WAITING, State.IDLE)

    run(main())
