"""The client through the HTTP tunnel to a real gateway: it finds out how the way is, and loses nothing on it."""

from __future__ import annotations

import asyncio
import gzip
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from imcore._codec import ERROR, encode
from imcore.client import Client, State
from imcore.client.exchange import PATIENCE_RTT
from imcore.messages import Error, pack
from imcore.points import parse_point
from imcore.ways import network
from imcore.ways.learned import Learned, Mode
from imcore.ways.memory import Memory
from tests.client import http_relays
from tests.client.http_relays import Asked, Relay, Way, relay, response, whole
from tests.client.peer import first, until
from tests.gateway.running import Running, run, running

pytestmark = pytest.mark.usefixtures("quick")

COUNT = 25


class Trial:
    """A gateway, a way to it, and what a client learns of it."""

    def __init__(self, gateway: Running, point: str, proxy: Relay) -> None:
        self.gateway = gateway
        self.point = point
        self.proxy = proxy
        self.memory = Memory()
        self.memory.network(str(network.current()))

    def client(self, user: str = "alice", **more: Any) -> Client:
        return Client([self.point], user, "phone", memory=self.memory, **more)

    @property
    def learned(self) -> Learned:
        return self.memory.recall(str(parse_point(self.point))) or Learned()

    def knows(self, mode: Mode) -> None:
        """It was found out before."""
        self.memory.keep(str(parse_point(self.point)), Learned(mode=mode, again_at=1e12))

    async def push(self, number: int, user: str = "alice") -> None:
        await self.gateway.service.push(user, "news", b"%d" % number, key=f"news {number}")


@asynccontextmanager
async def trial(data: Path, way: Way) -> AsyncIterator[Trial]:
    async with asyncio.timeout(40), running(data) as gateway, relay(gateway.address, way) as (point, proxy):
        yield Trial(gateway, point, proxy)


async def converse(there: Trial, im: Client, count: int = COUNT) -> None:
    """So many messages each way at a time, once and in order."""
    told: list[bytes] = []

    async def hear() -> None:
        told.extend(message.body for message in await first(im, count))

    async def push() -> None:
        for number in range(count):
            await there.push(number)
            await asyncio.sleep(0.002)

    before = len(there.gateway.seen)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(hear())
        tasks.create_task(push())
        for number in range(count):
            tasks.create_task(_send(im, number))
    assert told == [b"%d" % number for number in range(count)]
    await until(lambda: len(there.gateway.seen) == before + count)
    assert [uplink.body for uplink in there.gateway.seen[before:]] == [b"%d" % number for number in range(count)]


async def found_out(there: Trial) -> None:
    """That the way holds back is known within three seconds. Where a busy machine's turns come late, so do the ends of
    waits, and the round trips that are added to them."""
    loop = asyncio.get_running_loop()
    began, late = loop.time(), 0.0
    while there.learned.mode != "poll":
        due = loop.time() + 0.01
        await asyncio.sleep(0.01)
        late += loop.time() - due
    assert loop.time() - began - late * (1 + PATIENCE_RTT) < 3


async def _send(im: Client, number: int) -> None:
    await im.send("note", b"%d" % number)


WAYS: list[tuple[Way, str]] = [
    (http_relays.streams, "stream"),
    (http_relays.a_fifth_of_a_second_a_piece, "stream"),
    (http_relays.holds_everything, "poll"),
    (http_relays.first_bytes_then_stalls, "poll"),
    (http_relays.fills_buffers, "padded"),
    (http_relays.closes_silently, "stream"),
    (http_relays.http_1_0, "stream"),
    (http_relays.eight_kib_at_most, "stream"),
]


