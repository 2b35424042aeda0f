"""Clients and a node, and a network that breaks at random: nothing lost, nothing twice, nothing out of order."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop

from imcore import chat_service
from imcore.client import Client, Message
from imcore.client.connection import Channels
from imcore.config import Config
from imcore.errors import LinkClosed, Refused
from imcore.node import Node
from tests.client.peer import first, until

pytestmark = pytest.mark.usefixtures("quick")

Runner = Callable[[Coroutine[Any, Any, None]], None]

LOOPS = [asyncio.run, uvloop.run]

one_link_or_two = pytest.mark.parametrize("channels", ["single", "split"])


def said(text: str) -> bytes:
    return json.dumps({"to": "bob", "text": text}).encode()


def heard(message: Message) -> str:
    value = json.loads(message.body)
    assert value["from"] == "alice"
    return str(value["text"])


def two(address: str, channels: Channels) -> tuple[Client, Client]:
    """Alice and Bob."""
    return alices(address, channels), bobs(address, channels)


def alices(address: str, channels: Channels) -> Client:
    return Client([address], "alice", "phone", channels=channels)


def bobs(address: str, channels: Channels) -> Client:
    return Client([address], "bob", "laptop", channels=channels)


@asynccontextmanager
async def running(data: Path, listen: str = "127.0.0.1:0") -> AsyncIterator[str]:
    """A node with the chat service; yields its address. It drains in no time."""
    config = Config()
    config = msgspec.structs.replace(config, limits=msgspec.structs.replace(config.limits, drain_s=0.2, spread_s=0.1))
    node = Node(config, listen=[listen], data=data)
    chat_service.register(node.service)
    async with node:
        yield node.addresses[0]


class Network:
    """Passes bytes between clients and a node, and cuts each connection after a random number of them."""

    def __init__(self, target: str, rng: random.Random, mean: float) -> None:
        self.host, _, port = target.rpartition(":")
        self.port = int(port)
        self.rng = rng
        self.mean = mean
        self.cuts = 0
        self.whole = False
        self.ways: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> str:
        self.server = await asyncio.start_server(self.came, "127.0.0.1", 0)
        host, port = self.server.sockets[0].getsockname()
        return f"{host}:{port}"

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        for way in list(self.ways):
            way.cancel()
        if self.ways:
            await asyncio.wait(list(self.ways))

    async def came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.ways.add(task)
        far: asyncio.StreamWriter | None = None
        try:
            far_reader, far = await asyncio.open_connection(self.host, self.port)
            budget = None if self.whole else int(self.rng.expovariate(1 / self.mean))
            left = [budget]
            async with asyncio.TaskGroup() as both:
                both.create_task(self.pump(reader, far, left))
                both.create_task(self.pump(far_reader, writer, left))
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            if far is not None:
                far.transport.abort()
            self.ways.discard(task)

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: list[int | None]) -> None:
        while True:
            data = await reader.read(4096)
            if left[0] is not None:
                data = data[: left[0]]
                left[0] -= len(data)
            writer.write(data)
            await writer.drain()
            if not data or left[0] == 0:
                self.cuts += left[0] == 0
                raise ConnectionError


@one_link_or_two
@pytest.mark.parametrize("loop", LOOPS)
def test_what_is_sent_arrives_in_order_and_what_is_refused_is_told(
    loop: Runner, channels: Channels, tmp_path: Path
) -> None:
    async def work() -> None:
        async with running(tmp_path) as address:
            alice, bob = two(address, channels)
            async with alice, bob:
                texts = [str(i) for i in range(300)]
                sending = asyncio.gather(*(alice.send("chat", said(text)) for text in texts))
                assert [heard(message) for message in await first(bob, len(texts))] == texts
                numbers = [receipt.id for receipt in await sending]
                assert numbers == sorted(set(numbers))
                with pytest.raises(Refused, match="chat expects a JSON object"):
                    await alice.send("chat", b"nonsense")
                with pytest.raises(Refused, match="no_route"):
                    await alice.send("nowhere", b"x")
                await alice.send("chat", said("after"))
                assert [heard(message) for message in await first(bob, 1)] == ["after"]

    loop(work())


@one_link_or_two
def test_rooms_reach_their_members(channels: Channels, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path) as address:
            alice, bob = two(address, channels)
            async with alice, bob:
                await asyncio.gather(alice.join("lobby"), bob.join("lobby"))
                await alice.publish("lobby", b"hello", confirm=True)
                for im in (alice, bob):
                    assert await first(im, 1) == [Message(0, "lobby", b"hello", "lobby")]
                await bob.leave("lobby")
                with pytest.raises(Refused, match="JOIN it first"):
                    await bob.publish("lobby", b"x", confirm=True)

    asyncio.run(work())


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(("seed", "channels"), [(0, "single"), (1, "split"), (2, "split")])
def test_cuts_at_random_bytes_lose_double_and_reorder_nothing(
    loop: Runner, seed: int, channels: Channels, tmp_path: Path
) -> None:
    count = 400

    async def work() -> None:
        async with running(tmp_path) as address:
            network = Network(address, random.Random(seed), 1500)
            async with network as point:
                got: list[str] = []

                async def listen(im: Client) -> None:
                    async for message in im:
                        assert message.gap is None
                        got.append(heard(message))
                        if len(got) == count:
                            return

                alice, bob = two(point, channels)
                async with alice, bob:
                    listening = asyncio.create_task(listen(bob))
                    receipts = await asyncio.gather(*(alice.send("chat", said(str(i))) for i in range(count)))
                    await listening
                numbers = [receipt.id for receipt in receipts]
                assert numbers == sorted(set(numbers))
                assert got == [str(i) for i in range(count)]
                assert network.cuts > 10

    loop(work())


@one_link_or_two
def test_a_listener_that_stops_and_starts_sees_every_line_once(channels: Channels, tmp_path: Path) -> None:
    count = 300

    async def work() -> None:
        async with running(tmp_path) as address:
            got: list[str] = []
            async with alices(address, channels) as alice:

                async def send() -> None:
                    for i in range(count):
                        await alice.send("chat", said(str(i)))

                sending = asyncio.create_task(send())
                while len(got) < count:
                    async with bobs(address, channels) as bob:
                        async for message in bob:
                            assert message.gap is None
                            got.append(heard(message))
                            if len(got) % 50 == 0:
                                break
                await sending
            assert got == [str(i) for i in range(count)]

    asyncio.run(work())


@one_link_or_two
def test_a_gateway_that_restarts_is_only_a_break(channels: Channels, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path) as address:
            pass  # an address that is free
        got: list[str] = []

        async def listen(im: Client, count: int) -> None:
            async for message in im:
                assert message.gap is None
                got.append(heard(message))
                if len(got) == count:
                    return

        alice, bob = two(address, channels)
        async with alice, bob:
            listening = asyncio.create_task(listen(bob, 300))
            for life in range(3):
                sends = [asyncio.create_task(alice.send("chat", said(str(life * 100 + i)))) for i in range(100)]
                async with running(tmp_path, address):
                    if life == 2:
                        await asyncio.gather(*sends)
                        await listening
                    else:
                        await asyncio.wait(sends, return_when=asyncio.FIRST_COMPLETED)
        assert got == [str(i) for i in range(300)]

    asyncio.run(work())


@one_link_or_two
def test_a_second_client_of_a_device_ends_the_first(channels: Channels, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path) as address, alices(address, channels) as older:
            await until(lambda: older.welcome is not None)
            async with alices(address, channels) as newer:
                with pytest.raises(LinkClosed, match=r"superseded: .*give each one a name"):
                    await first(older, 1)
                await newer.send("chat", said("x"))

    asyncio.run(work())
