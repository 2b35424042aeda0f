"""The journal: what happened, batch by batch, and the rhythm in which batches become durable.

A batch gathers what comes in a turn of the loop and while the batch before it is on its way to the disk. It is one row
of the journal: one statement, one sync, whatever its size and however many users it touches. The tables follow later
and in small steps (`fold`), so that a message which is delivered at once never costs a row. What came behind a batch
that could not be written is refused with it: nobody's numbers get a hole.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from ...errors import EngineError
from ..ports import Sink, Uplink, Wake
from .fold import Step
from .store import Statement, Writer
from .users import Device, User

__all__ = ["Batch", "Journal", "Records", "decode", "now_ms"]

BATCH = 1024
"""Messages in a batch at most: what the loop does at once when it is durable, some milliseconds' worth."""
LAZY_S = 0.5
"""How long what nobody waits for (settled, taken) may wait for a batch that has to be written anyway."""
JOURNAL = "INSERT INTO journal VALUES (?, ?)"

log = logging.getLogger("imcore.bus")


class Records(msgspec.Struct, array_like=True, gc=False):
    """A row of the journal, replayed in this order. Applying it twice, or to newer tables, changes nothing."""

    marks: list[tuple[str, str, int, int]]
    """Device and cursor: user, device, taken, seen_ms."""
    puts: list[Uplink]
    withdrawn: list[tuple[str, str, int]]
    appended: list[Wake]
    keys: list[str | None]
    settled: list[int]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Records)


def decode(row: bytes) -> Records:
    """A row of the journal; raises `EngineError` if it is damaged."""
    try:
        return _decoder.decode(row)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EngineError(f"the journal has a damaged row: {error}; bring back a copy of the file") from error


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Batch:
    """What becomes durable together. Parallel lists, because a list costs less than an object for each message."""

    __slots__ = ("answers", "appended", "followers", "futures", "keys", "owners", "puts", "withdrawn")

    def __init__(self) -> None:
        self.answers: list[tuple[Sink, int, Device]] = []
        self.puts: list[Uplink] = []
        self.withdrawn: list[tuple[str, str, int]] = []
        self.appended: list[Wake] = []
        self.keys: list[str | None] = []
        self.owners: list[User] = []
        self.futures: list[asyncio.Future[int]] = []
        self.followers: list[tuple[asyncio.Future[int], int]] = []
        """Appends whose key is on its way already."""


class Journal:
    """Gathers, writes, and tells what became of it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        landed: Callable[[Batch], None],
        failed: Callable[[Sequence[Batch], Exception], None],
    ) -> None:
        self.batch = Batch()
        """The batch that gathers now."""
        self.settled: list[int] = []
        self.marks: dict[Device, None] = {}
        self.extra: list[Statement] = []
        """Statements that go with the next batch."""
        self.steps: Callable[[], Step | None] = lambda: None
        """Asked before each batch for a step towards the tables that goes with it."""
        self.last = 0
        """The number of the newest batch."""
        self.entry = 1
        """The next entry's number."""
        self.size = 0
        """Bytes written in this life."""
        self.writer: Writer | None = None
        self.broken: str | None = None
        """Why the last batch could not be written."""
        self._loop = loop
        self._landed = landed
        self._failed = failed
        self._waiting: deque[Batch] = deque()
        self._away: tuple[Batch, list[int], dict[Device, None], list[Statement], Step | None] | None = None
        self._called = False
        self._lazy: asyncio.TimerHandle | None = None
        self._quiet: list[asyncio.Future[None]] = []

    def soon(self) -> None:
        """Something in `batch` waits for the disk: write at the end of this turn, or when the writer is free."""
        if not self._called:
            self._called = True
            if self._away is None:
                self._loop.call_soon(self._submit)

    def lazily(self) -> None:
        """Something waits that nobody waits for."""
        if self._lazy is None and not self._called:
            self._lazy = self._loop.call_later(LAZY_S, self.soon)

    def full(self) -> None:
        """`batch` is large enough: begin another."""
        self._waiting.append(self.batch)
        self.batch = Batch()

    async def quiet(self) -> None:
        """Write everything, and return when it was written or refused."""
        self.soon()
        future = self._loop.create_future()
        self._quiet.append(future)
        await future

    def done(self, error: Exception | None) -> None:
        """The writer has finished what it was handed."""
        assert self._away is not None
        batch, settled, marks, extra, step = self._away
        self._away = None
        called = self._called
        if error is None:
            self.broken = None
            if step is not None:
                step.landed()
            self._landed(batch)
        else:
            if self.broken is None:
                log.error("the disk refused a batch, nothing in it was confirmed: %s", error)
            self.broken = str(error)
            if step is not None:
                step.failed()
            self.settled[:0] = settled
            self.extra[:0] = extra
            for device in marks:
                self.marks[device] = None
            refused = [batch, *self._waiting, self.batch]
            self._waiting.clear()
            self.batch = Batch()
            self._failed(refused, error)
            self.lazily()
        if called:  # behind those whom this batch has woken: what they do next goes along
            self._loop.call_soon(self._submit)
        elif self._quiet and not self._called:
            self._hush()

    def _submit(self) -> None:
        assert self.writer is not None
        if self._away is not None:
            return
        self._called = False
        if self._lazy is not None:
            self._lazy.cancel()
            self._lazy = None
        if self._waiting:
            batch = self._waiting.popleft()
            self._called = True
        else:
            batch, self.batch = self.batch, Batch()
        settled, self.settled = self.settled, []
        marks, self.marks = self.marks, {}
        extra, self.extra = self.extra, []
        step = self.steps()  # before the row: it covers what is durable by now
        statements: list[Statement] = []
        if batch.puts or batch.appended or batch.withdrawn or settled or marks:
            statements.append((JOURNAL, self._row(batch, settled, marks)))
        statements += extra
        if step is not None:
            statements += step.statements
        self._away = batch, settled, marks, extra, step
        if statements:
            self.writer.write(statements)
        else:  # only repeats: what they repeat is durable by now
            self.done(None)

    def _row(self, batch: Batch, settled: list[int], marks: Iterable[Device]) -> tuple[Any, ...]:
        for entry, message in enumerate(batch.puts, self.entry):
            message.entry = entry
        self.entry += len(batch.puts)
        records = Records(
            [(device.user.name, device.name, device.taken, device.seen_ms) for device in marks],
            batch.puts,
            batch.withdrawn,
            batch.appended,
            batch.keys,
            settled,
        )
        row = _encoder.encode(records)
        self.last += 1
        self.size += len(row)
        return self.last, row

    def _hush(self) -> None:
        if (self.settled or self.marks or self.extra) and self.broken is None:
            self.soon()
            return
        quiet, self._quiet = self._quiet, []
        for future in quiet:
            if not future.done():
                future.set_result(None)
