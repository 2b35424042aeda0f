"""Too much to do: those who are on it come first. Rooms are thinned, then new links are refused for a while, those up
and those down apart, and inbox messages are never lost."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from imcore.errors import Unauthorized
from imcore.gateway import pulse
from imcore.gateway.limits import Limits
from tests.gateway.running import run, running, until
from tests.gateway.wire import ACK, ERROR, FAILED, JOIN, MSG, ROOM, WELCOME, Wire, frame, hello


def test_beyond_its_links_a_node_refuses_new_ones_with_a_time_to_come_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, limits=Limits(links=2, drain_s=0.1)) as here:
            async with Wire(here.address) as one, Wire(here.address) as two, Wire(here.address) as three:
                await one.greet("alice")
                await two.greet("bob")
                three.say(hello("carol"))
                answer = await three.hear()
                assert (answer.type, answer.map["code"]) == (ERROR, "overloaded")
                assert 1000 <= answer.map["retry_ms"] <= 5000
                await here.service.push("bob", "chat", b"still")
                assert (await two.hear()).body == b"still"
            await until(lambda: here.gateway.users == 0)
            async with Wire(here.address) as three:
                await three.greet("carol")

    run(main())


def test_a_user_has_a_bounded_number_of_links_and_a_device_that_comes_again_makes_room_for_itself(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with running(tmp_path, limits=Limits(user_links=2, drain_s=0.1)) as here, AsyncExitStack() as links:
            phone, tablet, again, watch, bob, back = [
                await links.enter_async_context(Wire(here.address)) for _ in range(6)
            ]
            await phone.greet("alice", device="phone")
            await tablet.greet("alice", device="tablet", role="down")
            watch.say(hello("alice", device="watch", role="up"))
            answer = await watch.hear()
            assert (answer.type, answer.map["code"], answer.map["retry_ms"]) == (ERROR, "rate_limited", 60_000)
            await bob.greet("bob")
            await again.greet("alice", device="phone")
            assert (await phone.hear()).map["code"] == "superseded"
            tablet.writer.transport.abort()
            await until(lambda: here.gateway.counters.links == 2)
            await back.greet("alice", device="watch", role="up")

    run(main())


def test_a_node_that_is_late_with_its_work_takes_no_new_links_and_serves_those_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "BEAT_S", 3600)  # it says what the test says

    async def main() -> None:
        async with running(tmp_path) as here, Wire(here.address) as bob:
            await bob.greet("bob")
            here.gateway._pulse.late_s = 1.5
            async with Wire(here.address) as late:
                late.say(hello("carol"))
                answer = await late.hear()
                assert (answer.type, answer.map["code"]) == (ERROR, "overloaded")
                assert "1.5 s late" in answer.map["text"]
                assert answer.map["retry_ms"]
            await here.service.push("bob", "chat", b"still")
            assert (await bob.hear()).type == MSG
            here.gateway._pulse.late_s = 0.0
            async with Wire(here.address) as late:
                late.say(hello("carol"))
                assert (await late.hear()).type == WELCOME

    run(main())


def note(id: int, size: int = 1) -> bytes:
    return frame(MSG, id, "note", bytes(size))


def test_where_no_more_links_up_are_taken_links_down_are_and_messages_come_down_on_them(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, limits=Limits(up_links=1, drain_s=0.1)) as here:
            async with Wire(here.address) as one, Wire(here.address) as two, Wire(here.address) as bob:
                await one.greet("alice", role="up")
                two.say(hello("carol", role="up") + note(1))
                answer = await two.hear()
                assert (answer.type, answer.map["code"]) == (ERROR, "overloaded")
                assert "1 links up" in answer.map["text"]
                assert 1000 <= answer.map["retry_ms"] <= 5000
                await bob.greet("bob", role="down")
                await here.service.push("bob", "chat", b"hello")
                assert (await bob.hear()).body == b"hello"
            await until(lambda: here.gateway.admission.up_links == 0)
            async with Wire(here.address) as two:
                await two.greet("carol", role="up")
            assert here.seen == []

    run(main())


def test_where_no_more_links_down_are_taken_what_goes_up_is(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path, limits=Limits(links=1, drain_s=0.1)) as here,
            Wire(here.address) as one,
            Wire(here.address) as two,
            Wire(here.address) as up,
        ):
            await one.greet("alice", role="down")
            two.say(hello("bob", role="down"))
            assert (await two.hear()).map["code"] == "overloaded"
            up.say(hello("bob", role="up") + note(1))
            assert (await up.hear()).type == WELCOME
            assert ((answer := await up.hear()).type, answer.flags) == (ACK, 0)

    run(main())


def test_more_messages_than_may_come_in_a_second_are_refused_in_order_and_taken_later(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path, limits=Limits(up_rate=30, drain_s=0.1)) as here,
            Wire(here.address) as alice,
            Wire(here.address) as bob,
        ):
            await bob.greet("bob", role="down")
            await alice.greet("alice", role="up")
            alice.say(*(note(id) for id in range(1, 61)))
            answers = [await alice.hear() for _ in range(60)]
            assert [answer.id for answer in answers] == list(range(1, 61))
            taken = sum(not answer.flags & FAILED for answer in answers)
            assert 29 <= taken < 60  # one of the first thirty was the link's
            assert all(answer.flags & FAILED for answer in answers[taken:])
            assert answers[taken].map["code"] == "overloaded"
            assert answers[taken].map["retry_ms"]
            await here.service.push("bob", "chat", b"hello")
            assert (await bob.hear()).body == b"hello"
            next_id = taken + 1
            while next_id <= 60:  # the refused one first, again and again: each second has room for thirty
                alice.say(note(next_id))
                if (await alice.hear()).flags & FAILED:
                    await asyncio.sleep(0.02)
                else:
                    next_id += 1
            await until(lambda: len(here.seen) == 60)
            assert [message.id for message in here.seen] == list(range(1, 61))
            assert here.gateway.admission.waiting == 0

    run(main())


def test_more_than_may_wait_for_an_answer_is_refused_and_nothing_is_counted_twice(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, limits=Limits(up_waiting=5, drain_s=0.1)) as here, Wire(here.address) as alice:
            await alice.greet("alice")
            alice.say(*(note(id) for id in range(1, 21)), frame(MSG, 21, "@presence"))
            answers = [await alice.hear() for _ in range(21)]
            assert [answer.id for answer in answers] == list(range(1, 22))
            assert [answer.id for answer in answers if not answer.flags] == [1, 2, 3, 4, 5]
            alice.say(note(1), note(6))  # a repeat, and the one that was refused first
            assert [((answer := await alice.hear()).id, answer.flags) for _ in range(2)] == [(1, 0), (6, 0)]
            assert "5 messages and links wait" in answers[5].map["text"]
            assert here.gateway.admission.waiting == 0

    run(main())


def test_who_is_not_known_takes_nothing_of_what_those_who_are_may_send(tmp_path: Path) -> None:
    async def main() -> None:
        looked = asyncio.Event()

        async def authenticate(token: str) -> str:
            if token == "junk":
                await looked.wait()
                raise Unauthorized("nobody has this token")
            return token

        limits = Limits(up_rate=4, up_links=1, up_waiting=3, links=1, drain_s=0.1)
        async with running(tmp_path, limits=limits, authenticate=authenticate) as here, AsyncExitStack() as stack:
            crowd = [await stack.enter_async_context(Wire(here.address)) for _ in range(12)]
            for number, wire in enumerate(crowd):
                wire.say(hello("junk", role="up" if number % 2 else "down"))
            await until(lambda: here.gateway.hub.links == len(crowd))
            async with Wire(here.address) as alice, Wire(here.address) as bob:
                await bob.greet("bob", role="down")
                await alice.greet("alice", role="up")
                alice.say(note(1), note(2), note(3))
                assert [((answer := await alice.hear()).id, answer.flags) for _ in range(3)] == [(1, 0), (2, 0), (3, 0)]
            looked.set()
            for wire in crowd:
                assert (await wire.hear()).map["code"] == "unauthorized"
            admission = here.gateway.admission
            await until(lambda: (admission.links, admission.up_links, admission.waiting) == (0, 0, 0))

    run(main())


def test_a_message_behind_its_hello_is_taken_where_one_may_wait(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, limits=Limits(up_waiting=1, drain_s=0.1)) as here, Wire(here.address) as alice:
            alice.say(hello("alice", role="up") + note(1))
            assert (await alice.hear()).type == WELCOME
            assert ((answer := await alice.hear()).id, answer.flags) == (1, 0)

    run(main())


def test_what_is_refused_because_the_node_is_late_takes_nothing_of_what_may_come_in_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "BEAT_S", 3600)

    async def main() -> None:
        async with running(tmp_path, limits=Limits(up_rate=2, drain_s=0.1)) as here, Wire(here.address) as up:
            await up.greet("alice", role="up")
            here.gateway._pulse.late_s = 0.7
            for _ in range(10):
                up.say(note(1))
                assert "0.7 s late" in (await up.hear()).map["text"]
            here.gateway._pulse.late_s = 0.0
            up.say(note(1))
            assert (await up.hear()).flags == 0

    run(main())


def test_more_bytes_than_may_wait_for_an_answer_are_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path, limits=Limits(max_frame=4096, up_bytes=10_000, drain_s=0.1)) as here,
            Wire(here.address) as alice,
        ):
            await alice.greet("alice")
            alice.say(*(note(id, 4000) for id in range(1, 6)))
            answers = [await alice.hear() for _ in range(5)]
            assert [(answer.id, answer.flags) for answer in answers] == [
                (1, 0), (2, 0), (3, FAILED), (4, FAILED), (5, FAILED),
            ]  # fmt: skip
            assert answers[2].map["text"] == "12000 bytes of messages wait for this node's answer"
            alice.say(note(3, 4000))
            assert (await alice.hear()).flags == 0
            assert (here.gateway.admission.waiting, here.gateway.admission.size) == (0, 0)

    run(main())


async def refused(address: str, user: str, role: str, code: str) -> None:
    """A HELLO that ends with this."""
    async with Wire(address) as link:
        link.say(hello(user, role=role))
        assert (await link.hear()).map["code"] == code


def test_what_a_node_has_and_has_refused_is_told_to_whoever_runs_it(tmp_path: Path) -> None:
    async def main() -> None:
        limits = Limits(links=1, up_links=1, rooms_per_link=1, publish="none", drain_s=0.1)
        async with running(tmp_path, limits=limits) as here, Wire(here.address) as alice, Wire(here.address) as dave:
            await alice.greet("alice")
            alice.say(frame(JOIN, 1, "hall"), frame(JOIN, 2, "yard"), frame(MSG, 3, "hall", b"x", ROOM))
            alice.say(note(1), frame(MSG, 2, "nobody", b"x"), note(3), note(2))
            for _ in range(7):
                await alice.hear()
            await dave.greet("dave", role="up")
            await refused(here.address, "bob", "down", "overloaded")
            await refused(here.address, "carol", "up", "overloaded")
            await refused(here.address, "", "down", "overloaded")  # nobody asked yet whose it is
            await here.service.broadcast("hall", b"to alice")
            assert (await alice.hear()).body == b"to alice"
            await until(lambda: here.gateway.counters.connections == 2)
            told = here.gateway.counters
            assert (told.links, told.up_links, told.users, told.rooms, told.http) == (1, 1, 2, 1, 0)
            assert (told.up_waiting, told.up_bytes) == (0, 0)
            assert (told.refused_links, told.refused_up_links) == (2, 1)
            assert told.refused == {"rate_limited": 1, "unauthorized": 1, "no_route": 1, "overloaded": 1}
            assert told.errors == {"overloaded": 3}
            assert (told.relayed, told.dropped, told.not_relayed) == (1, 0, 0)
            assert told.frames_in >= 12
            assert told.bytes_out > told.frames_out >= 13

    run(main())


def test_numbers_given_up_are_messages_to_a_node_that_counts(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, limits=Limits(up_rate=20, drain_s=0.1)) as here, Wire(here.address) as alice:
            await alice.greet("alice", role="up")
            alice.say(*(frame(MSG, id, flags=FAILED) for id in range(1, 61)))
            answers = [await alice.hear() for _ in range(60)]
            taken = sum(not answer.flags & FAILED for answer in answers)
            assert 19 <= taken < 60
            assert all(answer.flags & FAILED for answer in answers[taken:])
            assert answers[taken].map["code"] == "overloaded"
            assert answers[taken].map["retry_ms"]

    run(main())


def test_a_node_that_is_late_confirms_what_it_has_on_its_way_and_what_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "BEAT_S", 3600)

    async def main() -> None:
        async with running(tmp_path) as here, Wire(here.address) as up:
            await up.greet("alice", role="up")
            up.say(note(5))
            assert (await up.hear()).id == 5
            [link] = here.gateway.links("alice")
            assert link.up is not None
            link.up.accepted = 4  # what WELCOME says while 5 is still on its way
            here.gateway._pulse.late_s = 0.7
            up.say(note(5), note(6))
            assert [((answer := await up.hear()).id, answer.flags) for _ in range(2)] == [(5, 0), (6, FAILED)]

    run(main())


def test_a_node_that_is_late_refuses_what_goes_up_before_it_refuses_who_hears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "BEAT_S", 3600)

    async def main() -> None:
        async with running(tmp_path) as here, Wire(here.address) as up:
            await up.greet("alice", role="up")
            here.gateway._pulse.late_s = 0.7
            up.say(note(1))
            answer = await up.hear()
            assert (answer.flags, answer.map["code"]) == (FAILED, "overloaded")
            assert answer.map["retry_ms"]
            async with Wire(here.address) as other, Wire(here.address) as down:
                other.say(hello("bob", role="up"))
                assert (await other.hear()).map["code"] == "overloaded"
                await down.greet("bob", role="down")
            here.gateway._pulse.late_s = 0.0
            up.say(note(1))
            assert (await up.hear()).flags == 0

    run(main())


FLOOD = """
import asyncio, sys
async def one(host, port, segment):
    while True:
        try:
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(segment)
            await reader.read(4096)
            writer.transport.abort()
        except OSError:
            await asyncio.sleep(0.01)
