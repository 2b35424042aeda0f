"""A client's life in the tunnel: rooms, an application that is slow, a gateway that drains, its leave; and the limits
of the way, which it learns without an error that anybody sees."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from imcore.cli.certificate import self_signed
from imcore.client import Client, State, exchange
from imcore.errors import Refused
from imcore.gateway.limits import Limits
from imcore.gateway.listeners import Tls
from imcore.ways import learned
from imcore.ways.learned import Mode
from tests.client import http_relays
from tests.client.http_relays import Asked, Relay, response, streams, whole
from tests.client.peer import first, until
from tests.client.test_tunnel import Trial, converse, trial
from tests.gateway.running import run, running

pytestmark = pytest.mark.usefixtures("quick")

MODES: list[Mode] = ["stream", "padded", "poll"]


@asynccontextmanager
async def known(data: Path, mode: Mode, way: http_relays.Way = streams) -> AsyncIterator[Trial]:
    """A way that has been found out."""
    async with trial(data, way) as there:
        there.knows(mode)
        yield there


@pytest.mark.parametrize("mode", MODES)
def test_a_room_is_heard_and_left(mode: Mode, tmp_path: Path) -> None:
    async def work() -> None:
        async with known(tmp_path, mode) as there, there.client() as im:
            hearing = asyncio.ensure_future(first(im, 1))
            await im.join("lobby")
            while not hearing.done():  # between two polls nobody is in a room
                await there.gateway.service.broadcast("lobby", b"hello")
                await asyncio.wait([hearing], timeout=0.05)
            [message] = await hearing
            assert (message.seq, message.room, message.body) == (0, "lobby", b"hello")
            await im.leave("lobby")
            await there.push(1)
            await there.gateway.service.broadcast("lobby", b"nobody hears")
            async for message in im:
                if message.seq:
                    break
                assert message.body == b"hello"

    run(work())


def test_what_is_published_goes_up_beside_messages_and_is_answered(tmp_path: Path) -> None:
    async def work() -> None:
        async with trial(tmp_path, http_relays.streams) as there, there.client() as im:
            with pytest.raises(Refused, match="JOIN it first"):
                await im.publish("lobby", b"x", confirm=True)
            await im.join("lobby")
            await im.send("note", b"1")
            await im.publish("lobby", b"hello", confirm=True)
            await im.publish("lobby", b"again")
            assert [message.body for message in await first(im, 2)] == [b"hello", b"again"]

    run(work())


def test_what_is_published_waits_quietly_for_the_room_to_be_heard_again(tmp_path: Path) -> None:
    async def work() -> None:
        async with known(tmp_path, "stream") as there, there.client() as im:
            await im.join("lobby")
            for number in range(200):  # the stream ends at the window, and nothing is asked before it is taken
                await there.push(number)
            await until(lambda: im._connection.down is None)
            before = len(there.proxy.asked)
            publishing = asyncio.create_task(im.publish("lobby", b"hello", confirm=True))
            await asyncio.sleep(0.5)
            assert len(there.proxy.asked) - before <= 1
            messages = await first(im, 201)
            await publishing
            assert messages[-1].body == b"hello"

    run(work())


def test_who_leaves_has_acknowledged_what_it_took(tmp_path: Path) -> None:
    async def work() -> None:
        async with trial(tmp_path, http_relays.streams) as there:
            for number in range(3):
                await there.push(number)
            async with there.client() as im:
                await first(im, 2)
            async with there.client() as im:  # it has no file: the server's memory decides
                assert [message.body for message in await first(im, 1)] == [b"2"]

    run(work())


@pytest.mark.parametrize("mode", MODES)
def test_an_application_that_takes_its_time_is_not_asked_for_more(mode: Mode, tmp_path: Path) -> None:
    async def work() -> None:
        async with known(tmp_path, mode) as there:
            for number in range(300):  # more than a window
                await there.push(number)
            async with there.client() as im:
                await until(lambda: im.state is State.OPEN)
                await until(lambda: im._receiving.downlink.waiting)
                await asyncio.sleep(0.3)
                before = len(there.proxy.asked)
                await asyncio.sleep(0.7)
                assert len(there.proxy.asked) - before <= 1
                assert [message.body for message in await first(im, 300)] == [b"%d" % number for number in range(300)]

    run(work())


def test_a_client_that_holds_enough_reads_no_more_until_some_is_taken(tmp_path: Path) -> None:
    async def work() -> None:
        async with known(tmp_path, "stream") as there:
            for number in range(120):
                await there.gateway.service.push("alice", "news", b"%03d" % number * 20_000, key=str(number))
            async with there.client() as im:
                await until(lambda: (link := im._connection.down) is not None and link.paused)
                messages = await first(im, 120)
            assert [message.body[:3] for message in messages] == [b"%03d" % number for number in range(120)]

    run(work())


def test_nothing_is_asked_in_a_circle_when_nothing_comes(tmp_path: Path) -> None:
    async def hasty(proxy: Relay, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        """Never lets an answer wait."""
        quick = asked.body.replace(b"\xa7poll_ms\xcd\x61\xa8", b"\xa7poll_ms\xcd\x00\x01")
        writer.write(response(*await whole(proxy, Asked(asked.head, quick))))
        return True

    async def work() -> None:
        async with known(tmp_path, "poll", hasty) as there, there.client():
            await until(lambda: any(b"poll_ms\xcd\x61\xa8" in asked.body for asked in there.proxy.asked))  # 25 s
            before = len(there.proxy.asked)
            await asyncio.sleep(2.2)
            assert 1 <= len(there.proxy.asked) - before <= 3

    run(work())


def test_a_gateway_that_drains_is_come_back_to(tmp_path: Path) -> None:
    async def work() -> None:
        async with asyncio.timeout(30), running(tmp_path, limits=Limits(drain_s=1, spread_s=0.1)) as one:
            port = one.address
            async with Client([f"http://{port}"], "alice", "phone") as im:
                await im.send("note", b"1")
                await one.service.push("alice", "news", b"1", key="1")
                assert [message.body for message in await first(im, 1)] == [b"1"]
                await one.gateway.drain()
                assert im.state is not State.CLOSED

    run(work())


def test_and_inside_of_tls(tmp_path: Path) -> None:
    files, trust = self_signed(tmp_path)

    async def work() -> None:
        tls = Tls(files.certificate, files.key)
        async with asyncio.timeout(20), running(tmp_path / "data", tls=tls) as there:
            point = "https://" + there.address.removeprefix("tls://")
            async with Client([point], "alice", "phone", tls=trust) as im:
                await im.send("note", b"1")
                await there.service.push("alice", "news", b"2", key="1")
                assert [message.body for message in await first(im, 1)] == [b"2"]
            async with Client([point], "alice", "phone") as im:  # which trusts nobody
                await until(lambda: "TLS_UNTRUSTED" in im.state_text)

    run(work())


# Limits.


def test_a_connection_that_dies_of_idleness_costs_a_request_and_is_not_trusted_so_long_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "STALE_S", 0.2)
    monkeypatch.setattr(exchange, "STALE_IDLE_S", 0.1)
    monkeypatch.setattr(learned, "LEAST_IDLE_S", 0.1)
    last: dict[asyncio.StreamWriter, float] = {}

    async def forgets(proxy: Relay, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        """A NAT that forgets what is silent for 0.3 s, and tells nobody."""
        now = asyncio.get_running_loop().time()
        if now - last.get(writer, now) > 0.3:
            await asyncio.Event().wait()
        with contextlib.suppress(OSError):
            await streams(proxy, asked, writer)
        last[writer] = asyncio.get_running_loop().time()
        return True

    async def work() -> None:
        states: list[State] = []
        async with trial(tmp_path, forgets) as there:
            async with there.client(on_state=lambda state, _: states.append(state)) as im:
                for number in range(3):
                    await im.send("note", b"%d" % number)
                    await asyncio.sleep(0.5)
            assert [uplink.body for uplink in there.gateway.seen] == [b"0", b"1", b"2"]
            assert 0.1 <= there.learned.idle_s < 0.5
            assert states == [State.CONNECTING, State.OPEN, State.CLOSED]

    run(work())


def test_a_response_that_may_not_be_held_for_so_long_is_held_for_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "HELD_S", 0.2)

    async def impatient(proxy: Relay, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        """504 after half a second."""
        try:
            async with asyncio.timeout(0.5):
                writer.write(response(*await whole(proxy, asked)))
        except TimeoutError:
            writer.write(b"HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\n\r\n")
        return True

    async def work() -> None:
        states: list[State] = []
        async with trial(tmp_path, impatient) as there:
            there.knows("poll")
            async with there.client(on_state=lambda state, _: states.append(state)) as im:
                await until(lambda: there.learned.hold_s <= 12.5)
                await converse(there, im, 20)
            assert there.learned.hold_s < 25
            assert states == [State.CONNECTING, State.OPEN, State.CLOSED]

    run(work())


def test_a_stream_that_is_ended_when_it_is_silent_becomes_polls_that_are_shorter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learned, "LEAST_HOLD_S", 0.2)

    async def ends_silence(proxy: Relay, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        async with asyncio.timeout(None) as patience:
            writing = writer.write

            def watch(data: bytes) -> None:
                patience.reschedule(asyncio.get_running_loop().time() + 0.8)
                writing(data)

            writer.write = watch  # type: ignore[assignment,method-assign]  # it is watched
            try:
                return await streams(proxy, asked, writer)
            finally:
                writer.write = writing  # type: ignore[method-assign]  # and as it was
        return False

    async def work() -> None:
        states: list[State] = []
        async with trial(tmp_path, ends_silence) as there:
            async with there.client(on_state=lambda state, _: states.append(state)) as im:
                await until(lambda: there.learned.mode == "poll")
                await converse(there, im, 20)
            assert 0.4 < there.learned.hold_s < 0.8
            assert states == [State.CONNECTING, State.OPEN, State.CLOSED]

    run(work())


def test_a_message_that_is_larger_than_all_requests_may_be_is_refused_and_the_next_ones_go(tmp_path: Path) -> None:
    async def work() -> None:
        async with trial(tmp_path, http_relays.eight_kib_at_most) as there, there.client() as im:
            sends = [im.send("note", body) for body in (b"1", bytes(20_000), b"3")]
            outcomes = await asyncio.gather(*sends, return_exceptions=True)
            assert isinstance(outcomes[1], Refused)
            assert outcomes[1].code == "too_large"
            assert [uplink.body for uplink in there.gateway.seen] == [b"1", b"3"]

    run(work())
