"""A member that can't keep up: the oldest of what rooms said makes room for the newest, and nothing else is touched."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from imcore._codec import ACK, MSG, ROOM, encode
from imcore._room import Room
from tests.links import Fake, Recorder, hubs, join, pair, run, settle, turns
from tests.models import codec
from tests.models.thinning import ThinningModel


@given(st.lists(st.tuples(st.sampled_from(["room", "other room", "inbox", "ack"]), st.integers(0, 1500))))
def test_what_waits_is_what_the_model_says_whatever_came(steps: list[tuple[str, int]]) -> None:
    async def main() -> None:
        async with hubs(window=4000) as hub:
            model, fake, link = ThinningModel(4000), Fake(), Recorder(hub)
            rooms = {name: Room(hub, name) for name in ("room", "other room")}
            link.carry(fake)
            for room in rooms.values():
                room.join(link)
            link.block(True)
            for number, (what, size) in enumerate(steps, 1):
                body = number.to_bytes(2) + bytes(size)
                if what in rooms:
                    rooms[what].publish(body)
                    model.of_a_room(encode(MSG, 0, what, body, ROOM))
                elif what == "inbox":
                    link.deliver(number, "chat", body)
                    model.own(encode(MSG, number, "chat", body))
                else:
                    link.confirm(number)
                    model.own(encode(ACK, number))
                assert link.queued == model.size
                assert hub.dropped == model.dropped
            link.block(False)
            await turns()
            assert b"".join(fake.written) == b"".join(frame for _, frame in model.waiting)

    run(main())


def test_over_a_socket_frames_stay_whole_the_newest_come_and_inbox_and_answers_are_all_there() -> None:
    async def main() -> None:
        async with hubs(window=50_000) as hub:
            room, link = Room(hub, "r"), Recorder(hub)
            peer = await join(link, "descriptor", lambda: pair(8192))
            room.join(link)
            for number in range(1, 2001):
                room.publish(number.to_bytes(2) + bytes(number % 3000))
                if number % 100 == 0:
                    link.deliver(number, "chat", b"inbox")
                    link.confirm(number)
                await turns(1)
                assert link.queued <= 50_000 + 100 * 16
            assert hub.dropped > 1000
            await settle(lambda: len(peer.read()) and not link.queued)
            await settle(lambda: len(codec.decode(peer.read(), 65536).frames) == 2000 - hub.dropped + 40)
            found = codec.decode(peer.read(), 65536)
            assert found.error is None
            said = [int.from_bytes(frame.body[:2]) for frame in found.frames if frame.flags & ROOM]
            assert said == sorted(set(said))
            assert said[-10:] == list(range(1991, 2001)), "the newest"
            for type in (MSG, ACK):
                own = [frame.id for frame in found.frames if frame.type == type and not frame.flags & ROOM]
                assert own == list(range(100, 2001, 100))

    run(main())


def test_of_a_batch_each_message_is_counted() -> None:
    async def main() -> None:
        async with hubs(window=4000) as hub:
            room, speaker, link, fake = Room(hub, "r"), Recorder(hub), Recorder(hub), Fake()
            link.carry(fake)
            room.join(link)
            link.block(True)
            speaks = await join(speaker, "descriptor")
            room.join(speaker)
            for part in range(4):  # what comes in one turn is one batch
                await speaks.send(encode(MSG, 0, "r", bytes([part]) * 100, ROOM) * 15)
                await turns()
            assert hub.dropped == 30
            link.block(False)
            await turns()
            bodies = [frame.body[0] for frame in codec.decode(b"".join(fake.written), 65536).frames]
            assert bodies == [2] * 15 + [3] * 15

    run(main())
