"""The tunnel broken at every byte and at random, with a real gateway behind it: the application sees the same."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from imcore.client import Client, backoff, channel
from tests.client.http_relays import Asked, Relay, Way, relay, response, streams, whole
from tests.client.peer import first, until
from tests.gateway.running import Running, run, running

pytestmark = pytest.mark.usefixtures("quick")

UP = [b"one", b"two"]
DOWN = [b"eins", b"zwei"]
AT_ONCE = 64


class Wire:
    """Passes bytes both ways between a client and a gateway, and cuts the connection over which so many have gone."""

    def __init__(self, up_most: int | None, down_most: int | None) -> None:
        self.most = {"up": up_most, "down": down_most}
        self.gone = {"up": 0, "down": 0}
        self.tasks: set[asyncio.Task[None]] = set()

    async def passes(self, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            most, gone = self.most[way], self.gone[way]
            self.gone[way] += len(data)
            if most is not None and gone <= most < gone + len(data):
                writer.write(data[: most - gone])
                return
            writer.write(data)

    async def came(self, near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        far, to_far = await asyncio.open_connection(self.host, self.port)
        ways = [
            asyncio.ensure_future(self.passes("up", near, to_far)),
            asyncio.ensure_future(self.passes("down", far, to_near)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            pass  # the test is over; asyncio's server would complain
        finally:
            for way in ways:
                way.cancel()
            for writer in (to_near, to_far):
                writer.close()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*ways, to_near.wait_closed(), to_far.wait_closed(), return_exceptions=True)
            self.tasks.discard(task)

    @asynccontextmanager
    async def to(self, target: str) -> AsyncIterator[str]:
        self.host, _, port = target.rpartition(":")
        self.port = int(port)
        server = await asyncio.start_server(self.came, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        try:
            yield f"http://{host}:{port}"
        finally:
            server.close()
            for task in list(self.tasks):
                task.cancel()
            if self.tasks:
                await asyncio.wait(list(self.tasks))


async def converse(gateway: Running, wire: Wire, user: str) -> None:
    """Two messages each way, over this wire."""
    for number, body in enumerate(DOWN):
        await gateway.service.push(user, "news", body, key=f"{user} {number}")
    async with asyncio.timeout(20), wire.to(gateway.address) as point, Client([point], user, "phone") as im:
        receiving = asyncio.create_task(first(im, len(DOWN)))
        await asyncio.gather(*(im.send("note", body) for body in UP))
        assert [message.body for message in await receiving] == DOWN
    await until(lambda: len([uplink for uplink in gateway.seen if uplink.user == user]) == len(UP))
    assert [uplink.body for uplink in gateway.seen if uplink.user == user] == UP


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_cut_at_any_byte_changes_nothing(way: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path) as gateway:
            wire = Wire(None, None)
            await converse(gateway, wire, "whole")
            cuts = iter(range(wire.gone[way]))

            async def some() -> None:
                for cut in cuts:
                    wire = Wire(*((cut, None) if way == "up" else (None, cut)))
                    await converse(gateway, wire, f"{cut:05d}")

            async with asyncio.TaskGroup() as tasks:
                for _ in range(AT_ONCE):
                    tasks.create_task(some())

    run(work())


def loses(pattern: str) -> Way:
    """Each request comes over a connection of its own, and is answered or not as the pattern says, over and over."""
    fates = itertools.cycle(pattern)

    async def way(proxy: Relay, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        if next(fates) == "y":
            head, body = await whole(proxy, asked)
            writer.write(response(head + b"\r\nConnection: close", body))
            await writer.drain()
        return False

    return way


@pytest.mark.parametrize(("pattern", "waits"), [("yn", False), ("ynn", False), ("ynnn", True)])
def test_a_wait_comes_after_three_that_were_lost_and_is_as_short_as_the_first_where_others_were_answered(
    pattern: str, waits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caps: list[float] = []

    class Watched(backoff.Backoff):
        def next(self, least: float = 0.0) -> float:
            caps.append(self._cap)
            return super().next(least)

    monkeypatch.setattr(channel, "Backoff", Watched)

    async def work() -> None:
        async with running(tmp_path) as gateway, relay(gateway.address, loses(pattern)) as (point, _):
            async with asyncio.timeout(20), Client([point], "alice", "phone", receive=False) as im:
                for number in range(11):
                    await im.send("note", b"%d" % number)
            assert [uplink.body for uplink in gateway.seen] == [b"%d" % number for number in range(11)]
        assert set(caps) == ({backoff.FIRST_S} if waits else set())

    run(work())


def disturbs(rng: random.Random) -> Way:
    """Requests and responses are lost, doubled and delayed."""

    async def way(proxy: Relay, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        what = rng.random()
        await asyncio.sleep(rng.choice([0, 0, 0.01, 0.05]))
        if what < 0.08:  # the request is lost, with its connection
            return False
        if what < 0.16:  # the response is
            doubling = asyncio.ensure_future(whole(proxy, asked))
            await asyncio.wait([doubling], timeout=0.05)
            doubling.cancel()
            return False
        if what < 0.24:  # it comes twice
            late = asyncio.ensure_future(whole(proxy, asked))
            late.add_done_callback(lambda done: done.cancelled() or done.exception())
            await asyncio.sleep(rng.choice([0, 0.01]))
        if b"poll_ms\x00" in asked.body:
            return await streams(proxy, asked, writer)
        writer.write(response(*await whole(proxy, asked)))
        return True

    return way


@pytest.mark.parametrize("seed", range(4))
def test_exchanges_that_are_lost_doubled_and_late_lose_double_and_reorder_nothing(seed: int, tmp_path: Path) -> None:
    count = 150

    async def work() -> None:
        rng = random.Random(seed)
        async with (
            asyncio.timeout(50),
            running(tmp_path) as gateway,
            relay(gateway.address, disturbs(rng)) as (point, _),
        ):
            async with Client([point], "alice", "phone") as im:

                async def push() -> None:
                    for number in range(count):
                        await gateway.service.push("alice", "news", b"%d" % number, key=f"news {number}")
                        await asyncio.sleep(0.005)

                pushing = asyncio.create_task(push())
                receiving = asyncio.create_task(first(im, count))
                for number in range(0, count, 3):
                    await asyncio.gather(*(im.send("note", b"%d" % (number + each)) for each in range(3)))
                messages = await receiving
                await pushing
            assert [message.body for message in messages] == [b"%d" % number for number in range(count)]
            await until(lambda: len(gateway.seen) == count)
            assert [uplink.body for uplink in gateway.seen] == [b"%d" % number for number in range(count)]

    run(work())
