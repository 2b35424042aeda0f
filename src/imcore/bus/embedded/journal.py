"""The journal: what happened, batch by batch, and the rhythm in which batches become durable.

A batch gathers what comes in a turn of the loop and while the batch before it is on its way to the disk. It is one row
of the journal: one statement, one sync, whatever its size and however many users it touches. The tables follow later
and in small steps (`fold`), so that a message which is delivered at once never costs a row. What came behind a batch
that could not be written is refused with it: nobody's numbers get a hole.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from itertools import zip_longest

import msgspec

from ...errors import EngineError
from ..ports import Sink, Uplink, Wake
from .dead import forget
from .fold import Step, Tally
from .store import Statement, Writer
from .users import Device, User

__all__ = ["DOWN", "UP", "Down", "Journal", "Records", "Up", "decode", "tally"]

UP = 128
"""Messages from devices in a part of a batch: what the loop does at once when it is durable, half a millisecond."""
DOWN = 256
"""Messages for inboxes in a part of a batch: more than `UP`, so that what was accepted is finished before more is."""
PARTS = 6
"""Parts that a batch has at most: a slow disk is asked less often, and the loop goes round between two parts."""
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
    replayed: int = 0
    """So many of `puts` were dead before, and accepted long ago."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Records)


def decode(row: bytes) -> Records:
    """A row of the journal; raises `EngineError` if it is damaged."""
    try:
        return _decoder.decode(row)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EngineError(f"the journal has a damaged row: {error}; bring back a copy of the file") from error


def tally(records: Records) -> Tally:
    """What a row of the journal counts."""
    return (
        len(records.puts) - records.replayed,
        len(records.withdrawn),
        len(records.settled),
        records.replayed,
        len(records.appended),
    )


class Up:
    """A part of a batch for the queue. Lists, because they cost less than an object for each message."""

    __slots__ = ("answers", "puts", "replayed", "withdrawn")

    def __init__(self) -> None:
        self.answers: list[tuple[Sink, int, Device]] = []
        self.puts: list[Uplink] = []
        self.withdrawn: list[tuple[str, str, int]] = []
        self.replayed: list[int] = []
        """Dead letters, by their numbers, that are among `puts`."""


class Down:
    """A part of a batch for the inbox."""

    __slots__ = ("appended", "followers", "futures", "keys", "owners")

    def __init__(self) -> None:
        self.appended: list[Wake] = []
        self.keys: list[str | None] = []
        self.owners: list[User] = []
        self.futures: list[asyncio.Future[int]] = []
        self.followers: list[tuple[asyncio.Future[int], int]] = []
        """Appends whose key is on its way already."""


class _Away(msgspec.Struct, gc=False):
    """What the writer was handed."""

    ups: list[Up]
    downs: list[Down]
    settled: list[int]
    marks: dict[Device, None]
    extra: list[Statement]
    step: Step | None
    tally: Tally


