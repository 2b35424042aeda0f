"""The turn: what a link's owner or peer does reaches no other link, and nothing spins, leaks or is told twice."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import resource
import socket
import struct
import time
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from imcore._codec import ACK, ERROR, MSG, PING, PONG, Frame, encode
from imcore._hub import Hub
from imcore._link import Link
from tests.links import (
    Fake,
    Loops,
    Recorder,
    hubs,
    join,
    on_both_loops,
    on_each_carrier,
    pair,
    run,
    settle,
    turns,
)

Call = tuple[object, ...]
T = TypeVar("T")


class Boom(Exception):
    """What an owner raises."""


def raiser(name: str, error: BaseException) -> Callable[[Call], None]:
    def react(call: Call) -> None:
        if call[0] == name:
            raise error

    return react


def provoke(link: Recorder, name: str) -> bytes:
    """What the peer sends so that this callback is called."""
    link.sent = 5
    if name == "deadline":
        link.expect(0)
        return b""
    frames = {"frame": Frame(MSG, 1), "fault": Frame(ACK, 9), "taken": Frame(ACK, 3), "end": Frame(ACK, 9)}
    return frames[name].encode() + Frame(PING, 7).encode()


def drive(loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, T], stopped: list[type[BaseException]]) -> T:
    """Run it to its end, however often the loop is stopped by what a callback raises."""
    task = loop.create_task(main)
    while not task.done():
        try:
            loop.run_until_complete(task)
        except (KeyboardInterrupt, SystemExit) as error:
            stopped.append(type(error))
        except RuntimeError:  # it was still stopping
            assert not task.done()
    return task.result()


EVERY_CALLBACK = pytest.mark.parametrize("name", ["frame", "fault", "taken", "deadline", "end"])


@on_both_loops
@on_each_carrier
@EVERY_CALLBACK
class TestACallback:
    @pytest.mark.parametrize("kind", [Boom, asyncio.CancelledError, GeneratorExit])
    def test_that_raises_ends_its_link_and_no_other(
        self, loops: Loops, carrier: str, name: str, kind: type[BaseException]
    ) -> None:
        async def main() -> None:
            told: list[dict[str, Any]] = []
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
            async with hubs() as hub:
                bad, good = Recorder(hub), Recorder(hub)
                bad_peer, good_peer = await join(bad, carrier), await join(good, carrier)
                bad.react = raiser(name, kind("x"))
                if data := provoke(bad, name):
                    await bad_peer.send(data)
                await good_peer.send(Frame(PING, 3).encode())
                await settle(lambda: told and good_peer.read())
                assert [type(context["exception"]) for context in told] == [kind]
                assert told[0]["link"] is bad
                assert not bad.open
                assert len(bad.named("end")) == 1
                assert good.open
                assert good_peer.read() == encode(PONG, 3)
                assert hub.links == 1

        run(main(), loops)

    def test_may_close_the_hub(self, loops: Loops, carrier: str, name: str) -> None:
        async def main() -> None:
            async with hubs() as hub:
                links = [Recorder(hub) for _ in range(6)]
                peers = [await join(link, carrier) for link in links]
                for link, peer in zip(links, peers, strict=True):
                    link.react = lambda call: hub.close() if call[0] == name else None
                    link.send(MSG, 1, body=b"queued")
                    data = provoke(link, name)
                    if peer.sock is None:
                        link.feed(data)
                    else:
                        peer.sock.send(data)
                await settle(lambda: hub.links == 0)
                await turns()
                assert all(link.named("end") == [("end", None)] for link in links)

        run(main(), loops)

    def test_may_end_any_link_and_open_others(self, loops: Loops, carrier: str, name: str) -> None:
        async def main() -> None:
            async with hubs() as hub:
                links = [Recorder(hub) for _ in range(6)]
                peers = [await join(link, carrier) for link in links]
                opened: list[tuple[Recorder, socket.socket]] = []

                def react(call: Call) -> None:
                    if call[0] != name:
                        return
                    for link in links[::2]:
                        link.abort()
                    for link in links[1::2]:
                        link.close()
                    if len(opened) < 6:
                        here, there = pair()  # gets the numbers that have just become free
                        opened.append((Recorder(hub), there))
                        opened[-1][0].attach(here)

                for link, peer in zip(links, peers, strict=True):
                    link.react = react
                    link.send(MSG, 1, body=b"queued")
                    data = provoke(link, name)
                    if peer.sock is None:
                        link.feed(data)
                    else:
                        peer.sock.send(data)
                await settle(lambda: all(link.named("end") for link in links))
                for link, there in opened:  # each of them works
                    there.send(Frame(PING, 8).encode())
                    await settle(lambda link=link: link.hub.links == len(opened))  # type: ignore[misc]  # mypy can't infer the default
                    there.setblocking(True)
                    there.settimeout(5)
                    assert await asyncio.to_thread(there.recv, 100) == encode(PONG, 8)
                    assert link.open
                assert all(len(link.named("end")) == 1 for link in links)

        run(main(), loops)


@on_both_loops
class TestEnds:
    @on_each_carrier
    def test_what_was_queued_goes_out_before_the_end(self, loops: Loops, carrier: str) -> None:
        async def main() -> None:
            async with hubs() as hub:
                link = Recorder(hub)
                peer = await join(link, carrier)
                if peer.sock is not None:  # bytes that nobody read must not turn the close into a reset
                    peer.sock.send(Frame(MSG, 1, body=bytes(40_000)).encode() * 3)
                link.send(ERROR, body=b"why")
                link.close()
                assert link.calls[-1] == ("end", None)
                assert hub.links == 0
                await settle(lambda: peer.read() == encode(ERROR, body=b"why"))
                link.send(MSG, 1)
                link.confirm(1)
                link.expect(0.01)
                if peer.sock is not None:
                    await turns(20)
                    peer.sock.send(Frame(MSG, 1).encode())  # still no reset
                    peer.sock.close()
                    await settle(lambda: link.fileno() == -1)
                await asyncio.sleep(0.05)
                assert [call for call in link.calls if call[0] != "frame"] == [("end", None)]

        run(main(), loops)

    def test_a_peer_that_never_closes_is_cut_after_three_seconds(self, loops: Loops) -> None:
        async def cut(hub: Hub, carrier: str) -> None:
            loop = asyncio.get_running_loop()
            link = Recorder(hub)
            peer = await join(link, carrier)
            assert peer.sock is not None
            begin = loop.time()
            link.close()
            while True:
                try:
                    peer.sock.send(bytes(1000))
                except BlockingIOError:
                    pass
                except OSError:
                    break
                await asyncio.sleep(0.02)
            assert 2.9 < loop.time() - begin < 4.5

        async def main() -> None:
            async with hubs() as hub, asyncio.TaskGroup() as both:
                for carrier in ("descriptor", "transport"):
                    both.create_task(cut(hub, carrier))

        run(main(), loops)

    @on_each_carrier
    def test_abort_drops_what_is_queued(self, loops: Loops, carrier: str) -> None:
        async def main() -> None:
            async with hubs() as hub:
                link = Recorder(hub)
                peer = await join(link, carrier)
                link.send(MSG, 1)
                link.abort()
                link.abort()
                link.close()
                await turns(10)
                assert peer.read() == b""
                assert link.calls == [("end", None)]

        run(main(), loops)

    def test_on_end_may_open_a_link_on_the_number_that_has_become_free(self, loops: Loops) -> None:
        async def main() -> None:
            async with hubs() as hub:
                old, new = Recorder(hub), Recorder(hub)
                here, there = pair()
                spare, spare_there = pair()
                number = here.fileno()
                old.attach(here)

                def react(call: Call) -> None:
                    copy = fcntl.fcntl(spare.fileno(), fcntl.F_DUPFD_CLOEXEC, number)
                    assert copy == number
                    new.adopt(copy)

                old.react = react
                there.close()
                await settle(lambda: new.open)
                spare_there.send(Frame(PING, 1).encode())
                await settle(lambda: hub.frames_in == 1)
                assert new.fileno() == number
                spare.close()

        run(main(), loops)

    def test_a_link_in_use_or_over_takes_no_carrier(self, loops: Loops) -> None:
        async def main() -> None:
            async with hubs() as hub:
                used, over = Recorder(hub), Recorder(hub)
                used.carry(Fake())
                over.close()
                for link in (used, over):
                    here, _ = pair()
                    with pytest.raises(RuntimeError):
                        link.carry(Fake())
                    with pytest.raises(RuntimeError):
                        link.attach(here)
                    assert here.fileno() == -1
                assert over.calls == []
                assert hub.links == 1

        run(main(), loops)


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@on_both_loops
@pytest.mark.parametrize("state", ["reading", "held", "muted", "lingering", "blocked"])
@pytest.mark.parametrize("how", ["reset", "close", "half", "open"])
class TestNothingSpins:
    def test_whatever_the_peer_does_in_whatever_state(self, loops: Loops, state: str, how: str) -> None:
        async def main() -> None:
            async with hubs(window=10_000) as hub:
                link = Recorder(hub)
                peer = await join(link, "descriptor")
                assert peer.sock is not None
                if state == "held":
                    link.hold()
                    peer.sock.send(Frame(MSG, 1).encode())
                elif state == "lingering":
                    link.close()
                elif state in ("muted", "blocked"):
                    for _ in range(100):
                        link.send(MSG, 1, body=bytes(65536))
                    if state == "muted":
                        peer.sock.send(Frame(PING, 1).encode())
                await turns(10)
                if how == "reset":
                    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    peer.sock.close()
                elif how == "close":
                    peer.sock.close()
                elif how == "half":
                    peer.sock.shutdown(socket.SHUT_WR)
                await turns(20)
                used, begin = processor_seconds(), time.monotonic()
                await asyncio.sleep(0.15)
                assert processor_seconds() - used < (time.monotonic() - begin) / 2
                if how == "reset":
                    assert link.fileno() == -1
                    assert len(link.named("end")) == 1

        run(main(), loops)


@on_both_loops
class TestTime:
    def test_nothing_wakes_the_loop_until_a_deadline_is_due(self, loops: Loops) -> None:
        async def main() -> None:
            async with hubs() as hub:
                link = Recorder(hub)
                link.expect(0.6)
                used = processor_seconds()
                await asyncio.sleep(0.5)
                assert processor_seconds() - used < 0.2
                await settle(lambda: link.calls)

        run(main(), loops)

    def test_who_answered_while_this_process_slept_is_not_called_silent(self, loops: Loops) -> None:
        async def main() -> None:
            async with hubs() as hub:
                spoke, silent = Recorder(hub), Recorder(hub)
                woken: list[list[tuple[object, ...]]] = []
                hub.on_wake.append(lambda: woken.append(spoke.calls + silent.calls))
                here, there = pair()
                spoke.attach(here)
                silent.attach(pair()[0])
                for link in (spoke, silent):
                    link.expect(0.2, renew=True)
                await turns()
                there.send(encode(PONG, 1))
                time.sleep(1.5)  # noqa: ASYNC251 - that is the sleep
                await settle(lambda: silent.calls)
                assert silent.calls == [("deadline",)]
                assert spoke.calls == []
                assert woken == [[]], "it is told before any deadline"

        run(main(), loops)


class TestMemory:
    def test_the_receive_buffer_outlives_its_hub(self) -> None:
        async def main() -> memoryview:
            async with hubs() as hub:
                return hub.buffer

        view = run(main())
        gc.collect()
        view[:5] = b"still"
        assert bytes(view[:5]) == b"still"
        assert len(view) == 16 * 1024

    @pytest.mark.parametrize("state", ["unbound", "carried", "ended", "lingering", "descriptor"])
    def test_a_link_that_nobody_knows_is_freed(self, state: str) -> None:
        async def main() -> None:
            async with hubs() as hub:
                link = Recorder(hub)
                link.react = link.calls.append  # a cycle
                link.expect(1000, renew=True)
                link.send(MSG, 1, body=bytes(1000))
                if state == "carried":
                    link.carry(Fake())
                    link.feed(b"\xa1\x05")
                    link.lost(None)
                elif state == "ended":
                    link.abort()
                elif state in ("lingering", "descriptor"):
                    here, there = pair()
                    link.attach(here)
                    link.hold()
                    link.close() if state == "lingering" else None
                    await turns()
                    there.close()
                    if state == "descriptor":
                        link.proceed()
                    known.append(link)
                    await settle(lambda: known[0].fileno() == -1)
                ref = weakref.ref(link)
                known.clear()
                del link
                await turns()
                gc.collect()
                assert ref() is None

        known: list[Recorder] = []
        run(main())

    def test_a_hub_that_is_closed_is_freed_with_all_that_is_its(self) -> None:
        refs: list[weakref.ref[Link]] = []

        async def main() -> None:
            hub = Hub(asyncio.get_running_loop())
            for carrier in ("descriptor", "transport", "fed"):
                link = Recorder(hub)
                refs.append(weakref.ref(link))
                await join(link, carrier)
                link.expect(5)
                link.send(MSG, 1)
            hub.close()
            hub.close()
            await turns()

        async def whole() -> None:
            async with hubs():  # closes the peers
                await main()

        run(whole())
        gc.collect()
        assert [ref() for ref in refs] == [None] * 3

    def test_a_carrier_that_forgets_its_link_harms_nobody(self) -> None:
        async def main() -> None:
            hub = Hub(asyncio.get_running_loop(), native=False)
            link = Recorder(hub)
            link.carry(Fake())
            link.expect(60)
            link.feed(b"\xa1")
            ref = weakref.ref(link)
            del link, hub
            await turns()
            gc.collect()
            assert ref() is not None  # the loop's timer knows the hub, and the hub its links

        run(main())
        gc.collect()
