"""The link on one core, without a socket: what a frame costs from the bytes that came to the bytes to send.

A round is one read of 1,000 frames. `relay`: a message of 48 bytes for a room of so many members, whose carriers drop
what they are given. `answer`: PING to PONG. `hand`: `MSG` to a Python method. What sockets cost is measured from
another process, with the whole gateway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from imcore._codec import MSG, PING, ROOM, encode
from imcore._hub import Hub
from imcore._link import Link
from imcore._room import Room
from imcore.session import Phase, moves

COUNT = 1000
MOVES = moves(Phase.GATEWAY_BOTH)


class Sink:
    """A carrier that takes everything."""

    def write(self, data: bytes) -> None:
        """It is gone."""

    def pause(self, on: bool) -> None:
        """There is nothing to pause."""

    end = abort = lambda self: None


class Counting(Link):
    """Counts what it is handed."""

    handed = 0

    def on_frame(self, type: int, flags: int, id: int, route: str, body: bytes) -> None:
        self.handed += 1


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    with asyncio.Runner() as runner:
        yield runner.get_loop()


def carried(hub: Hub) -> Counting:
    link = Counting(hub, MOVES, 65536)
    link.carry(Sink())
    return link


@pytest.mark.benchmark(group="1,000 frames through a link")
class TestAReadOf1000Frames:
    def round(self, benchmark: BenchmarkFixture, loop: asyncio.AbstractEventLoop, link: Link, frame: bytes) -> None:
        async def turn() -> None:
            link.feed(read)
            await asyncio.sleep(0)

        read = frame * COUNT
        benchmark(lambda: loop.run_until_complete(turn()))
        assert link.hub.frames_in % COUNT == 0
        assert link.hub.dropped == 0

    @pytest.mark.parametrize("members", [1, 100])
    def test_relay(self, benchmark: BenchmarkFixture, loop: asyncio.AbstractEventLoop, members: int) -> None:
        hub = Hub(loop, window=1 << 20)
        room, links = Room(hub, "room"), [carried(hub) for _ in range(members)]
        for link in links:
            room.join(link)
        self.round(benchmark, loop, links[0], encode(MSG, 0, "room", bytes(48), ROOM))
        hub.close()

    def test_answer(self, benchmark: BenchmarkFixture, loop: asyncio.AbstractEventLoop) -> None:
        hub = Hub(loop)
        self.round(benchmark, loop, carried(hub), encode(PING, 1))
        hub.close()

    def test_hand(self, benchmark: BenchmarkFixture, loop: asyncio.AbstractEventLoop) -> None:
        hub = Hub(loop)
        link = carried(hub)
        self.round(benchmark, loop, link, encode(MSG, 1, "chat", bytes(48)))
        assert link.handed
        hub.close()