class Journal:
    """Gathers, writes, and tells what became of it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        landed: Callable[[Up, Down], None],
        failed: Callable[[Sequence[Up], Sequence[Down], Exception], None],
    ) -> None:
        self.up = Up()
        """What gathers now."""
        self.down = Down()
        self.settled: list[int] = []
        self.marks: dict[Device, None] = {}
        self.extra: list[Statement] = []
        """Statements that go with the next batch."""
        self.steps: Callable[[], Step | None] = lambda: None
        """Asked before each batch for a step towards the tables that goes with it."""
        self.tallied: Callable[[int, Tally], None] = lambda batch, tally: None
        """Told of each batch that is durable."""
        self.last = 0
        """The number of the newest batch."""
        self.entry = 1
        """The next entry's number."""
        self.size = 0
        """Bytes written in this life."""
        self.crowded: Callable[[], bool] = lambda: False
        """Whether so many messages wait for their service that no more are taken than it settles."""
        self.writer: Writer | None = None
        self.broken: str | None = None
        """Why the last batch could not be written."""
        self._loop = loop
        self._landed = landed
        self._failed = failed
        self._ups: deque[Up] = deque()
        self._downs: deque[Down] = deque()
        self._away: _Away | None = None
        self._landing: deque[tuple[Up | None, Down | None]] = deque()
        self._called = False
        self._held = 0
        self._held_since = 0.0
        self._credit = 0
        self._lazy: asyncio.TimerHandle | None = None
        self._quiet: list[asyncio.Future[None]] = []

    def soon(self) -> None:
        """Something that was gathered waits for the disk: write at the end of this turn, or when the writer is free."""
        if not self._called:
            self._called = True
            if self._away is None:
                self._loop.call_soon(self._submit)

    def lazily(self) -> None:
        """Something waits that nobody waits for."""
        if self._lazy is None and not self._called:
            self._lazy = self._loop.call_later(LAZY_S, self.soon)

    def relieved(self, count: int) -> None:
        """So many messages have left the queue; their entries are among the `settled`."""
        self._credit += count
        if self._held and self._credit >= self._held:
            self.soon()
        else:
            self.lazily()

    def next_up(self) -> Up:
        """What was gathered from devices is enough for a part: begin another."""
        self._ups.append(self.up)
        self.up = Up()
        return self.up

    def next_down(self) -> Down:
        """What was gathered for inboxes is enough for a part: begin another."""
        self._downs.append(self.down)
        self.down = Down()
        return self.down

    async def quiet(self) -> None:
        """Write everything, and return when it was written or refused."""
        self.soon()
        future = self._loop.create_future()
        self._quiet.append(future)
        await future

    def done(self, error: Exception | None) -> None:
        """The writer has finished what it was handed."""
        away = self._away
        assert away is not None
        if error is None:
            self.broken = None
            if away.step is not None:
                away.step.landed()
            self.tallied(self.last, away.tally)
            self._landing.extend(zip_longest(away.ups, away.downs))
            self._land()
            return
        if self.broken is None:
            log.error("the disk refused a batch, nothing in it was confirmed: %s", error)
        self.broken = str(error)
        if away.step is not None:
            away.step.failed()
        self.settled[:0] = away.settled
        self.extra[:0] = away.extra
        for device in away.marks:
            self.marks[device] = None
        ups, downs = [*away.ups, *self._ups, self.up], [*away.downs, *self._downs, self.down]
        self._ups.clear()
        self._downs.clear()
        self.up, self.down = Up(), Down()
        self._failed(ups, downs, error)
        self.lazily()
        self._go_on()

    def _land(self) -> None:
        up, down = self._landing.popleft()
        self._landed(Up() if up is None else up, Down() if down is None else down)
        if self._landing:
            self._loop.call_soon(self._land)
        else:
            self._go_on()

    def _go_on(self) -> None:
        self._away = None
        if self._called:  # behind those whom this batch has woken: what they do next goes along
            self._loop.call_soon(self._submit)
        elif self._quiet:
            self._hush()

    def _submit(self) -> None:
        assert self.writer is not None
        if self._away is not None:
            return
        if self._lazy is not None:
            self._lazy.cancel()
            self._lazy = None
        ups, downs = self._next_ups(), self._next_downs()
        self._called = bool(
            self._downs
            or self.down.futures
            or self.down.followers
            or (not self._held and (self._ups or self.up.answers or self.up.puts))
        )
        if self._held:
            self.lazily()
        settled, self.settled = self.settled, []
        marks, self.marks = self.marks, {}
        extra, self.extra = self.extra, []
        step = self.steps()  # before the row: it covers what is durable by now
        statements: list[Statement] = []
        records = Records(
            [(device.user.name, device.name, device.taken, device.seen_ms) for device in marks],
            [message for up in ups for message in up.puts],
            [number for up in ups for number in up.withdrawn],
            [wake for down in downs for wake in down.appended],
            [key for down in downs for key in down.keys],
            settled,
            sum(len(up.replayed) for up in ups),
        )
        self._away = _Away(ups, downs, settled, marks, extra, step, tally(records))
        if records.marks or records.puts or records.withdrawn or records.appended or settled:
            try:
                statements.append((JOURNAL, self._row(records)))
            except Exception as error:  # text that is no Unicode, say: refuse it as the disk would have
                self._loop.call_soon(self.done, error)
                return
        statements += extra
        for number in [number for up in ups for number in up.replayed]:
            statements += forget(number)
        if step is not None:
            statements += step.statements
        if statements:
            self.writer.write(statements)
        else:  # only repeats: what they repeat is durable by now
            self.done(None)

    def _next_ups(self) -> list[Up]:
        """What comes from devices, unless that has to wait until the service has caught up.

        A service that settles nothing must not stop those that do, so something is taken every second.
        """
        waiting = len(self._ups[0].puts if self._ups else self.up.puts)
        crowded, now = self.crowded(), self._loop.time()
        if waiting and self._credit < waiting and crowded and (not self._held or now - self._held_since < 1.0):
            if not self._held:
                self._held_since = now
            self._held = waiting
            return [Up()]
        self._held = self._credit = 0
        ups = [self._ups.popleft() for _ in range(min(1 if crowded else PARTS, len(self._ups)))]
        if not ups:
            ups.append(self.up)
            self.up = Up()
        return ups

    def _next_downs(self) -> list[Down]:
        downs = [self._downs.popleft() for _ in range(min(PARTS, len(self._downs)))]
        if not downs:
            downs.append(self.down)
            self.down = Down()
        return downs

    def _row(self, records: Records) -> tuple[int, bytes]:
        for entry, message in enumerate(records.puts, self.entry):
            message.entry = entry
        self.entry += len(records.puts)
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
