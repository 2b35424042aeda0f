"""The engines that the suite runs against, and what a test needs around one: links, handlers, waiting."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import uvloop

from imcore.bus.embedded import EmbeddedBus
from imcore.bus.ports import Bus, Uplink, Wake
from imcore.bus.redis import RedisBus
from imcore.bus.redis.pipe import Pipe
from imcore.messages import Refusal
from tests import redis_server

__all__ = ["ENGINES", "SHARDS", "Engine", "Link", "Taker", "away", "back", "pipe", "run", "until", "uplink", "watched"]


SHARDS = 4

Engine = Callable[..., Bus]
"""Makes a bus of a folder, and its limits by name; two buses of one folder see the same data, one after the other."""


def on_redis(cluster: bool, data: str | os.PathLike[str], **limits: Any) -> Bus:
    """On a server that all tests share, in a space that belongs to the folder."""
    if redis_server.missing is not None:
        pytest.skip(redis_server.missing)
    return RedisBus(redis_server.shared(cluster).url, space=f"test {os.fspath(data)}", shards=SHARDS, **limits)


@asynccontextmanager
async def watched(url: str, space: str, shards: int) -> AsyncIterator[tuple[RedisBus, list[object]]]:
    """An engine on Redis, and whose history was lost: of each time."""
    bus, lost = RedisBus(url, space=space, shards=shards), list[object]()
    await bus.start()
    bus.inbox.attach(lost.append)
    try:
        yield bus, lost
    finally:
        await bus.close()


def pipe(bus: Bus) -> Pipe:
    """What is between an open engine and Redis."""
    assert isinstance(bus, RedisBus)
    assert bus._pipe is not None
    return bus._pipe


ENGINES: dict[str, Engine] = {
    "embedded": EmbeddedBus,
    "redis": partial(on_redis, False),
    "redis-cluster": partial(on_redis, True),
}


class Link:
    """A sink that remembers what it was told."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Refusal | None]] = []

    def objection(self) -> Refusal | None:
        """None."""
        return None

    def answered(self, id: int, refusal: Refusal | None) -> None:
        """Note it."""
        self.answers.append((id, refusal))

    @property
    def durable(self) -> list[int]:
        """The numbers that were confirmed, in the order of the answers."""
        return [id for id, refusal in self.answers if refusal is None]


class Taker:
    """Takes messages and wake-ups, and settles nothing by itself."""

    def __init__(self) -> None:
        self.messages: list[Uplink] = []
        self.wakes: list[Wake] = []
        self.rooms: list[tuple[str, bytes]] = []

    def take(self, messages: Sequence[Uplink]) -> None:
        """For `consume`."""
        self.messages += messages

    async def took(self, count: int) -> list[Uplink]:
        """So many messages, once they are here."""
        await until(lambda: len(self.messages) >= count, f"{count} messages to be handed over")
        return self.messages

    def attach(self, bus: Bus, node: str = "n") -> Taker:
        """Listen to the pushes and take the route `chat`."""
        bus.push.attach(node, self.wakes.extend, lambda room, body: self.rooms.append((room, body)))
        bus.queue.consume({"chat": None}, self.take)
        return self


def uplink(id: int, *, user: str = "alice", device: str = "phone", route: str = "chat", body: bytes = b"") -> Uplink:
    """A message as the gateway would hand it over."""
    return Uplink(user, device, id, route, body or b"body %d" % id, 1_700_000_000_000)


async def until(holds: Callable[[], bool], what: str = "the condition", timeout_s: float = 10.0) -> None:
    """Wait until it holds."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not holds():
        assert asyncio.get_running_loop().time() < deadline, f"waited {timeout_s} s in vain for {what}"
        await asyncio.sleep(0.002)


async def away(bus: Bus) -> None:
    """Until the engine has noticed that its Redis is."""
    await until(lambda: not pipe(bus).up, "the engine to notice that Redis is away")


async def back(bus: Bus) -> None:
    """Until the engine has found its Redis again, which may have to start first."""
    await until(lambda: pipe(bus).up, "the engine to notice that Redis is back", 20)


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine on the loop that a node runs on."""
    uvloop.run(asyncio.wait_for(main, 50))
