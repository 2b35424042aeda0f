"""All that goes to Redis: who asks names a shard, and the shard's way does the rest.

One server is one way, and all calls of a turn of the loop are one pipeline. In a cluster each shard has a way of its
own, to the node that has its slot, and goes after it when the slot moves.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AuthenticationError, AuthorizationError, RedisError

from ...errors import EngineError
from .connection import ANSWER_S, AWAY, connect, explain
from .nodes import Nodes
from .reader import ask
from .script import Keys
from .way import Done, Way

__all__ = ["Pipe"]


class Pipe:
    """limits: count, size, age_ms and device_ttl_ms of an inbox. lost: told which shards hold another history now."""

    def __init__(
        self, pool: ConnectionPool, keys: Keys, limits: tuple[int, ...], lost: Callable[[set[int]], None]
    ) -> None:
        self.client = secrets.token_hex(8)
        self.keys = keys
        self.closed = False
        self.up = False
        """Redis answered when it was last asked: all nodes of it that have shards."""
        self.returned: list[Callable[[], None]] = []
        """Called each time when Redis has come back."""
        self._pool = pool
        self._limits = limits
        self._lost = lost
        self._nodes: Nodes | None = None
        self._ways: list[Way] = []
        self._of: list[Way] = []  # by shard

    @property
    def together(self) -> list[Sequence[int]]:
        """The shards that one connection can read at once."""
        return [list(way.shards) for way in self._ways]

    @property
    def lag(self) -> int:
        """Messages in all queues, as far as was told."""
        return sum(shard.lag for way in self._ways for shard in way.shards.values())

    def epoch(self, shard: int) -> str:
        """The name of its history."""
        return self._of[shard].shards[shard].epoch

    def do(self, shard: int, name: bytes, args: tuple[Any, ...], done: Done | None = None, size: int = 0) -> None:
        """Do it soon, behind what was asked for before. size: of its body."""
        self._of[shard].do(shard, name, args, done, size)

    def ask(self, shard: int, name: bytes, *args: Any, size: int = 0) -> asyncio.Future[Any]:
        """The same for who waits. The future raises `EngineError`; at once if Redis is away."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if not self.up or self.closed:
            future.set_exception(self.trouble())
            return future

        def done(result: Any) -> None:
            if future.done():
                return
            if isinstance(result, EngineError):
                future.set_exception(result)
            else:
                future.set_result(result)

        self.do(shard, name, args, done, size)
        return future

    def trouble(self) -> EngineError:
        """Why nothing is taken now."""
        return EngineError("the engine is closed" if self.closed else "Redis is away; it is tried again all the time")

    async def connect(self, shard: int) -> AbstractConnection:
        """A connection of one's own to where the shard is. Raises what is in `AWAY`, or `TimeoutError`."""
        return await connect(self._pool, self._of[shard].place)

    async def open(self) -> None:
        """Connect for the first time. Raises `EngineError`."""
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._open()
        except (*AWAY, TimeoutError, RedisError) as error:
            hint = "is it running, and is [bus] url right?"
            if isinstance(error, (AuthenticationError, AuthorizationError)):
                hint = "are user and password in [bus] url right?"
            raise EngineError(f"Redis can't be used: {explain(error)}; {hint}") from error

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for way in self._ways:
                tasks.create_task(way.run())
            if self._nodes is not None:
                tasks.create_task(self._nodes.follow(partial(self.connect, 0)))

    async def quiet(self) -> None:
        """Until everything that was asked for has been answered."""
        while busy := [way for way in self._ways if not way.idle.is_set()]:
            await busy[0].idle.wait()

    def abandon(self) -> None:
        """Whoever still waits will wait no longer."""
        self.closed = True
        self.up = False
        for way in self._ways:
            way.abandon(self.trouble())

    async def _open(self) -> None:
        shards = range(self.keys.shards)
        together: list[Sequence[int]] = [shards]
        self._nodes = await self._look()
        if self._nodes is not None:
            together = [[shard] for shard in shards]
        self._ways = [
            Way(self._pool, self.client, self.keys, self._limits, group, self._lost, self._changed, self._nodes)
            for group in together
        ]
        self._of = [way for shard in shards for way in self._ways if shard in way.shards]
        async with AsyncExitStack() as unfinished:
            for way in self._ways:
                unfinished.push_async_callback(way.hang_up)
                await way.open()
            unfinished.pop_all()
        self.up = True

    async def _look(self) -> Nodes | None:
        """The nodes, if it is a cluster."""
        connection = await connect(self._pool)
        try:
            if b"cluster_enabled:1" not in await ask(connection, "INFO", "cluster"):
                return None
            nodes = Nodes(self._pool)
            await nodes.learn(connection)
            return nodes
        finally:
            await connection.disconnect(nowait=True)

    def _changed(self) -> None:
        before, self.up = self.up, not self.closed and all(way.up for way in self._ways)
        if self.up and not before:
            for tell in self.returned:
                tell()
