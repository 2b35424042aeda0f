"""Rooms: who is in hears all of it, in order, encoded once; who can't keep up loses messages, which are counted."""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imcore._codec import ACK, DUP, LEAVE, MSG, ROOM, encode
from imcore._hub import Hub
from imcore._room import Room
from imcore.errors import EncodeError
from tests.links import (
    BOTH,
    Fake,
    Loops,
    Peer,
    Recorder,
    hubs,
    join,
    on_both_loops,
    on_each_carrier,
    run,
    settle,
    turns,
)
from tests.models import codec


def said(name: str, body: bytes, id: int = 0, flags: int = ROOM) -> bytes:
    return encode(MSG, id, name, body, flags)


def bodies(peer: Peer) -> list[bytes]:
    return [frame.body for frame in codec.decode(peer.read(), 1 << 24).frames if frame.type == MSG]


@on_each_carrier
class TestMembers:
    def test_hear_all_of_it_in_order_and_the_publisher_too(self, carrier: str) -> None:
        async def main() -> None:
            async with hubs() as hub:
                room = Room(hub, "lobby")
                links = [Recorder(hub) for _ in range(5)]
                peers = [await join(link, carrier) for link in links]
                for link in links[:4]:
                    assert room.join(link)
                assert len(room) == 4
                sizes = [0, 1, 100, 431, 448, 5000, 16383, 16384, 40_000, 65_000]
                for number, size in enumerate(sizes * 4):
                    await peers[number % 2].send(said("lobby", bytes([number]) * size))
                    await turns(2)
                want = [bytes([number]) * size for number, size in enumerate(sizes * 4)]
                for peer in peers[:4]:
                    await settle(lambda peer=peer: bodies(peer) == want)  # type: ignore[misc]  # mypy can't infer the default
                assert bodies(peers[4]) == []
                assert hub.relayed == len(want)
                assert hub.dropped == 0

        run(main())

    def test_hear_nothing_from_before_and_nothing_from_after(self, carrier: str) -> None:
        async def main() -> None:
            async with hubs() as hub:
                room = Room(hub, "r")
                speaker, guest = Recorder(hub), Recorder(hub)
                speaking, listening = await join(speaker, carrier), await join(guest, carrier)
                room.join(speaker)

                def react(call: tuple[object, ...]) -> None:
                    if call[0] == "frame":  # in the middle of a batch
                        (room.join if call[5] == b"in" else room.leave)(guest)

                speaker.react = react
                one, two, three = (said("r", body) for body in (b"1", b"2", b"3"))
                await speaking.send(one + encode(MSG, 1, body=b"in") + two + encode(MSG, 2, body=b"out") + three)
                await settle(lambda: bodies(speaking) == [b"1", b"2", b"3"])
                assert bodies(listening) == [b"2"]
                assert len(room) == 1
                assert guest.room_count == 0

        run(main())

    def test_hear_what_was_relayed_before_what_the_owner_says_next(self, carrier: str) -> None:
        async def main() -> None:
            async with hubs() as hub:
                room = Room(hub, "r")
                link, other = Recorder(hub), Recorder(hub)
                peer, listening = await join(link, carrier), await join(other, carrier)
                room.join(link)
                room.join(other)

                def react(call: tuple[object, ...]) -> None:
                    if call[0] == "frame":
                        other.send(MSG, 0, "", b"direct")
                        room.publish(b"published")
                        if call[3] == 2:
                            other.close()

                link.react = react
                await peer.send(said("r", b"1") + encode(MSG, 1) + said("r", b"2") + encode(MSG, 2) + said("r", b"3"))
                both = [b"direct", b"published"]
                await settle(lambda: bodies(listening) == [b"1", *both, b"2", *both])
                await settle(lambda: bodies(peer)[-1] == b"3")

        run(main())

    def test_a_request_is_answered_exactly_once_and_zero_not_at_all(self, carrier: str) -> None:
        async def main() -> None:
            async with hubs() as hub:
                link = Recorder(hub)
                peer = await join(link, carrier)
                Room(hub, "r").join(link)
                await peer.send(said("r", b"a", 7) + said("r", b"b") + said("r", b"c", 2**64 - 1, ROOM | DUP))
                await settle(lambda: len(bodies(peer)) == 3)
                acks = [frame.id for frame in codec.decode(peer.read(), 1 << 24).frames if frame.type == ACK]
                assert acks == [7, 2**64 - 1]
                heard = [frame for frame in codec.decode(peer.read(), 1 << 24).frames if frame.type == MSG]
                assert {(frame.id, frame.flags, frame.route) for frame in heard} == {(0, ROOM, "r")}
                assert link.calls == []

        run(main())


