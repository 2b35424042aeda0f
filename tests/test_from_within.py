"""Whoever runs in the middle of a turn, a callback, a carrier or what the collector wakes, may end and move any link.

No byte goes twice, nobody is told what is not his, and no memory is used that is gone.
"""

from __future__ import annotations

import gc
import socket
import struct
from collections.abc import Callable

import pytest

from imcore._codec import MSG, ROOM, encode
from imcore._room import Room

from .links import Fake, Recorder, hubs, pair, run, settle, turns


def said(name: str, body: bytes) -> bytes:
    return encode(MSG, 0, name, body, ROOM)


def reset(sock: socket.socket) -> None:
    """Close it so that the other side's next send fails."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Emptied(Room):
    """A room whose last member's leave does something else too."""

    deed: Callable[[], object] = staticmethod(lambda: None)

    def on_empty(self) -> None:
        self.deed()


class Acting(Fake):
    """A carrier whose `write` does something else too."""

    deed: Callable[[], object] = staticmethod(lambda: None)

    def write(self, data: bytes) -> None:
        super().write(data)
        self.deed()


class TestABrokenLinksEnd:
    def test_that_speaks_in_a_room_sends_nobody_the_same_bytes_twice(self) -> None:
        async def main() -> None:
            async with hubs(window=64 * 1024) as hub:
                room = Room(hub, "r")
                (here, gone), (near, far) = pair(), socket.socketpair()
                broken, member = Recorder(hub), Recorder(hub)
                broken.attach(here)
                member.attach(near)
                room.join(member)
                broken.react = lambda call: room.publish(b"b" * 20_000)
                broken.send(MSG)
                reset(gone)
                room.publish(b"a" * 60_000)  # both go out in one flush, and the broken one's end is told in between
                with far:
                    far.setblocking(False)
                    await settle(lambda: broken.calls)
                    await turns()
                    assert far.recv(1 << 20) == said("r", b"a" * 60_000) + said("r", b"b" * 20_000)

        run(main())


class TestARoomThatEmpties:
    def test_may_have_others_leave_the_rooms_that_are_left_at_the_same_time(self) -> None:
        async def main() -> None:
            async with hubs(native=False) as hub:
                first, second = Emptied(hub, "first"), Room(hub, "second")
                leaving, other, staying = (Recorder(hub) for _ in range(3))
                heard = {link: Fake() for link in (leaving, other, staying)}
                for link, carrier in heard.items():
                    link.carry(carrier)
                first.join(leaving)
                for link in (other, staying, leaving):
                    second.join(link)
                first.deed = lambda: second.leave(other)
                leaving.abort()
                assert (len(first), len(second), second.holds(staying)) == (0, 1, True)
                second.publish(b"x")
                await turns()
                assert {link: carrier.written for link, carrier in heard.items()} == {
                    leaving: [],
                    other: [],
                    staying: [said("second", b"x")],
                }

        run(main())


Deed = Callable[[Room, Recorder], object]


class TestALinkThatComesOrGoes:
    """First the room hands out what was said before, and a carrier that takes what waits for it does something else."""

    def changed(self, change: Callable[[Room, Recorder], bool], meanwhile: Deed, *, member: bool) -> bool:
        """What `change` says of a link, while a carrier does `meanwhile`. Room and link agree on who is in then."""

        async def main() -> bool:
            async with hubs(native=False, window=8192) as hub:
                room, carrier = Room(hub, "r"), Acting()
                full, speaker, link = links = [Recorder(hub) for _ in range(3)]
                for each in links:
                    each.carry(carrier if each is full else Fake())
                    if each is not link or member:
                        room.join(each)
                found: list[bool] = []
                carrier.deed = lambda: meanwhile(room, link)
                speaker.react = lambda call: found.append(change(room, link)) if call[0] == "fault" else None
                room.publish(bytes(8000))
                speaker.feed(said("r", bytes(1000)) + b"no frame")
                assert link.room_count == room.holds(link)
                assert len(room) == sum(map(room.holds, links))
                return found[0]

        return run(main())

    def test_may_end_meanwhile(self) -> None:
        def end(room: Room, link: Recorder) -> None:
            link.abort()

        assert not self.changed(Room.join, end, member=False)
        assert not self.changed(Room.leave, end, member=True)

    def test_may_have_come_or_gone_meanwhile(self) -> None:
        assert not self.changed(Room.join, Room.join, member=False)
        assert not self.changed(Room.leave, Room.leave, member=True)


class Garbage:
    """What only the collector finds; its end does something else too."""

    def __init__(self, deed: Callable[[], object]) -> None:
        self.deed, self.itself = deed, self

    def __del__(self) -> None:
        self.deed()


class TestTheCollector:
    def left(self, containers: int) -> list[Recorder]:
        """The links of a room when something was said in it, and the collector came at that container from now on and
        ended them all."""

        async def main() -> list[Recorder]:
            async with hubs(native=False, window=8192) as hub:
                room, links = Room(hub, "r"), [Recorder(hub) for _ in range(5)]
                for link in links:
                    link.carry(Fake())
                    room.join(link)
                room.publish(bytes(8000))
                used_up = [[] for _ in range(100)]  # type: ignore[var-annotated]  # what Python keeps of lists that are gone
                gc.collect()

                def end_all() -> None:
                    for link in links:
                        link.abort()

                Garbage(end_all)
                gc.set_threshold(gc.get_count()[0] + containers)
                room.publish(bytes(1000))
                await turns(2)
                assert len(used_up) == 100
                assert len(room) == sum(link.open for link in links)
                return links

        before = gc.get_threshold()
        try:
            return run(main())
        finally:
            gc.set_threshold(*before)

    @pytest.mark.parametrize("containers", range(12))
    def test_may_end_links_wherever_it_comes(self, containers: int) -> None:
        assert [link.queued for link in self.left(containers)] == [0] * 5