@pytest.mark.parametrize(("way", "mode"), WAYS, ids=[way.__name__ for way, _ in WAYS])
def test_every_way_brings_everything_once_and_in_order(way: Way, mode: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with trial(tmp_path, way) as there:
            states: list[State] = []
            async with there.client(on_state=lambda state, _: states.append(state)) as im:
                await converse(there, im)
            assert there.learned.mode == mode
            assert State.WAITING not in states, "an error that a user sees"
            assert max(len(asked.head) for asked in there.proxy.asked) <= 200

    run(work())


def test_at_most_two_connections_are_open_at_a_time(tmp_path: Path) -> None:
    async def work() -> None:
        async with trial(tmp_path, http_relays.streams) as there, there.client() as im:
            await converse(there, im)
            assert there.proxy.most_open == 2
            assert there.proxy.connections == 2

    run(work())


@pytest.mark.parametrize("way", [http_relays.holds_everything, http_relays.first_bytes_then_stalls])
def test_a_way_that_holds_back_is_found_out_within_three_seconds_and_loses_no_message(way: Way, tmp_path: Path) -> None:
    async def work() -> None:
        async with trial(tmp_path, way) as there:
            await there.push(1)
            async with there.client() as im:
                await asyncio.gather(found_out(there), im.send("note", b"first"))
                [message] = await first(im, 1)
            assert message.body == b"1"
            assert [uplink.body for uplink in there.gateway.seen] == [b"first"]

    run(work())


@pytest.mark.parametrize("way", [http_relays.holds_everything, http_relays.first_bytes_then_stalls])
def test_and_so_is_one_by_which_messages_go_up_meanwhile_that_are_answered(way: Way, tmp_path: Path) -> None:
    """Each answer to them says that the way down lags behind."""

    async def work() -> None:
        async with trial(tmp_path, way) as there, there.client() as im:

            async def chat() -> None:
                for number in itertools.count():
                    await there.push(number)
                    await im.send("note", b"%d" % number)
                    await asyncio.sleep(0.05)  # else it is enough for a stream to end, and to bring all of it

            chatting = asyncio.create_task(chat())
            await found_out(there)
            assert [message.body for message in await first(im, 20)] == [b"%d" % number for number in range(20)]
            chatting.cancel()
            await asyncio.wait([chatting])
            assert chatting.cancelled(), "it went on until then"

    run(work())


def test_what_was_learned_is_used_by_the_next_client(tmp_path: Path) -> None:
    async def work() -> None:
        async with trial(tmp_path, http_relays.holds_everything) as there:
            async with there.client() as im:
                await until(lambda: im.state is State.OPEN)
            asked = len(there.proxy.asked)
            await there.push(1)
            async with there.client() as im:
                await first(im, 1)
            assert not [one for one in there.proxy.asked[asked:] if b"poll_ms\x00" in one.body]

    run(work())


def test_a_body_limit_is_learned_without_an_error(tmp_path: Path) -> None:
    async def work() -> None:
        async with trial(tmp_path, http_relays.eight_kib_at_most) as there, there.client() as im:
            await im.send("note", b"first")
            await asyncio.gather(*(im.send("note", b"%05d" % number * 200) for number in range(30)))
            await until(lambda: len(there.gateway.seen) == 31)
            assert [uplink.body[:5] for uplink in there.gateway.seen[1:]] == [b"%05d" % number for number in range(30)]
            assert 2048 <= there.learned.body <= 8192

    run(work())


def test_old_answers_bring_nothing_again(tmp_path: Path) -> None:
    async def work() -> None:
        async with trial(tmp_path, http_relays.replays(3)) as there:
            there.knows("poll")
            async with there.client() as im:
                for number in range(20):
                    await there.push(number)
                    await im.send("note", b"%d" % number)
                told = [message.body for message in await first(im, 20)]
            assert told == [b"%d" % number for number in range(20)]
            assert [uplink.body for uplink in there.gateway.seen] == [b"%d" % number for number in range(20)]

    run(work())


def test_an_answer_to_somebody_else_is_not_taken(tmp_path: Path) -> None:
    kept: dict[bytes, bytes] = {}

    async def mixes_up(proxy: Relay, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        """What alice got is given to bob, once."""
        kind = b"up" if b"role\xa2up" in asked.body else b"down"
        bobs = b"bob" in asked.body
        if bobs and kind in kept:
            writer.write(kept.pop(kind))
            return True
        answer = response(*await whole(proxy, asked))
        if not bobs:
            kept[kind] = answer
        writer.write(answer)
        return True

    async def work() -> None:
        async with trial(tmp_path, mixes_up) as there:
            there.knows("poll")
            for user in ("alice", "bob"):
                async with there.client(user) as im:
                    await there.push(1, user)
                    await im.send("note", user.encode())
                    [message] = await first(im, 1)
                    assert message.body == b"1"
                    assert im.welcome is not None
                    assert im.welcome.user == user
                assert bool(kept) is (user == "alice")
            assert [uplink.body for uplink in there.gateway.seen] == [b"alice", b"bob"]

    run(work())


def test_a_refusal_of_somebody_else_ends_nothing(tmp_path: Path) -> None:
    async def refuses_first(proxy: Relay, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        head, body = await whole(proxy, asked)
        refusal = Error("unauthorized", "expected a token, got an empty one", None, nonce="somebody else's")
        writer.write(response(head, encode(ERROR, body=pack(refusal)) if len(proxy.asked) <= 2 else body))
        return True

    async def work() -> None:
        async with trial(tmp_path, refuses_first) as there:
            there.knows("poll")
            async with there.client() as im:
                await converse(there, im, 3)

    run(work())


STRANGE: dict[str, Callable[[bytes, bytes], bytes]] = {
    "another server's": lambda head, body: response(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain", b"hello"),
    "another request's": lambda head, body: response(head, encode(ERROR, body=pack(Error("slow", "", nonce="x")))),
    "a rewritten one": lambda head, body: response(head, body + b"<script></script>"),
    "a packed one": lambda head, body: response(head, gzip.compress(body)),
}


@pytest.mark.parametrize("which", STRANGE)
def test_a_strange_answer_among_good_ones_costs_no_wait(which: str, tmp_path: Path) -> None:
    strange = iter([True, False, True, False, False, True])

    async def now_and_then(proxy: Relay, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        head, body = await whole(proxy, asked)
        writer.write((STRANGE[which] if next(strange, False) else response)(head, body))
        return True

    async def work() -> None:
        async with trial(tmp_path, now_and_then) as there:
            there.knows("poll")
            states: list[State] = []
            async with there.client(on_state=lambda state, _: states.append(state)) as im:
                await converse(there, im)
            assert State.WAITING not in states
            assert not list(strange)

    run(work())


def test_where_nothing_comes_but_old_answers_that_is_said(tmp_path: Path) -> None:
    async def work() -> None:
        async with trial(tmp_path, http_relays.replays(1)) as there:
            there.knows("poll")
            await there.push(1)
            said: list[str] = []
            async with there.client(on_state=lambda _, text: said.append(text)) as im:
                receiving = asyncio.create_task(first(im, 2))
                await until(lambda: any("CACHED" in text for text in said))
                assert not receiving.done()
                receiving.cancel()

    run(work())
