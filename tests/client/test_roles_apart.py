"""What split channels are known to break, over real gateways for up and down and a service: each is answered."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from imcore import Client, Config, Node, State, Unknown, Uplink
from imcore.cli.certificate import self_signed
from imcore.client import exchange, heartbeat
from imcore.config import Bus, Listen, Tls
from imcore.config import Limits as LinkLimits
from imcore.config import Node as NodeConfig
from tests import redis_server
from tests.client.peer import first, run, until
from tests.ways.places import listening

pytestmark = pytest.mark.skipif(redis_server.missing is not None, reason=redis_server.missing or "")


def node(tmp_path: Path, name: str, role: str, tls: Tls | None = None, idle_s: int = 120) -> Node:
    bus = Bus(engine="redis", url=redis_server.shared().url, space=f"apart {tmp_path}", shards=2)
    roles = NodeConfig(name=name, data=str(tmp_path / name), roles=[role])  # type: ignore[list-item]  # one of them
    listen = Listen(address="127.0.0.1:0", tls=tls)
    made = Node(Config(node=roles, bus=bus, limits=LinkLimits(drain_s=0.1, idle_s=idle_s), listen=[listen]))
    if role == "service":

        @made.service.on("note")
        async def note(message: Uplink) -> asyncio.Future[int]:
            new = {"2": b"new " + message.body}
            return made.service.push(message.user, "note", message.body, key=message.key, variants=new)

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


def split(points: list[str], device: str, **more: Any) -> Client:
    return Client(points, "alice", device, **more)


def test_what_one_device_sent_its_others_see_and_it_sees_itself(tmp_path: Path) -> None:
    """Sent but not seen: what was said comes back through the inbox, in the one order that all devices have."""

    async def main() -> None:
        async with system(tmp_path) as (points, _), split(points, "phone") as phone, split(points, "desk") as desk:
            for each in (phone, desk):
                await until(lambda each=each: each.state is State.OPEN)  # type: ignore[misc]  # mypy can't infer the default
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


def test_old_and_new_clients_each_see_their_own_and_the_service_sees_who_is_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            node(tmp_path, "service", "service") as service,
            node(tmp_path, "down", "downlink") as down,
            node(tmp_path, "up", "uplink") as up,
            split([*down.addresses, *up.addresses], "old") as old,
            split([*down.addresses, *up.addresses], "new", accepts=["3", "2"]) as new,
        ):
            await until(lambda: old.state is State.OPEN and new.state is State.OPEN)
            await old.send("note", b"hello")
            assert [message.body for message in await first(old, 1)] == [b"hello"]
            assert [message.body for message in await first(new, 1)] == [b"new hello"]
            on = {(each.device, each.node, each.way, each.client) for each in await service.service.online("alice")}
            assert on == {
                ("old", "down", "down", "imcore-python"),
                ("new", "down", "down", "imcore-python"),
                ("old", "up", "up", "imcore-python"),
            }

    run(main())


class Forgetful:
    """Passes bytes to a gateway. What was connected before it `forgets` is dead from then on, and nobody is told, as
    behind an address translation that dropped it."""

    def __init__(self, to: str) -> None:
        self._to = to
        self._age = 0
        self.connections = 0

    def forget(self) -> None:
        self._age += 1

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        there, back = await asyncio.open_connection(*self._to.rsplit(":", 1))
        with contextlib.closing(back):
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        age = self._age
        while data := await reader.read(65536):
            if age == self._age:
                writer.write(data)
        if age == self._age:
            writer.close()


@pytest.mark.parametrize("scheme", ["tcp", "tls", "http", "https"])
def test_short_links_of_every_kind_at_a_node_that_only_takes_what_goes_up(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opened when there is something to send, closed when idle; one that is dead without a sign costs a resend."""
    for module, name, seconds in (
        (heartbeat, "OVERDUE_S", 0.3), (heartbeat, "PATIENCE_S", 0.3),
        (exchange, "STALE_IDLE_S", 0.0), (exchange, "STALE_S", 0.5),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, seconds)
    files, trust = self_signed(tmp_path)
    tls = files if scheme in ("tls", "https") else None

    async def main() -> None:
        async with (
            asyncio.timeout(30),
            node(tmp_path, "service", "service"),
            node(tmp_path, "down", "downlink") as down,
            node(tmp_path, "up", "uplink", tls, idle_s=1) as up,
            listening((network := Forgetful(*up.addresses)).talk, "127.0.0.1", 0) as port,
        ):
            states: list[State] = []
            async with split(
                [*down.addresses, f"{scheme}://127.0.0.1:{port}"],
                "phone",
                tls=trust,
                on_state=lambda state, _: states.append(state),
            ) as phone:
                await until(lambda: phone.state is State.OPEN)
                assert (phone.up_state, network.connections) == (State.IDLE, 0)
                said = [b"%d" % number for number in range(20)]
                await asyncio.gather(*(phone.send("note", body) for body in said))
                assert [message.body for message in await first(phone, 20)] == said
                before = network.connections
                network.forget()
                await phone.send("note", b"again")
                assert [message.body for message in await first(phone, 1)] == [b"again"]
                assert network.connections == before + 1
                await until(lambda: phone.up_state is State.IDLE)
                await phone.send("note", b"anew")
                assert [message.body for message in await first(phone, 1)] == [b"anew"]
                assert states == [State.CONNECTING, State.OPEN]

    run(main())
