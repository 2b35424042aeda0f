"""One way to Redis: a connection, and the shards whose calls go over it, all in one pipeline.

Operations gather for a turn of the loop and go as one call for each shard. A shard has one call under way at a time;
what comes meanwhile gathers for the next. When the connection breaks, what was on its way is sent again under the same
numbers until its fate is known, so nothing is done twice and nobody is told an untruth. Whether Redis still knows what
it once answered is looked at after every break.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import MovedError, OutOfMemoryError, RedisError, ResponseError, TryAgainError

from ...errors import EngineError
from .connection import ANSWER_S, AWAY, MOVING, Broken, Place, check_version, connect, explain
from .nodes import Nodes
from .packing import pack
from .script import Keys, draining_source, source

__all__ = ["Done", "Way"]

Done = Callable[[Any], None]
"""Told the result of an operation, or the `EngineError` that came instead."""

FIRST_PAUSE_S = 0.05
"""Before it is tried to connect again; the next ones are longer."""
PAUSE_S = 1.0
"""The longest pause between two tries to connect, and before what makes room is tried again."""
OPS = 512
"""Operations of one shard in a call."""
LARGE = 2 << 20
"""Bytes of bodies waiting for one shard from which on a call takes less."""
FORMAT = 1
"""Of what is kept. A version that only adds fields and kinds keeps it: older ones read past them."""
MOVES = 5
"""How often a new connection is led on to another node of a cluster before it is tried again later."""

log = logging.getLogger("imcore.bus")


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


class Way:
    """client: this process's name in Redis. limits: count, size, age_ms and device_ttl_ms of an inbox. shards: those
    that go this way. lost: told which shards hold another history now. changed: called when Redis goes, and when it has
    come back. nodes: of a cluster; None: it is none."""

    def __init__(
        self,
        pool: ConnectionPool,
        client: str,
        keys: Keys,
        limits: tuple[int, ...],
        shards: Iterable[int],
        lost: Callable[[set[int]], None],
        changed: Callable[[], None],
        nodes: Nodes | None,
    ) -> None:
        self.up = False
        """Redis answered when it was last asked."""
        self.closed = False
        self.place: Place | None = None
        """Where these shards are, None: where the url says."""
        self.shards = {number: _Shard() for number in shards}
        self._pool = pool
        self._client = client
        self._keys = keys
        self._limits = limits
        self._lost = lost
        self._changed = changed
        self._nodes = nodes
        self._parts: deque[_Part] = deque()  # sent, in order
        self._fresh: deque[_Part] = deque()  # to be sent
        self._sent = asyncio.Event()
        self._gathered = asyncio.Event()
        self.idle = asyncio.Event()
        """Set while everything that was asked for has been answered."""
        self.idle.set()
        self._number = 0
        self._connection: AbstractConnection | None = None
        self._moves_since: float | None = None  # loop.time()
        self._sha = self._draining_sha = b""

    def do(self, shard: int, name: bytes, args: tuple[Any, ...], done: Done | None = None, size: int = 0) -> None:
        """Do it soon, behind what was asked for before. size: of its body."""
        waiting = self.shards[shard]
        waiting.ops.append((name, args, done))
        waiting.size += size
        if not waiting.busy and not self._gathered.is_set():
            self.idle.clear()
            self._gathered.set()

    async def open(self) -> None:
        """Connect for the first time; while the slot moves, wait. Raises `EngineError`, what is in `AWAY`, or
        `RedisError`."""
        while self._connection is None:
            try:
                self._connection = await self._connect()
            except MOVING:
                await asyncio.sleep(FIRST_PAUSE_S)
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
                    self._seek(why)
                    if not self._only_moves(why):
                        self._gone(why)
                await self.hang_up()
                await asyncio.sleep(random.uniform(0, min(PAUSE_S, FIRST_PAUSE_S * 2 ** min(tries, 10))))
                tries += 1
        finally:
            await self.hang_up()

    async def hang_up(self) -> None:
        """No connection is left."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    def abandon(self, error: EngineError) -> None:
        """Whoever still waits is told this, and waits no longer."""
        self.closed = True
        self.up = False
        ops = [op for part in (*self._parts, *self._fresh) for op in part.ops]
        ops += [op for shard in self.shards.values() for op in shard.ops]
        self._parts.clear()
        self._fresh.clear()
        for shard in self.shards.values():
            shard.ops = []
        _tell(ops, error)
        self.idle.set()

    def _seek(self, why: Exception) -> None:
        """In a cluster: where the next try goes."""
        if self._nodes is None:
            return
        if isinstance(why, MovedError):
            self.place = self._nodes.moved(why, self.place)
        elif self._connection is None and not isinstance(why, MOVING):  # that node did not even let us in
            self.place = self._nodes.another(self.place)

    def _only_moves(self, why: Exception) -> bool:
        """The slot moves: that may take as long as any other answer."""
        if not self.up or not isinstance(why, MOVING):
            return False
        now = asyncio.get_running_loop().time()
        if self._moves_since is None:
            self._moves_since = now
        return now < self._moves_since + ANSWER_S

    def _gone(self, why: Exception) -> None:
        """Redis is away."""
        if not isinstance(why, (*AWAY, TimeoutError, RedisError, EngineError)):
            log.critical("the way to Redis failed", exc_info=why)
        elif self.up:
            log.error("Redis is away: %s", explain(why))
        self.up = False
        self._changed()

    async def _reconnect(self) -> AbstractConnection:
        async with asyncio.timeout(ANSWER_S):
            connection = await self._connect()
        self._moves_since = None
        if not self.up:
            self.up = True
            log.warning("Redis is back")
        self._changed()
        return connection

    async def _connect(self) -> AbstractConnection:
        for _ in range(MOVES):
            connection = await connect(self._pool, self.place)
            try:
                await self._prepare(connection)
            except MovedError as error:
                await connection.disconnect(nowait=True)
                self._seek(error)
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
            else:
                return connection
        raise TryAgainError("the nodes of the cluster do not agree on where a slot is")

    async def _prepare(self, connection: AbstractConnection) -> None:
        commands: list[tuple[Any, ...]] = [
            ("SCRIPT", "LOAD", source()),
            ("SCRIPT", "LOAD", draining_source()),
            ("INFO", "server"),
        ]
        await connection.send_packed_command(connection.pack_commands(commands))
        self._sha = await connection.read_response()
        self._draining_sha = await connection.read_response()
        check_version(await connection.read_response())
        await self._mark(connection)

    async def _mark(self, connection: AbstractConnection) -> None:
        """Is this the history that we know?"""
        fresh, count = secrets.token_hex(8), str(self._keys.shards)
        commands = [
            self._command(_Part(number, 0, [(b"mark", (shard.position, shard.epoch, fresh, count, FORMAT), None)]))
            for number, shard in self.shards.items()
        ]
        await connection.send_packed_command(connection.pack_commands(commands))
        changed = set()
        for number, shard in self.shards.items():
            position, _, _, ((epoch, shards, _, kept),) = await connection.read_response()
            if int(kept) > FORMAT:
                raise EngineError(
                    f"Redis has {self._keys.space!r} in format {int(kept)}, and this version reads {FORMAT}: install a "
                    f"newer one, or use another [bus] space"
                )
            if int(shards) != self._keys.shards:
                raise EngineError(
                    f"Redis has {int(shards)} shards of {self._keys.space!r}, and [bus] shards says {count}: the "
                    f"number is fixed when Redis is first used; set it to {int(shards)}"
                )
            if shard.epoch not in ("", epoch.decode()):
                changed.add(number)
            shard.epoch, shard.position = epoch.decode(), position
        if changed:
            log.error("Redis has lost its newest messages: %d shards have a new epoch, clients are told", len(changed))
            self._lost(changed)

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
                packed = b"".join([pack(self._command(part)) for part in parts])
                await connection.send_packed_command(packed, check_health=False)

    async def _read(self, connection: AbstractConnection) -> None:
        parts = self._parts
        while True:
            if not parts:
                if not any(shard.ops or shard.busy for shard in self.shards.values()):
                    self.idle.set()
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
                asyncio.get_running_loop().call_later(PAUSE_S / 5, self._free, self.shards[part.shard])
            else:
                part = parts.popleft()
                changed = self._landed(part, answer)
                self._free(self.shards[part.shard])
                if changed:
                    raise Broken("it is not where it was in its history")

    def _free(self, shard: _Shard) -> None:
        """What gathered meanwhile may go."""
        shard.busy = False
        if shard.ops:
            self._gathered.set()

    def _gather(self) -> None:
        for number, shard in self.shards.items():
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
            "EVALSHA", self._draining_sha if part.drains else self._sha, 2, *self._keys.named(part.shard),
            self._client, part.number, int(part.remember), *self._limits,
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
            self._free(self.shards[part.shard])

    def _landed(self, part: _Part, answer: Any) -> bool:
        """Tell everybody; True if Redis is not where it should be in its history."""
        shard = self.shards[part.shard]
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
        shard, error = self.shards[part.shard], EngineError(explain(why))
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
