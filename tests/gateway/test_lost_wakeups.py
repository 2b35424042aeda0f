"""A wake-up is only a hint: when it is lost, the next heartbeat brings what it was about, from the inbox."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from imcore.bus.embedded import fold
from imcore.bus.ports import Wake
from imcore.client import Client
from imcore.gateway.limits import Limits
from imcore.gateway.link import ServerLink
from tests.gateway.running import Running, run, running, until
from tests.gateway.wire import ACK, MSG, PING, PONG, Got, Wire, frame


class Wakes:
    """What the engine says to the gateway: passes, or does not."""

    def __init__(self, here: Running) -> None:
        self.lost: list[Wake] = []
        self.losing = False
        self.hand = here.gateway._wake
        here.bus.push.attach("test", self, here.gateway.rooms.broadcast)

    def __call__(self, wakes: Sequence[Wake]) -> None:
        if self.losing:
            self.lost += wakes
        else:
            self.hand(wakes)


async def hears(wire: Wire, *expected: tuple[Any, ...]) -> None:
    got: list[Got] = [await wire.hear() for _ in expected]
    shown = [(each.type, each.id, each.body) for each in got]
    assert shown == list(expected)


def number(value: int) -> bytes:
    return struct.pack(">Q", value)


@pytest.mark.parametrize("native", [True, False])
class TestAHeartbeat:
    def test_brings_what_a_lost_wake_up_was_about(self, tmp_path: Path, native: bool) -> None:
        async def main() -> None:
            async with running(tmp_path, native=native) as here, Wire(here.address) as wire:
                await wire.greet()
                wakes = Wakes(here)
                wakes.losing = True
                await here.service.push("alice", "chat", b"one")
                await here.service.push("alice", "chat", b"two")
                assert len(wakes.lost) == 2
                wire.say(frame(PING, 7))
                await hears(wire, (PONG, 7, number(2)), (MSG, 1, b"one"), (MSG, 2, b"two"))

        run(main())

    def test_brings_it_when_the_engine_has_put_the_user_away(
        self, tmp_path: Path, native: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fold, "PASS_S", 0.05)

        async def main() -> None:
            async with running(tmp_path, native=native) as here, Wire(here.address) as wire:
                await wire.greet()
                wakes = Wakes(here)
                wakes.losing = True
                await here.service.push("alice", "chat", b"one")
                core = here.bus._started

                def away() -> bool:
                    core.users.sweep(10)
                    return "alice" not in core.users

                await until(away, 20)
                wire.say(frame(PING, 7))
                await hears(wire, (PONG, 7, number(0)), (MSG, 1, b"one"))
                await until(away, 20)
                wire.say(frame(ACK, 1), frame(PING, 8))
                await hears(wire, (PONG, 8, number(1)))

        run(main())

    def test_keeps_to_the_window(self, tmp_path: Path, native: bool) -> None:
        async def main() -> None:
            limits = Limits(window=2, drain_s=0)
            async with running(tmp_path, native=native, limits=limits) as here, Wire(here.address) as wire:
                await wire.greet()
                wakes = Wakes(here)
                wakes.losing = True
                for i in range(5):
                    await here.service.push("alice", "chat", b"%d" % i)
                wire.say(frame(PING, 1))
                await hears(wire, (PONG, 1, number(5)), (MSG, 1, b"0"), (MSG, 2, b"1"))
                wire.say(frame(PING, 2), frame(ACK, 2))
                await hears(wire, (PONG, 2, number(5)), (MSG, 3, b"2"), (MSG, 4, b"3"))

        run(main())


def test_one_that_comes_after_a_lost_one_brings_both(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as here, Wire(here.address) as wire:
            await wire.greet()
            wakes = Wakes(here)
            wakes.losing = True
            await here.service.push("alice", "chat", b"one")
            wakes.losing = False
            await here.service.push("alice", "chat", b"two")
            await hears(wire, (MSG, 1, b"one"), (MSG, 2, b"two"))

    run(main())


def test_doubled_and_reordered_ones_do_no_harm(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as here, Wire(here.address) as wire:
            await wire.greet()
            wakes = Wakes(here)
            wakes.losing = True
            for body in (b"1", b"2", b"3"):
                await here.service.push("alice", "chat", body)
            one, two, three = wakes.lost
            wakes.hand([three, one, one, three, two])
            wire.say(frame(PING, 9))
            got = [await wire.hear() for _ in range(4)]
            assert [each.id for each in got if each.type == MSG] == [1, 2, 3]

    run(main())


def test_a_client_has_it_within_a_heartbeat(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, limits=Limits(heartbeat=(1, 1), drain_s=0)) as here:
            wakes = Wakes(here)
            states: list[str] = []
            im = Client([here.address], "bob", "phone", on_state=lambda state, _: states.append(state.value))
            async with im:
                await until(lambda: im.welcome is not None)
                messages = aiter(im)
                asked = here.gateway.downlink.asked
                pings = 0

                def count(link: ServerLink) -> None:
                    nonlocal pings
                    pings += 1
                    asked(link)

                here.gateway.downlink.asked = count  # type: ignore[method-assign]  # it is counted
                for i in range(3):
                    wakes.losing = True
                    await here.service.push("bob", "chat", b"%d" % i)
                    wakes.losing = False
                    before = pings
                    async with asyncio.timeout(20):
                        message = await anext(messages)
                    assert (message.seq, message.body, message.gap) == (i + 1, b"%d" % i, None)
                    assert pings - before <= 2  # the one that brought it; another, if the machine is busy
                assert states == ["connecting", "open"]  # on one link: nothing had to break

    run(main())
