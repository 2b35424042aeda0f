"""The engine for more than one process or machine: all ports on Redis 7 or newer, or Valkey.

`pipe` and its `way`s lead to Redis and `lua/` is what is done there; `queue`, `inbox`, `routes`, `push` and `loads` are
the ports. `consumer` takes messages out of the queue for services, `services` knows who serves what.
"""

from __future__ import annotations

import asyncio
import logging

from redis.exceptions import RedisError

from ...errors import EngineError
from .connection import connect_pool
from .consumer import Consumer
from .inbox import RedisInbox
from .loads import RedisLoads
from .pipe import Pipe
from .push import RedisPush
from .queue import RedisQueue
from .reader import ask
from .routes import RedisRoutes
from .script import Keys
from .services import Services

__all__ = ["RedisBus"]

TICK_S = 1.0
AGE_TICKS = 60
CLOSE_S = 5.0
"""How long the end waits for a Redis that does not answer."""

log = logging.getLogger("imcore.bus")


class RedisBus:
    """The engine (see `ports.Bus`). url: of Redis, as redis-py reads it. space: what all keys begin with. shards: fixed
    when Redis is first used; as many processes can serve at most.

    Limits of an inbox: `inbox_count` messages, `inbox_size` bytes, `inbox_age_s` seconds; a device unseen for
    `device_ttl_s` seconds holds nothing back. `backlog` messages wait for their service at most.
    """

    queue: RedisQueue
    inbox: RedisInbox
    routes: RedisRoutes
    push: RedisPush
    loads: RedisLoads

    def __init__(
        self,
        url: str,
        *,
        space: str = "imcore",
        shards: int = 8,
        inbox_count: int = 10_000,
        inbox_size: int = 64 << 20,
        inbox_age_s: float = 30 * 86_400,
        device_ttl_s: float = 30 * 86_400,
        backlog: int = 250_000,
    ) -> None:
        self._keys = Keys(space, shards)
        try:
            self._pool = connect_pool(url)
        except ValueError as error:
            raise EngineError(f"[bus] url {url!r}: {error}") from None
        self._limits = inbox_count, inbox_size, int(inbox_age_s * 1000), int(device_ttl_s * 1000)
        self._backlog = backlog
        self._pipe: Pipe | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._tick: asyncio.TimerHandle | None = None
        self._ticks = 0

    async def start(self) -> None:
        """Connect. Raises `EngineError`."""
        loop = asyncio.get_running_loop()
        self._pipe = pipe = Pipe(self._pool, self._keys, self._limits, self._lost)
        self._services = services = Services(pipe)
        self._consumer = consumer = Consumer(pipe, services)
        self.push = RedisPush(pipe)
        self.queue = RedisQueue(pipe, consumer, services, self._backlog)
        self.inbox = RedisInbox(pipe, self.queue, consumer, self.push)
        self.routes = RedisRoutes(pipe, self.push, services)
        self.loads = RedisLoads(pipe)
        await pipe.open()
        await self._look_around(pipe)
        self._tasks = [loop.create_task(pipe.run()), loop.create_task(self.loads.read())]
        for shards in pipe.together:
            self._tasks.append(loop.create_task(consumer.read(shards)))
            self._tasks.append(loop.create_task(self.push.read(shards)))
        services.tell()
        await pipe.quiet()
        pipe.returned.append(self._work)
        self._tick = loop.call_later(TICK_S, self._ticked)

    async def close(self) -> None:
        """Everything that was handed over is in Redis, or is told that it is not. What comes later is refused."""
        pipe = self._pipe
        if pipe is None or pipe.closed:
            return
        if self._tick is not None:
            self._tick.cancel()
        self.inbox.flush()
        try:
            async with asyncio.timeout(CLOSE_S if pipe.up else 0):
                await pipe.quiet()
                self._consumer.close()
                self.push.close()
                if self._services.mine is not None:
                    pipe.do(0, b"unserve", ())
                await pipe.quiet()
        except TimeoutError:
            log.error("Redis did not answer at the end")
        pipe.abandon()
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    def _work(self) -> None:
        """What comes again and again while Redis is there."""
        self._services.tell()
        self._consumer.tick()
        self.push.tick()
        self.routes.tick()
        if self._consumer.consumes and self.routes.presence_wanted:
            self.routes.look_for_the_gone()

    def _ticked(self) -> None:
        pipe = self._pipe
        assert pipe is not None
        if pipe.up:
            self._work()
            if self._ticks % AGE_TICKS == 0:
                for shard in range(self._keys.shards):
                    pipe.do(shard, b"age", (100,))
        self._ticks += 1
        self._tick = asyncio.get_running_loop().call_later(TICK_S, self._ticked)

    def _lost(self, shards: set[int]) -> None:
        self.queue.forget_all()
        self._consumer.lost()
        self.push.lost(shards)
        self.inbox.lost(shards)

    async def _look_around(self, pipe: Pipe) -> None:
        try:
            connection = await pipe.connect(0)
            try:
                await self.loads.begin(connection)
                _, appends = await ask(connection, "CONFIG", "GET", "appendonly")
            finally:
                await connection.disconnect(nowait=True)
        except (RedisError, ValueError, OSError, TimeoutError):
            return  # it is not for us to know
        if appends != b"yes":
            log.warning("Redis keeps nothing (appendonly no): what was acknowledged is lost when it restarts")