class TestWhoIsNotIn:
    def test_is_for_the_owner_to_decide(self) -> None:
        async def main() -> None:
            async with hubs() as hub:
                link, fake = Recorder(hub), Fake()
                link.carry(fake)
                Room(hub, "r").join(link)
                link.feed(said("other", b"x", 3) + said("rr", b"y") + said("", b"z"))
                assert link.calls == [
                    ("frame", MSG, ROOM, 3, "other", b"x"),
                    ("frame", MSG, ROOM, 0, "rr", b"y"),
                    ("frame", MSG, ROOM, 0, "", b"z"),
                ]
                await turns()
                assert fake.written == []

        run(main())

    @given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.sampled_from(["join", "leave", "end", "say"]))))
    def test_nobody_hears_what_is_not_theirs_whoever_comes_and_goes(self, steps: list[tuple[int, int, str]]) -> None:
        async def main() -> None:
            async with hubs() as hub:
                rooms = [Room(hub, f"room {number}") for number in range(4)]
                links, fakes = [Recorder(hub) for _ in range(6)], [Fake() for _ in range(6)]
                heard: list[list[bytes]] = [[] for _ in links]
                inside: list[set[int]] = [set() for _ in rooms]
                for link, fake in zip(links, fakes, strict=True):
                    link.carry(fake)
                for step, (who, where, what) in enumerate(steps):
                    link, room = links[who], rooms[where]
                    if what == "join":
                        assert room.join(link) == (link.open and who not in inside[where])
                        inside[where] |= {who} if link.open else set()
                    elif what == "leave":
                        assert room.leave(link) == (who in inside[where])
                        inside[where] -= {who}
                    elif what == "end":
                        link.close()
                        for there in inside:
                            there -= {who}
                    else:
                        body = str(step).encode()
                        room.publish(body)
                        for member in inside[where]:
                            heard[member].append(body)
                    assert [len(room) for room in rooms] == [len(there) for there in inside]
                    assert [room.holds(link) for room in rooms] == [who in there for there in inside]
                    assert link.room_count == sum(who in there for there in inside)
                await turns()
                for fake, want in zip(fakes, heard, strict=True):
                    frames = codec.decode(b"".join(fake.written), 1 << 24).frames
                    assert [frame.body for frame in frames] == want

        run(main())


class TestASlowMember:
    @on_each_carrier
    def test_loses_messages_that_are_counted_and_nobody_else_does(self, carrier: str) -> None:
        async def main() -> None:
            async with hubs(window=50_000) as hub:
                room = Room(hub, "r")
                slow, fast = Recorder(hub), Recorder(hub)
                slow_peer, fast_peer = await join(slow, carrier), await join(fast, carrier)
                room.join(slow)
                room.join(fast)
                if carrier == "fed":
                    slow.block(True)
                want = []
                for number in range(3000):
                    want.append(number.to_bytes(2) + bytes(4000))
                    room.publish(want[-1])
                    await turns(1)
                    if number % 8 == 0:
                        await settle(lambda: len(fast_peer.read()) == 4019 * len(want))
                    assert slow.queued <= 50_000 + 4019
                assert hub.dropped > 0
                await settle(lambda: bodies(fast_peer) == want)
                if carrier == "fed":
                    slow.block(False)
                kept = len(want) - hub.dropped
                await settle(lambda: len(bodies(slow_peer)) == kept)
                got = bodies(slow_peer)
                assert got == [body for body in want if body in set(got)]  # in order, none twice
                assert got[-1] == want[-1]
                assert slow.open

        run(main())

    def test_is_not_one_that_the_kernel_would_have_served_within_the_turn(self) -> None:
        async def main() -> None:
            async with hubs(window=10_000) as hub:
                room = Room(hub, "r")
                link = Recorder(hub)
                peer = await join(link, "descriptor")
                room.join(link)
                for number in range(100):
                    room.publish(bytes([number]) * 1000)
                await settle(lambda: len(bodies(peer)) == 100)
                assert hub.dropped == 0

        run(main())

    def test_is_not_one_whose_carrier_takes_what_waits(self) -> None:
        async def main() -> None:
            async with hubs(window=10_000) as hub:
                room = Room(hub, "r")
                links, fakes = [Recorder(hub) for _ in range(3)], [Fake() for _ in range(3)]
                for link, fake in zip(links, fakes, strict=True):
                    link.carry(fake)
                    room.join(link)
                links[1].block(True)
                want = [bytes([number]) * 1000 for number in range(100)]
                for body in want:
                    room.publish(body)  # all before the carriers' next turn
                await turns()
                for number in (0, 2):
                    assert b"".join(fakes[number].written) == b"".join(said("r", body) for body in want)
                assert hub.dropped == 100 - links[1].queued // len(said("r", want[0])) > 80

        run(main())

    def test_whose_carrier_fails_just_then_ends_and_harms_nobody(self) -> None:
        class Failing(Fake):
            def write(self, data: bytes) -> None:
                raise OSError("gone")

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
            async with hubs(window=10_000) as hub:
                room = Room(hub, "r")
                broken, whole, fake = Recorder(hub), Recorder(hub), Fake()
                broken.carry(Failing())
                whole.carry(fake)
                room.join(broken)
                room.join(whole)
                for _ in range(20):
                    room.publish(bytes(1000))
                await turns()
                assert broken.named("end") == [("end", OSError)]
                assert len(room) == 1
                assert b"".join(fake.written) == said("r", bytes(1000)) * 20

        run(main())

    @on_both_loops
    def test_is_not_one_on_a_transport_that_keeps_up(self, loops: Loops) -> None:
        """However much comes for the room in one turn."""

        async def main() -> None:
            async with hubs(window=64 * 1024) as hub:
                room = Room(hub, "r")
                member = Recorder(hub)
                peer = await join(member, "transport")
                room.join(member)
                speakers = [Recorder(hub) for _ in range(12)]
                peers = [await join(speaker, "descriptor") for speaker in speakers]
                data = said("r", bytes(1000)) * 60
                for speaker, there in zip(speakers, peers, strict=True):
                    room.join(speaker)
                    assert there.sock is not None
                    there.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * len(data))
                    assert there.sock.send(data) == len(data)  # twelve windows wait before the first turn
                everyone = [peer, *peers]
                await settle(lambda: all(len(each.read()) == 12 * len(data) for each in everyone), 30)
                assert hub.dropped == 0

        run(main(), loops)

    def test_gets_a_message_that_is_bigger_than_its_window_if_nothing_else_waits(self) -> None:
        async def main() -> None:
            async with hubs(window=1000) as hub:
                room = Room(hub, "r")
                link, fake = Recorder(hub), Fake()
                link.carry(fake)
                link.block(True)
                room.join(link)
                room.publish(b"lost")
                room.publish(bytes(5000))
                link.block(False)
                await turns()
                assert b"".join(fake.written) == said("r", bytes(5000))
                assert hub.dropped == 1

        run(main())


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
class TestMemory:
    def test_a_big_frame_for_many_is_held_once(self) -> None:
        size = 8 << 20

        async def main() -> None:
            async with hubs(window=64 << 20) as hub:
                room = Room(hub, "r")
                speaker = Recorder(hub, BOTH, 1 << 24)
                peer = await join(speaker, "descriptor")
                room.join(speaker)
                members = [Recorder(hub) for _ in range(100)]
                for link in members:
                    link.carry(Fake())
                    link.block(True)
                    room.join(link)
                data = said("r", bytes(size))
                before = resident()
                await peer.send(data)
                await settle(lambda: all(link.queued == len(data) for link in members))
                assert resident() - before < 8 * size  # and not a hundred times

        run(main())

    def test_a_frame_that_is_only_promised_takes_no_memory(self) -> None:
        async def main() -> None:
            async with hubs() as hub:
                links = [Recorder(hub, BOTH, 1 << 24) for _ in range(500)]
                for link in links:
                    link.carry(Fake())
                    link.feed(encode(MSG, 1, body=bytes(1 << 24))[:100])
                before = resident()
                for link in links:
                    for _ in range(10):
                        link.feed(b"x" * 100)
                assert resident() - before < 500 * 16_384

        run(main())

    def test_a_link_that_is_forgotten_by_its_carrier_leaves_its_rooms(self) -> None:
        async def main() -> None:
            hub = Hub(asyncio.get_running_loop(), native=False)
            room = Room(hub, "r")
            link, fake = Recorder(hub), Fake()
            link.carry(fake)
            room.join(link)
            ref = weakref.ref(link)
            link.lost(None)
            del link
            gc.collect()
            assert ref() is None
            assert len(room) == 0
            room.publish(b"to nobody")
            hub.close()
            hub.close()

        run(main())


