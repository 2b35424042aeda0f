"""A turn is short, however much there is to do: what is left waits for the next, and a heartbeat's answer does not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable

from imcore._codec import MSG, PING, PONG, ROOM, encode
from imcore._room import Room
from tests.links import Fake, Loops, Recorder, hubs, join, on_both_loops, pair, run, settle, turns

MESSAGE = encode(MSG, 0, "r", b"x", ROOM)


def work(seconds: float) -> None:
    """Keep the loop busy."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


class Slow(Fake):
    """A carrier whose calls take long enough for a turn to end behind a few dozen of them."""

    def write(self, data: bytes) -> None:
        work(0.0001)
        super().write(data)


@on_both_loops
class TestSending:
    def test_a_heartbeat_is_answered_before_a_fan_out_is_finished(self, loops: Loops) -> None:
        async def main() -> None:
            async with hubs() as hub:
                room = Room(hub, "r")
                members, carriers = [Recorder(hub) for _ in range(600)], [Slow() for _ in range(600)]
                for member, carrier in zip(members, carriers, strict=True):
                    member.carry(carrier)
                    room.join(member)
                other = Recorder(hub)
                peer = await join(other, "descriptor")
                room.publish(b"x")
                await turns(2)
                assert 0 < hub.behind < 600
                await peer.send(encode(PING, 7))
                members[-1].feed(encode(PING, 8))
                await settle(lambda: carriers[-1].written and peer.read())
                assert peer.read() == encode(PONG, 7)
                assert b"".join(carriers[-1].written) == MESSAGE + encode(PONG, 8)  # its own stream keeps its order
                assert hub.behind > 100
                await settle(lambda: hub.behind == 0)
                assert all(carrier.written == [MESSAGE] for carrier in carriers[:-1])
                assert len(carriers[-1].written) == 1

        run(main(), loops)

    def test_what_comes_meanwhile_goes_along_and_in_order(self, loops: Loops) -> None:
        async def main() -> None:
            async with hubs() as hub:
                room = Room(hub, "r")
                carriers = [Slow() for _ in range(300)]
                for carrier in carriers:
                    member = Recorder(hub)
                    member.carry(carrier)
                    room.join(member)
                want = b""
                for number in range(5):
                    body = b"%d" % number
                    room.publish(body)
                    want += encode(MSG, 0, "r", body, ROOM)
                    await turns(1)
                await settle(lambda: hub.behind == 0)
                assert all(b"".join(carrier.written) == want for carrier in carriers)
                assert len(carriers[-1].written) < 5

        run(main(), loops)

    def test_a_hub_that_is_closed_meanwhile_lets_all_go(self, loops: Loops) -> None:
        async def main() -> None:
            async with hubs() as hub:
                room = Room(hub, "r")
                members = [Recorder(hub) for _ in range(300)]
                for member in members:
                    member.carry(Slow())
                    room.join(member)
                room.publish(b"x")
                await turns(2)
                assert hub.behind > 0
                hub.close()
                assert hub.behind == 0
                assert all(member.named("end") == [("end", None)] for member in members)

        run(main(), loops)


@on_both_loops
class TestReading:
    def test_a_turn_ends_when_it_has_taken_long_and_the_next_goes_on_with_the_others(self, loops: Loops) -> None:
        """Twenty links that always have something: none is heard twice before all were heard once."""

        async def main() -> None:
            async with hubs() as hub:
                loop = asyncio.get_running_loop()
                links = [Recorder(hub) for _ in range(20)]
                peers = [await join(link, "descriptor") for link in links]
                turn = 0
                heard: list[tuple[int, int]] = []

                def count() -> None:
                    nonlocal turn
                    turn += 1
                    loop.call_soon(count)

                def listens(number: int) -> Callable[[tuple[object, ...]], None]:
                    def react(call: tuple[object, ...]) -> None:
                        if call[0] == "frame":
                            heard.append((turn, number))
                            work(0.002)
                            sock = peers[number].sock
                            assert sock is not None
                            sock.send(encode(MSG, 1))

                    return react

                for number, link in enumerate(links):
                    link.react = listens(number)
                    sock = peers[number].sock
                    assert sock is not None
                    sock.send(encode(MSG, 1))
                loop.call_soon(count)
                await settle(lambda: len(heard) >= 60)
                assert len({turn for turn, _ in heard[:60]}) == 60
                for start in (0, 20, 40):
                    assert {number for _, number in heard[start : start + 20]} == set(range(20))

        run(main(), loops)

    def test_what_was_ready_may_be_another_link_by_then(self, loops: Loops) -> None:
        """The turn ends between two links; the second goes meanwhile, and a third comes that has its number."""

        async def main() -> None:
            async with hubs() as hub:
                links, third = [Recorder(hub), Recorder(hub)], Recorder(hub)
                peers = [await join(link, "descriptor") for link in links]
                here, there = pair()

                def follows(other: Recorder) -> Callable[[tuple[object, ...]], None]:
                    def react(call: tuple[object, ...]) -> None:
                        if call[0] == "frame":
                            work(0.002)
                            number = other.fileno()
                            other.abort()
                            os.dup2(here.fileno(), number)
                            third.adopt(number)

                    return react

                for link, other, peer in zip(links, reversed(links), peers, strict=True):
                    link.react = follows(other)
                    assert peer.sock is not None
                    peer.sock.send(encode(MSG, 1))
                await settle(lambda: third.fileno() >= 0)
                await turns()
                assert third.open
                assert third.calls == []
                there.send(encode(MSG, 5))
                await settle(lambda: third.calls)
                assert third.calls == [("frame", MSG, 0, 5, "", b"")]
                here.close()

        run(main(), loops)


def pollers() -> set[int]:
    """This process's descriptors of epoll(7)."""
    found = set()
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(f"/proc/self/fd/{entry}") == "anon_inode:[eventpoll]":
                found.add(int(entry))
    return found


def test_a_poller_that_could_not_answer_is_asked_again() -> None:
    async def main() -> None:
        before = pollers()
        async with hubs() as hub:
            link = Recorder(hub)
            peer = await join(link, "descriptor")
            assert peer.sock is not None
            (poller,) = pollers() - before
            kept = os.dup(poller)
            os.dup2(peer.sock.fileno(), poller)
            peer.sock.send(encode(MSG, 1))
            await turns()
            os.dup2(kept, poller)
            os.close(kept)
            await settle(lambda: link.calls, 2)

    run(main())
