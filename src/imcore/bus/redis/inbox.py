"""The inbox: a stream for each user, numbered without gaps, kept until all devices that count have taken it in.

All of it is in Redis; this process holds nothing but what is on its way there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from ...errors import EngineError
from ...messages import Resume
from ..ports import Opening, Stored, Wake
from .consumer import Consumer
from .pipe import Pipe
from .push import RedisPush
from .queue import RedisQueue

__all__ = ["RedisInbox"]

LAZY_S = 0.02
"""How long what devices have taken waits for more of it."""


class RedisInbox:
    """Follows `ports.Inbox`."""

    def __init__(self, pipe: Pipe, queue: RedisQueue, consumer: Consumer, push: RedisPush) -> None:
        self._pipe = pipe
        self._queue = queue
        self._consumer = consumer
        self._push = push
        self._loop = asyncio.get_running_loop()
        self._taken: dict[tuple[str, str], int] = {}
        self._asking: dict[str, set[Callable[[int], None]]] = {}
        self._changed: list[Callable[[Callable[[str], bool]], None]] = []

    def attach(self, changed: Callable[[Callable[[str], bool]], None]) -> None:
        """Be told when inboxes have lost their history."""
        self._changed.append(changed)

    def lost(self, shards: set[int]) -> None:
        """These shards hold another history."""
        for tell in self._changed:
            tell(lambda user: self._pipe.keys.shard(user) in shards)

    async def open(self, user: str, device: str, resume: Resume | None, fresh: str, *, down: bool = True) -> Opening:
        """A device comes. Raises `EngineError`."""
        shard = self._shard(user)
        self._flush()
        epoch, seq = (resume.epoch, resume.seq) if resume is not None else ("", b"")
        head, first, resumed, accepted = await self._pipe.ask(
            shard, b"open", user, device, epoch, seq, fresh, int(down)
        )
        self._queue.knows(user, device, int(accepted))
        return Opening(self._pipe.epoch(shard), head, first, bool(resumed), int(accepted))

    def append(self, user: str, route: str, body: bytes, key: str | None = None) -> asyncio.Future[int]:
        """Append: the number, once Redis has it. Fails with `EngineError`."""
        future: asyncio.Future[int] = self._loop.create_future()
        pipe = self._pipe
        if not pipe.up:
            future.set_exception(pipe.trouble())
            return future
        try:
            shard = self._shard(user)
        except EngineError as error:
            future.set_exception(error)
            return future
        own = b"1"
        if key is not None and self._consumer.holds(key):
            own = b"0"
            self._consumer.answered(key, user)
        args = (user, route, body, key or b"", own, self._push.here)
        pipe.do(shard, b"append", args, partial(self._appended, future, user, route, body), len(body))
        return future

    async def read(self, user: str, after: int, count: int, size: int) -> list[Stored]:
        """The messages after number `after`. Waits while Redis is away; raises `EngineError` if it can't be read."""
        shard = self._shard(user)
        self._flush()
        found: list[Stored] = []
        while len(found) < count:
            part = min(count - len(found), 128)
            entries = await self._pipe.ask(shard, b"read", user, after, part)
            for entry, fields in entries:
                after = int(entry.partition(b"-")[0])
                size -= len(fields[3])
                if found and size < 0:
                    return found
                found.append(Stored(after, fields[1].decode(), fields[3]))
            if len(entries) < part:
                break
        return found

    def newest(self, user: str, then: Callable[[int], None]) -> None:
        """The newest number, from Redis; never while it is away. One question for a user is on its way at a time: who
        asks meanwhile is answered by the next."""
        if (waiting := self._asking.get(user)) is not None:
            waiting.add(then)
        elif self._pipe.up:
            self._ask(user, {then})

    def _ask(self, user: str, asked: set[Callable[[int], None]]) -> None:
        self._asking[user] = set()
        self._pipe.do(self._shard(user), b"head", (user,), partial(self._told, user, asked))

    def _told(self, user: str, asked: set[Callable[[int], None]], result: Any) -> None:
        if (waiting := self._asking.pop(user)) and self._pipe.up:
            self._ask(user, waiting)
        if not isinstance(result, EngineError):
            for then in asked:
                then(result)

    def taken(self, user: str, device: str, seq: int) -> None:
        """The device has taken in everything up to `seq`."""
        if not self._taken:
            self._loop.call_later(LAZY_S, self._flush)
        self._taken[user, device] = max(seq, self._taken.get((user, device), 0))

    def flush(self) -> None:
        """Nothing waits here any longer."""
        self._flush()

    def _flush(self) -> None:
        taken, self._taken = self._taken, {}
        for (user, device), seq in taken.items():
            self._pipe.do(self._pipe.keys.shard(user), b"taken", (user, device, seq))

    def _appended(self, future: asyncio.Future[int], user: str, route: str, body: bytes, result: Any) -> None:
        if isinstance(result, EngineError):
            if not future.done():
                future.set_exception(result)
            return
        if result > 0:
            self._push.wake(Wake(user, result, route, body))
        if not future.done():
            future.set_result(abs(result))

    def _shard(self, user: str) -> int:
        try:
            return self._pipe.keys.shard(user)
        except UnicodeEncodeError as error:
            raise EngineError(f"user {user!r}: expected text that UTF-8 can carry: {error.reason}") from None