async def main(host, port, segments):
    print("flooding", flush=True)
    await asyncio.gather(*(one(host, port, bytes.fromhex(segment)) for segment in segments))
asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.stdin.read().split()))
"""


def test_a_flood_of_links_and_messages_up_does_not_touch_those_who_receive(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, limits=Limits(up_rate=50, up_links=20, drain_s=0.1)) as here:
            host, _, port = here.address.rpartition(":")
            segments = [hello(f"eve {n}", role="up") + note(n + 1) * 20 for n in range(50)]
            flood = await asyncio.create_subprocess_exec(
                sys.executable, "-c", FLOOD, host, port, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )
            assert flood.stdin is not None
            assert flood.stdout is not None
            flood.stdin.write("\n".join(segment.hex() for segment in segments).encode())
            flood.stdin.close()
            try:
                async with Wire(here.address) as bob:
                    await bob.greet("bob", role="down")
                    await flood.stdout.readline()
                    await until(lambda: here.gateway.counters.refused_up_links > 200, 20)
                    refused, waited = here.gateway.counters.refused_up_links, []
                    for number in range(50):
                        began = asyncio.get_running_loop().time()
                        await here.service.push("bob", "chat", b"%d" % number)
                        assert (await bob.hear()).body == b"%d" % number
                        waited.append(asyncio.get_running_loop().time() - began)
                        if number % 10 == 0:
                            async with Wire(here.address) as newcomer:
                                await newcomer.greet(f"newcomer {number}", role="down")
                    assert here.gateway.counters.refused_up_links > refused, "the flood was over"
                    assert flood.returncode is None
                    assert sorted(waited)[len(waited) // 2] < 0.5
                assert here.gateway.counters.refused_links == 0
            finally:
                flood.kill()
                await flood.wait()

    run(main())


def test_rooms_are_thinned_before_anything_of_an_inbox_is_lost(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path, limits=Limits(window_bytes=16_384, drain_s=0.1)) as here,
            Wire(here.address) as slow,
            Wire(here.address) as fast,
        ):
            await slow.greet("slow")
            slow.say(frame(JOIN, 1, "hall"))
            await slow.hear()
            slow.hold(True)
            await fast.greet("fast")
            fast.say(frame(JOIN, 1, "hall"))
            await fast.hear()
            said = 0
            while here.gateway.hub.dropped < 500:
                said += 1
                fast.say(frame(MSG, 0, "hall", said.to_bytes(4) + bytes(4000), ROOM))
                assert (await fast.hear()).body[:4] == said.to_bytes(4)
                if said % 20 == 0:
                    await here.service.push("slow", "chat", said.to_bytes(4))
            slow.hold(False)
            rooms, inbox = list[int](), list[int]()
            while rooms[-1:] != [said] or len(inbox) < said // 20:
                got = await slow.hear()
                number = int.from_bytes(got.body[:4])
                if got.flags & ROOM:
                    rooms.append(number)
                elif got.type == MSG:
                    inbox.append(number)
                    assert got.id == len(inbox)
                    slow.say(frame(ACK, got.id))
            assert inbox == list(range(20, said + 1, 20))
            assert rooms == sorted(set(rooms))
            assert len(rooms) == said - here.gateway.hub.dropped

    run(main())
