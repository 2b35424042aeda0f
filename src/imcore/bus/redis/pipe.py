"""The way to Redis: operations gather for a turn of the loop and go as one call for each shard, all in one pipeline.

A shard has one call under way at a time; what comes meanwhile gathers for the next. When the connection breaks, what
was on its way is sent again under the same numbers until its fate is known, so nothing is done twice and nobody is told
an untruth. Whether Redis still knows what it once answered is looked at after every break.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections import deque
from collections.abc import Callable
from typing import Any

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as Broken
from redis.exceptions import TimeoutError as Late

from ...errors import EngineError
from .script import Keys, draining_source, source

__all__ = ["AWAY", "Done", "Pipe", "connect", "connect_pool", "explain"]

Done = Callable[[Any], None]
"""Told the result of an operation, or the `EngineError` that came instead."""

AWAY = (Broken, Late, OSError, BusyLoadingError, ClusterDownError, MasterDownError, ReadOnlyError, NoScriptError)
"""What means that Redis is away for now: try again."""
ANSWER_S = 5.0
"""How long a pipeline may take until Redis counts as away."""
PAUSE_S = 1.0
"""The longest pause between two tries to connect, and before what makes room is tried again."""
OPS = 512
"""Operations of one shard in a call."""
LARGE = 2 << 20
"""Bytes of bodies waiting for one shard from which on a call takes less."""

log = logging.getLogger("imcore.bus")


def connect_pool(url: str) -> ConnectionPool:
    """Makes connections, each for one task; what is lost is not tried again below us. Raises `ValueError`."""
    return ConnectionPool.from_url(
        url, protocol=2, socket_timeout=None, socket_connect_timeout=3.0, retry=Retry(NoBackoff(), 0)
    )


async def connect(pool: ConnectionPool) -> AbstractConnection:
    """A connection that nobody else uses. Raises what is in `AWAY`, or `TimeoutError`."""
    connection: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call]  # theirs has no types
    try:
        async with asyncio.timeout(ANSWER_S):
            await connection.connect()  # type: ignore[no-untyped-call]
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return connection


def explain(error: BaseException) -> str:
    """What happened, in a line, and what to do where that is known."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OutOfMemoryError):
        return "Redis has no memory left (maxmemory): give it more"
    if text.startswith("MISCONF"):
        return "Redis can't write to its disk: make room, nothing is confirmed until then"
    return text


class _Shard:
    """What waits for one shard."""

    __slots__ = ("busy", "epoch", "lag", "ops", "position", "size")

    def __init__(self) -> None:
        self.ops: list[tuple[bytes, tuple[Any, ...], Done | None]] = []
        self.size = 0
        self.busy = False  # a call is under way
        self.epoch = ""
        self.position = 0
        self.lag = 0  # messages in its queue


class _Part:
    """A call for one shard."""

    __slots__ = ("drains", "number", "ops", "remember", "shard")

    def __init__(
        self, shard: int, number: int, ops: list[tuple[bytes, tuple[Any, ...], Done | None]], drains: bool = False
    ) -> None:
        self.drains = drains
        self.shard = shard
        self.number = number
        self.ops = ops
        self.remember = any(name == b"append" for name, _, _ in ops)


_GROWS = frozenset([b"put", b"append", b"open", b"claim", b"broadcast", b"say", b"member"])
"""Operations that are not done when Redis has no memory left."""
_MUST = frozenset([b"settle", b"bury", b"taken", b"forget", b"release", b"no_member", b"unlease"])
"""Operations that may come late, but must come."""


