"""Any stream does to a link what it does to the model; and whatever owners and carriers do in between breaks nothing.

The first byte says whether links have sockets of their own, and how many deeds follow, of one byte each. The rest is
the stream, in chunks of a length byte and that many bytes, to three links in turn. At each call of an owner or carrier
the next deed is done to some link or room. Whole frames go out, whatever is done; without deeds, those of the model.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Callable
from typing import Any

import atheris

with atheris.instrument_imports(include=["tests.models.link", "tests.models.codec"]):
    from imcore._codec import ERROR, MSG, encode
    from imcore._hub import Hub
    from imcore._link import Link
    from imcore._room import Room
    from imcore.errors import FrameError
    from imcore.session import Phase, moves
    from tests.models import codec
    from tests.models.link import LinkModel

MOVES = moves(Phase.GATEWAY_BOTH)
LIMIT = 4096
SENT = 7


class Loop:
    """As much of an event loop as a hub asks for; it turns when it is told to."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []
        self.told: list[BaseException] = []
        self.ready: Callable[[], None] = lambda: None

    def add_reader(self, poller: int, callback: Callable[[], None]) -> None:
        self.ready = callback

    def remove_reader(self, poller: int) -> None:
        self.ready = lambda: None

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def call_later(self, delay: float, callback: Callable[[], None]) -> Loop:
        assert delay > 0
        return self

    def cancel(self) -> None:
        """A timer's: none of them ever fires."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.told.append(context["exception"])

    def turn(self) -> None:
        self.ready()
        soon, self.soon = self.soon, []
        for callback in soon:
            callback()


class Deed(Exception):
    """What an owner or a carrier raises."""


class Fuzzed(Link):
    """The owner of a link, and its carrier."""

    def __new__(cls, world: World) -> Fuzzed:
        return super().__new__(cls, world.hub, MOVES, LIMIT)

    def __init__(self, world: World) -> None:
        self.world = world
        self.calls: list[tuple[object, ...]] = []
        self.written = b""
        self.sent = SENT

    def on_frame(self, type: int, flags: int, id: int, route: str, body: bytes) -> None:
        self.calls.append(("frame", type, flags, id, route, body))
        self.world.deed(self)

    def on_fault(self, error: FrameError) -> None:
        self.calls.append(("fault", type(error), error.code, error.offset))
        self.world.deed(self)

    def on_taken(self) -> None:
        self.world.deed(self)

    def on_end(self, error: Exception | None) -> None:
        self.calls.append(("end", error))
        self.world.deed(self)

    def write(self, data: bytes) -> None:
        self.written += data
        self.world.deed(self)

    def pause(self, on: bool) -> None:
        self.world.deed(self)

    def end(self) -> None:
        self.world.deed(self)


class Carrier:
    """Hands on what the link tells it; apart from the link, whose `abort` is another one."""

    def __init__(self, link: Fuzzed) -> None:
        self.write, self.pause, self.end = link.write, link.pause, link.end
        self.link = link

    def abort(self) -> None:
        self.link.world.deed(self.link)


class World:
    """Three links, of which the first is in a room from the beginning. native: each on a socket, of which `peers` are
    the other ends."""

    def __init__(self, deeds: bytes, *, native: bool) -> None:
        self.peers: list[socket.socket] = []
        self.turning = False
        self.deeds = list(deeds[::-1])
        self.loop = Loop()
        self.hub = Hub(self.loop, native=native, window=8192)  # type: ignore[arg-type]  # a loop of the fuzzer's own
        self.rooms = [Room(self.hub, name) for name in ("r", "s")]
        self.links = [Fuzzed(self) for _ in range(3)]
        for link in self.links:
            if native:
                here, there = socket.socketpair()
                there.setblocking(False)
                self.peers.append(there)
                link.attach(here)
            else:
                link.carry(Carrier(link))
        self.rooms[0].join(self.links[0])

    def deed(self, link: Fuzzed) -> None:
        if not self.deeds:
            return
        deed = self.deeds.pop()
        room, other = self.rooms[deed >> 7], self.links[deed % 3] if deed & 64 else link
        match deed & 15:
            case 0:
                other.hold()
            case 1:
                other.proceed()
            case 2:
                other.close()
            case 3:
                other.abort()
            case 4:
                other.lost(None)
            case 5:
                other.send(ERROR, body=bytes(deed * 30))
            case 6:
                room.join(other)
            case 7:
                room.leave(other)
            case 8:
                room.publish(bytes(deed * 10))
            case 9:
                raise Deed
            case 10:
                other.block(deed & 32 != 0)
            case 11:
                other.expect(deed, renew=deed & 32 != 0)
            case 12:
                self.feed(other, encode(MSG, 1, "r", flags=2) + b"\xa1\x05")
            case 13:
                other.deliver(SENT + 1, "r", bytes(100))
            case 14:
                self.turn()
            case 15:
                if deed == 255:
                    self.hub.close()
                elif self.peers:
                    self.peers[self.links.index(other)].close()

    def turn(self) -> None:
        if not self.turning:  # a loop's callbacks can't turn it
            self.turning = True
            self.loop.turn()
            self.turning = False

    def feed(self, link: Fuzzed, data: bytes) -> None:
        if self.peers:
            with contextlib.suppress(OSError):
                self.peers[self.links.index(link)].send(data)
            return
        try:
            link.feed(data)
        except RuntimeError:
            return  # from within one of its own callbacks

    def read(self) -> None:
        """What has come to the peers."""
        for link, peer in zip(self.links, self.peers, strict=False):
            with contextlib.suppress(OSError):
                link.written += peer.recv(1 << 20)

    def check(self) -> None:
        for link in self.links:
            assert [call[0] for call in link.calls].count("end") == (not link.open)
            assert link.room_count == sum(room.holds(link) for room in self.rooms)
            assert codec.decode(link.written, 1 << 24).error is None
        for room in self.rooms:
            assert len(room) == sum(room.holds(link) for link in self.links)
        assert self.hub.links == sum(link.open for link in self.links)
        assert all(isinstance(error, Deed) for error in self.loop.told), self.loop.told


def target(data: bytes) -> None:
    count = data[0] & 127 if data else 0
    deeds, rest = data[1 : 1 + count], data[1 + count :]
    world = World(deeds, native=bool(data) and data[0] > 127)
    model = LinkModel(MOVES, LIMIT, sent=SENT, room="r")
    turn = 0
    while rest:
        chunk, rest = rest[1 : 1 + rest[0]], rest[1 + rest[0] :]
        world.feed(world.links[turn % 3 if deeds else 0], chunk)
        model.feed(chunk)
        world.turn()
        world.read()
        world.check()
        turn += 1
    if not deeds:
        link = world.links[0]
        assert link.calls == model.calls
        if not model.over:
            assert link.taken == model.taken
            written = codec.decode(link.written, 1 << 24)
            heard = b"".join(
                codec.encode(frame.type, frame.id, frame.route, frame.body, frame.flags)
                for frame in written.frames
                if frame.type == MSG
            )
            assert heard == model.heard
            assert len(link.written) == len(model.heard) + len(model.answers)
    world.hub.close()
    world.check()
    for peer in world.peers:
        peer.close()


if __name__ == "__main__":
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