class TestARoom:
    def test_is_told_when_its_last_member_has_left_however_it_left(self) -> None:
        class Told(Room):
            empty = 0

            def on_empty(self) -> None:
                self.empty += 1
                if self.name == "raises":
                    raise ValueError

        async def main() -> None:
            told: list[object] = []
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["exception"]))
            async with hubs() as hub:
                for name in ("fine", "raises"):
                    room = Told(hub, name)
                    links = [Recorder(hub) for _ in range(3)]
                    for link in links:
                        link.carry(Fake())
                    for end in (room.leave, Recorder.close, Recorder.abort):
                        link = links.pop()
                        room.join(link)
                        end(link)
                    assert room.empty == 3
                assert [type(error) for error in told] == [ValueError] * 3

        run(main())

    def test_has_a_name_that_the_wire_allows_and_messages_that_fit(self) -> None:
        async def main() -> None:
            async with hubs() as hub, hubs() as elsewhere:
                for name in ("", "x" * 256, "\ud800"):
                    with pytest.raises(EncodeError):
                        Room(hub, name)
                room = Room(hub, "ß" * 127)
                assert room.name == "ß" * 127
                with pytest.raises(EncodeError):
                    room.publish(bytes((1 << 24) - 253))
                room.publish(bytes((1 << 24) - 254))
                stranger = Recorder(elsewhere)
                stranger.carry(Fake())
                with pytest.raises(ValueError, match="own hub"):
                    room.join(stranger)
                assert not room.join(Recorder(hub))  # it has no carrier yet

        run(main())

    def test_a_leave_frame_is_the_owners(self) -> None:
        async def main() -> None:
            async with hubs() as hub:
                link = Recorder(hub)
                link.carry(Fake())
                room = Room(hub, "r")
                room.join(link)
                link.feed(encode(LEAVE, 1, "r"))
                assert link.calls == [("frame", LEAVE, 0, 1, "r", b"")]
                assert room.holds(link)

        run(main())
