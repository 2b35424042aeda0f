"""The embedded engine: all ports on one SQLite file in one process, nothing to install.

`store` has the SQL threads, `journal` makes batches durable, `fold` brings them to the tables, `users` is what memory
holds, `recover` what a start does; `queue`, `inbox`, `routes`, `push` and `loads` are the ports. `dead` keeps what
handlers failed on, `audit` counts everything again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import Mapping, Sequence

from ...errors import EngineError
from ...messages import Refusal
from ..ports import PRESENCE, Check, Nobody
from .core import Core
from .dead import open_requests
from .fold import Fold
from .inbox import EmbeddedInbox
from .journal import Down, Journal, Up
from .loads import LocalLoads
from .push import LocalPush
from .queue import RETRY_MS, EmbeddedQueue
from .recover import Recovered, begin_to_count, dirty, recover
from .routes import MemoryRoutes
from .store import Reader, Store, Writer
from .users import Limits

__all__ = ["EmbeddedBus"]

TICK_S = 1.0
SWEEP = 1024
"""Users that one tick looks at, to drop who was idle for a round."""
AGE_TICKS = 60
MARK_TICKS = 10
"""How often the mark follows the database: an older copy is recognised if it is older by more than this."""
REQUESTS = 256
"""Requests that one tick takes on."""

log = logging.getLogger("imcore.bus")


class EmbeddedBus:
    """The engine (see `ports.Bus`). `data` is its folder, which one process owns at a time.

    Limits of an inbox: `inbox_count` messages, `inbox_size` bytes, `inbox_age_s` seconds; a device unseen for
    `device_ttl_s` seconds holds nothing back. `backlog` messages of `backlog_size` bytes wait for their service at
    most, then the queue refuses. `counters` counts what happened.
    """

    queue: EmbeddedQueue
    inbox: EmbeddedInbox
    routes: MemoryRoutes
    push: LocalPush
    loads: LocalLoads

    def __init__(
        self,
        data: str | os.PathLike[str],
        *,
        node: str = "imcore",
        inbox_count: int = 10_000,
        inbox_size: int = 64 << 20,
        inbox_age_s: float = 30 * 86_400,
        device_ttl_s: float = 30 * 86_400,
        backlog: int = 250_000,
        backlog_size: int = 256 << 20,
    ) -> None:
        self._store = Store(data, node)
        self._limits = Limits(inbox_count, inbox_size, int(inbox_age_s * 1000), int(device_ttl_s * 1000))
        self._backlog = backlog, backlog_size
        self._core: Core | None = None
        self._tick: asyncio.TimerHandle | None = None
        self._ticks = 0
        self._age_at = 0
        self._aging: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self.routes = MemoryRoutes()
        self.push = LocalPush()
        self.loads = LocalLoads()

    @property
    def counters(self) -> dict[str, int]:
        """What happened so far; the names are `core.COUNTERS`."""
        return dict(self._started.counters)

    @property
    def _started(self) -> Core:
        if self._core is None:
            raise EngineError("the engine was not started: await start() first")
        return self._core

    async def start(self) -> None:
        """Open the folder and bring back what an earlier process left. Raises `EngineError`."""
        loop = asyncio.get_running_loop()
        writing, reading, left = await asyncio.to_thread(self._open)
        journal = Journal(loop, self._landed, self._failed)
        journal.writer = Writer(writing, loop, journal.done)
        journal.last, journal.entry = left.last, left.entry
        journal.tallied = lambda batch, tally: fold.tallies.append((batch, tally)) if any(tally) else None
        fold = Fold(left.unsettled, lambda: journal.size, lambda: journal.entry)
        fold.dirty, fold.stored, fold.gone = dirty(left.users), left.stored, left.gone
        fold.oldest, fold.last, fold.tallies = left.oldest, left.last, left.tallies
        reader = Reader(reading, loop)
        core = Core(loop, left.users, self._limits, journal, fold, reader, left.dead_keys, left.totals())
        self._core = core
        self.queue = EmbeddedQueue(core, left.unsettled, *self._backlog)
        self.queue.consumed = self._serves
        self.inbox = EmbeddedInbox(core, self._store.epoch, left.unsettled, self.routes.connected, self.push.wake)
        for user in left.users.values():
            self.inbox.settle_floor(user)
        journal.steps = fold.step
        self._tick = loop.call_later(TICK_S, self._ticked)

    async def close(self) -> None:
        """Make durable what was handed over, and let go of the folder. What comes later is refused."""
        core = self._core
        if core is None or core.closing:
            return
        await core.gathered()
        core.closing = True
        if self._tick is not None:
            self._tick.cancel()
        work = [task for task in (self._aging, self._looking) if task is not None]
        for task in work:
            task.cancel()
        if work:
            await asyncio.wait(work)
        core.journal.crowded = lambda: False
        await core.journal.quiet()
        await core.reader.close()
        core.abandon()
        assert core.journal.writer is not None
        await core.journal.writer.close()
        self._store.mark(core.fold.last)
        self._store.release()

    def _serves(self, routes: Mapping[str, Check | None]) -> None:
        if PRESENCE in routes:
            self.routes.put = lambda message: self.queue.put(message, Nobody())

    def _open(self) -> tuple[sqlite3.Connection, sqlite3.Connection, Recovered]:
        writing = self._store.open()
        try:
            left = recover(writing, self._limits)
            if not left.counters:
                begin_to_count(writing, left)
            elif self._store.set_back(writing, left.last):
                log.warning(
                    "%s is an older copy than the one that was here: its epoch changes, and clients are told that "
                    "messages are missing", self._store.file
                )  # fmt: skip
            self._store.mark(left.last)
            return writing, self._store.reader(), left
        except BaseException as error:
            writing.close()
            self._store.release()
            if isinstance(error, sqlite3.Error):
                raise self._store.unreadable(error) from error
            raise

    def _landed(self, up: Up, down: Down) -> None:
        core = self._started
        core.fold.last = core.journal.last
        self.inbox.landed(down)
        self.queue.landed(up)
        if core.fold.due:
            core.journal.soon()

    def _failed(self, ups: Sequence[Up], downs: Sequence[Down], error: Exception) -> None:
        text = f"the disk did not take it: {error}"
        self.inbox.failed(downs, EngineError(text))
        self.queue.failed(ups, Refusal("overloaded", text, RETRY_MS))

    def _ticked(self) -> None:
        core = self._started
        core.clock.tick()
        core.users.sweep(min(SWEEP, 1 + len(core.users) // 16))
        if core.fold.due:
            core.journal.soon()
        if self._ticks % MARK_TICKS == MARK_TICKS - 1:
            core.loop.run_in_executor(None, self._store.mark, core.fold.last)
        if self._ticks >= self._age_at and (self._aging is None or self._aging.done()):
            self._age_at = self._ticks + AGE_TICKS
            self._aging = core.loop.create_task(self._age())
        if self._looking is None or self._looking.done():
            self._looking = core.loop.create_task(self._look_for_requests())
        self._ticks += 1
        self._tick = core.loop.call_later(TICK_S, self._ticked)

    async def _look_for_requests(self) -> None:
        """What somebody asks for about dead letters (`dead.ask`)."""
        try:
            requests = await self._started.reader.ask(lambda connection: open_requests(connection, REQUESTS))
        except EngineError as error:
            log.error("requests about dead letters were not looked for: %s", error)
            return
        for request in requests:
            self.queue.fulfil(request)

    async def _age(self) -> None:
        try:
            self._age_at = self._ticks + (1 if await self.inbox.expire_aged() else AGE_TICKS)
        except EngineError as error:
            log.error("over-aged messages were not looked for: %s", error)