class Pipe:
    """limits: count, size, age_ms and device_ttl_ms of an inbox. lost: told which shards hold another history now."""

    def __init__(
        self, pool: ConnectionPool, keys: Keys, limits: tuple[int, ...], lost: Callable[[set[int]], None]
    ) -> None:
        self.client = secrets.token_hex(8)
        self.keys = keys
        self.up = False
        """Redis answered when it was last asked."""
        self.cluster = False
        """Redis is one node of a cluster, and a command may name keys of one slot only."""
        self.closed = False
        self.returned: list[Callable[[], None]] = []
        """Called each time when Redis has come back."""
        self._pool = pool
        self._limits = limits
        self._lost = lost
        self._shards = [_Shard() for _ in range(keys.shards)]
        self._parts: deque[_Part] = deque()  # sent, in order
        self._fresh: deque[_Part] = deque()  # to be sent
        self._sent = asyncio.Event()
        self._gathered = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._number = 0
        self._connection: AbstractConnection | None = None
        self._sha = self._draining_sha = b""

    @property
    def lag(self) -> int:
        """Messages in all queues, as far as was told."""
        return sum(shard.lag for shard in self._shards)

    def epoch(self, shard: int) -> str:
        """The name of its history."""
        return self._shards[shard].epoch

    def do(self, shard: int, name: bytes, args: tuple[Any, ...], done: Done | None = None, size: int = 0) -> None:
        """Do it soon, behind what was asked for before. size: of its body."""
        waiting = self._shards[shard]
        waiting.ops.append((name, args, done))
        waiting.size += size
        if not waiting.busy and not self._gathered.is_set():
            self._idle.clear()
            self._gathered.set()

    def ask(self, shard: int, name: bytes, *args: Any) -> asyncio.Future[Any]:
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

        self.do(shard, name, args, done)
        return future

    def trouble(self) -> EngineError:
        """Why nothing is taken now."""
        return EngineError("the engine is closed" if self.closed else "Redis is away; it is tried again all the time")

    async def open(self) -> None:
        """Connect for the first time. Raises `EngineError`."""
        try:
            async with asyncio.timeout(ANSWER_S):
                self._connection = await self._connect()
        except (*AWAY, TimeoutError, RedisError) as error:
            hint = "is it running, and is [bus] url right?"
            if isinstance(error, (AuthenticationError, AuthorizationError)):
                hint = "are user and password in [bus] url right?"
            raise EngineError(f"Redis can't be used: {explain(error)}; {hint}") from error
        self.up = True

    async def run(self) -> None:
        """Work until cancelled."""
        tries = 0
        try:
            while True:
                try:
                    if self._connection is None:
                        self._connection = await self._reconnect()
                        tries = 0
                    await self._work(self._connection)
                except (*AWAY, TimeoutError, RedisError, EngineError, ExceptionGroup) as error:
                    why = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
                    if not isinstance(why, (*AWAY, TimeoutError, RedisError, EngineError)):
                        log.critical("the way to Redis failed", exc_info=why)
                    elif self.up:
                        log.error("Redis is away: %s", explain(why))
                    self.up = False
                await self._hang_up()
                await asyncio.sleep(random.uniform(0, min(PAUSE_S, 0.05 * 2 ** min(tries, 10))))
                tries += 1
        finally:
            await self._hang_up()

    async def quiet(self) -> None:
        """Until everything that was asked for has been answered."""
        await self._idle.wait()

    def abandon(self) -> None:
        """Whoever still waits will wait no longer."""
        self.closed = True
        self.up = False
        error = self.trouble()
        ops = [op for part in (*self._parts, *self._fresh) for op in part.ops]
        ops += [op for shard in self._shards for op in shard.ops]
        self._parts.clear()
        self._fresh.clear()
        for shard in self._shards:
            shard.ops = []
        _tell(ops, error)
        self._idle.set()

    async def _reconnect(self) -> AbstractConnection:
        async with asyncio.timeout(ANSWER_S):
            connection = await self._connect()
        if not self.up:
            self.up = True
            log.warning("Redis is back")
        for tell in self.returned:
            tell()
        return connection

    async def _connect(self) -> AbstractConnection:
        connection = await connect(self._pool)
        try:
            commands: list[tuple[Any, ...]] = [
                ("SCRIPT", "LOAD", source()),
                ("SCRIPT", "LOAD", draining_source()),
                ("INFO", "cluster"),
                ("INFO", "server"),
            ]
            await connection.send_packed_command(connection.pack_commands(commands))
            self._sha = await connection.read_response()
            self._draining_sha = await connection.read_response()
            self.cluster = b"cluster_enabled:1" in await connection.read_response()
            _check_version(await connection.read_response())
            await self._mark(connection)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def _mark(self, connection: AbstractConnection) -> None:
        """Is this the history that we know?"""
        fresh, count = secrets.token_hex(8), str(self.keys.shards)
        commands = [
            self._command(_Part(number, 0, [(b"mark", (shard.position, shard.epoch, fresh, count), None)]))
            for number, shard in enumerate(self._shards)
        ]
        await connection.send_packed_command(connection.pack_commands(commands))
        changed = set()
        for number, shard in enumerate(self._shards):
            position, _, _, ((epoch, shards, _),) = await connection.read_response()
            if int(shards) != self.keys.shards:
                raise EngineError(
                    f"Redis has {int(shards)} shards of {self.keys.space!r}, and [bus] shards says {count}: the number "
                    f"is fixed when Redis is first used; set it to {int(shards)}"
                )
            if shard.epoch not in ("", epoch.decode()):
                changed.add(number)
            shard.epoch, shard.position = epoch.decode(), position
        if changed:
            log.error("Redis has lost its newest messages: %d shards have a new epoch, clients are told", len(changed))
            self._lost(changed)

    async def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    async def _work(self, connection: AbstractConnection) -> None:
        """Write and read at the same time. A shard has one call under way; different shards overlap."""
        again, self._parts = self._parts, deque()
        self._fresh.extendleft(reversed(again))
        self._gathered.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write(connection))
            tasks.create_task(self._read(connection))

    async def _write(self, connection: AbstractConnection) -> None:
        while True:
            await self._gathered.wait()
            self._gathered.clear()
            self._gather()
            if self._fresh:
                parts = list(self._fresh)
                self._fresh.clear()
                self._parts.extend(parts)
                self._sent.set()
                await connection.send_packed_command(
                    connection.pack_commands([self._command(part) for part in parts]), check_health=False
                )

    async def _read(self, connection: AbstractConnection) -> None:
        parts = self._parts
        while True:
            if not parts:
                if not any(shard.ops or shard.busy for shard in self._shards):
                    self._idle.set()
                self._sent.clear()
                await self._sent.wait()
            try:
                async with asyncio.timeout(ANSWER_S):
                    answer = await connection.read_response(disconnect_on_error=False)
            except OutOfMemoryError as error:
                self._drain(parts.popleft(), error)
            except AWAY:
                raise
            except ResponseError as error:
                part = parts.popleft()
                self._failed(part, error)
                asyncio.get_running_loop().call_later(PAUSE_S / 5, self._free, self._shards[part.shard])
            else:
                part = parts.popleft()
                changed = self._landed(part, answer)
                self._free(self._shards[part.shard])
                if changed:
                    raise Broken("it is not where it was in its history")

    def _free(self, shard: _Shard) -> None:
        """What gathered meanwhile may go."""
        shard.busy = False
        if shard.ops:
            self._gathered.set()

    def _gather(self) -> None:
        for number, shard in enumerate(self._shards):
            if shard.busy or not shard.ops:
                continue
            most = OPS if shard.size < LARGE else OPS // 16
            ops, shard.ops = shard.ops[:most], shard.ops[most:]
            if not shard.ops:
                shard.size = 0
            shard.busy = True
            self._number += 1
            self._fresh.append(_Part(number, self._number, ops))

    def _command(self, part: _Part) -> tuple[Any, ...]:
        words: list[Any] = [
            "EVALSHA", self._draining_sha if part.drains else self._sha, 1, self.keys.meta(part.shard),
            self.client, part.number, int(part.remember), *self._limits,
        ]  # fmt: skip
        for name, args, _ in part.ops:
            words.append(name)
            words.append(len(args))
            words += args
        return tuple(words)

    def _drain(self, part: _Part, error: OutOfMemoryError) -> None:
        """Redis has no memory: what does not grow is done nevertheless, the rest fails."""
        rest = [op for op in part.ops if op[0] not in _GROWS]
        part.ops = [op for op in part.ops if op[0] in _GROWS]
        self._failed(part, error)
        if rest:
            self._number += 1
            self._fresh.append(_Part(part.shard, self._number, rest, drains=True))
            self._gathered.set()
        else:
            self._free(self._shards[part.shard])

    def _landed(self, part: _Part, answer: Any) -> bool:
        """Tell everybody; True if Redis is not where it should be in its history."""
        shard = self._shards[part.shard]
        position, shard.lag, epoch, results = answer
        changed: bool = position <= shard.position or epoch.decode() != shard.epoch
        shard.position = max(shard.position, position)
        for (_, _, done), result in zip(part.ops, results, strict=True):
            if done is not None:
                _call(done, EngineError(explain(result)) if isinstance(result, Exception) else result)
            elif isinstance(result, Exception):
                log.error("an operation on Redis failed: %s", result)
        return changed

    def _failed(self, part: _Part, why: ResponseError) -> None:
        """Nothing of it was done. What gathered behind it fails with it, so that order holds; what must come waits."""
        shard, error = self._shards[part.shard], EngineError(explain(why))
        ops, shard.ops, shard.size = part.ops + shard.ops, [], 0
        shard.ops = [op for op in ops if op[0] in _MUST]
        _tell([op for op in ops if op[0] not in _MUST], error)


def _tell(ops: list[tuple[bytes, tuple[Any, ...], Done | None]], result: EngineError) -> None:
    for _, _, done in ops:
        if done is not None:
            _call(done, result)


def _call(done: Done, result: Any) -> None:
    try:
        done(result)
    except Exception:
        log.exception("somebody failed on an answer of Redis")


def _check_version(info: bytes) -> None:
    for line in info.decode().splitlines():
        if line.startswith("redis_version:"):
            version = line.partition(":")[2]
            if int(version.partition(".")[0]) < 7:
                raise EngineError(f"Redis {version}: expected 7.0 or newer, or Valkey")
