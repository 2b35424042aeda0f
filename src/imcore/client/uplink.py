"""The outbox: what this device sends, from `add` until it is durable, refused or given up (wire: "Order of a link", 6).

Sans-I/O: it says which frame goes next and is told what came; it never reads, writes or waits. Its rules:

- A message gets its number when it is first put on a link; numbers only rise. Until then it can be dropped for good.
- A link begins with the lowest number that was not answered. `WELCOME.accepted` answers everything up to it.
- After a refusal nothing is sent until every answer that is on its way has come: then the refused number goes first, as
  itself or given up. So no number is on one link twice at a time, and a refusal never causes a storm of repeats.
- A client that lost its count begins far above `accepted`, at random. Numbers that an earlier life of this device may
  still have on an old link are then never taken for ours.
"""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from .._codec import DUP, FAILED
from ..errors import BadHello, OutboxFull
from ..messages import Refusal

__all__ = ["UNSURE", "Entry", "Outbox"]

WINDOW = 64
"""Messages that may be unanswered on a link."""
WINDOW_BYTES = 256 * 1024
"""And their bytes; one message may always go."""
GAP = 1 << 32
"""A client that lost its count begins up to so far above what was accepted."""
LAST = (1 << 64) - 1
"""The highest number (wire: `MSG`)."""
WAIT_MOST = 3600.0
"""Seconds that a refusal can make us wait at most."""

UNSURE = Refusal("superseded", "another link of this device used its numbers: it may be durable, or may not", 0)
"""The outcome of a message whose number someone else may have used."""


class Entry:
    """One message on its way."""

    __slots__ = ("body", "flags", "number", "refusal", "route", "sent", "size", "waiter")

    def __init__(self, route: str, body: bytes, waiter: Any) -> None:
        self.number = 0
        """0 = never on a link."""
        self.route = route
        self.body = body
        self.size = len(route.encode()) + len(body)
        self.waiter = waiter
        """Whatever the owner wants to find again with the outcome."""
        self.refusal: Refusal | None = None
        """Set: the number is being given up."""
        self.sent = False
        """It was on a link before."""
        self.flags = 0
        """Of the frame that carries it now."""


class Outbox:
    """settle: told the outcome of each entry once: None = durable, else why it was refused. count, size: entries and
    bytes that may be held."""

    def __init__(
        self,
        settle: Callable[[Entry, Refusal | None], None],
        *,
        count: int = 10_000,
        size: int = 16 * 1024 * 1024,
        rng: random.Random | None = None,
    ) -> None:
        self._settle = settle
        self._count = count
        self._size = size
        self._rng = rng or random.SystemRandom()
        self._waiting: OrderedDict[Entry, None] = OrderedDict()  # no number yet
        self._numbered: dict[int, Entry] = {}  # not answered, rising
        self._again: deque[Entry] = deque()  # those of them that this link has yet to carry, rising
        self._flying: dict[int, Entry] = {}  # and those that it carries
        self._flying_bytes = 0
        self._held = 0
        self._max_frame = LAST
        self._highest = -1  # -1 = the count is lost
        self._linked = False
        self._refused = False  # nothing goes until all answers are in
        self._refusals = 0  # since a message was last accepted
        self._window = WINDOW  # behind a refusal it opens anew: what may be refused next is not sent over and over
        self.not_before = 0.0
        """The time, in the caller's seconds, before which nothing goes."""

    def __len__(self) -> int:
        return len(self._waiting) + len(self._numbered)

    @property
    def flying(self) -> int:
        """Messages that the link carries and that are not answered."""
        return len(self._flying)

    def add(self, route: str, body: bytes, waiter: Any) -> Entry:
        """Take a message; raises `OutboxFull`."""
        entry = Entry(route, body, waiter)
        if len(self) >= self._count or (self._held and self._held + entry.size > self._size):
            raise OutboxFull(
                f"the outbox holds {len(self)} unconfirmed messages of {self._held} bytes: expected at most "
                f"{self._count} of {self._size} bytes; wait until some are confirmed"
            )
        self._held += entry.size
        self._waiting[entry] = None
        return entry

    def drop(self, entry: Entry) -> bool:
        """Forget a message that was never on a link; False if it was: its number has to be settled."""
        if entry.number or entry not in self._waiting:
            return False
        del self._waiting[entry]
        self._held -= entry.size
        return True

    def number(self) -> int:
        """A number that no message has or will have, above all that were used; only on a link that has begun."""
        self._highest += 1
        return self._highest

    def begin(self, accepted: int, max_frame: int) -> None:
        """A new link was welcomed. Raises `BadHello` if no numbers are left above `accepted`."""
        if accepted > LAST - 2 * GAP:
            raise BadHello(
                f"Welcome: expected accepted below {LAST - 2 * GAP}, so that numbers are left, got {accepted}"
            )
        self.end()
        foreign = 0 <= self._highest < accepted
        for number in [number for number in self._numbered if number <= accepted]:
            self._answered(self._numbered[number], UNSURE if foreign else None)
        if self._highest < accepted:
            self._highest = accepted + self._rng.randrange(GAP)
        self._max_frame = max_frame
        self._linked = True
        self._again.extend(self._numbered.values())

    def end(self) -> None:
        """The link is over."""
        self._linked = self._refused = False
        self._again.clear()
        self._flying.clear()
        self._flying_bytes = 0
        self.not_before = 0.0

    def next(self, now: float) -> Entry | None:
        """The message to put on the link now, if there is one; it counts as sent."""
        if not self._linked or self._refused or now < self.not_before:
            return None
        while self._again or self._waiting:
            entry = self._again[0] if self._again else next(iter(self._waiting))
            if entry.size > self._max_frame and entry.refusal is None:
                text = f"expected at most {self._max_frame} bytes of route and body, got {entry.size}"
                why = Refusal("too_large", text)
                if not entry.number:
                    del self._waiting[entry]
                    self._held -= entry.size
                    self._settle(entry, why)
                    continue
                self._give_up(entry, why)
            if self._flying and (len(self._flying) >= self._window or self._flying_bytes + entry.size > WINDOW_BYTES):
                return None
            if self._again:
                self._again.popleft()
            else:
                del self._waiting[entry]
                entry.number = self.number()
                self._numbered[entry.number] = entry
            entry.flags = FAILED if entry.refusal is not None else DUP if entry.sent else 0
            entry.sent = True
            self._flying[entry.number] = entry
            self._flying_bytes += entry.size
            return entry
        return None

    def answer(self, number: int, refusal: Refusal | None, now: float) -> None:
        """The link brought an answer to a message."""
        entry = self._flying.pop(number, None)
        if entry is None:
            return
        self._flying_bytes -= entry.size
        if refusal is None:
            self._refusals = 0
            self._window = min(self._window * 2, WINDOW)
            self._answered(entry, None)
        else:
            self._refused = True
            self._window = 1
            if refusal.retry_ms is None and entry.refusal is None:
                self._give_up(entry, refusal)
            else:
                # The refused number's own wait; what was held back behind it says 0. A gateway that says 0 again and
                # again, or refuses that a number is given up, is not asked in a circle.
                wait = 1.0 if refusal.retry_ms is None else refusal.retry_ms / 1000
                self.not_before = max(self.not_before, now + min(wait, WAIT_MOST))
        if self._refused and not self._flying:
            self._refused = False
            self._again = deque(self._numbered.values())
            if self._refusals:
                self.not_before = max(self.not_before, now + min(0.05 * 2.0**self._refusals, 5.0))
            self._refusals = min(self._refusals + 1, 16)

    def close(self) -> list[Entry]:
        """Nothing is sent any more; returns what has no outcome, in order."""
        self.end()
        left = [entry for entry in self._numbered.values() if entry.refusal is None]
        left += self._waiting
        self._numbered.clear()
        self._waiting.clear()
        self._held = 0
        return left

    def _answered(self, entry: Entry, outcome: Refusal | None) -> None:
        del self._numbered[entry.number]
        self._held -= entry.size
        if entry.refusal is None:  # else its owner knows already
            self._settle(entry, outcome)

    def _give_up(self, entry: Entry, why: Refusal) -> None:
        """The number goes once more, empty; the body is not needed any more."""
        entry.refusal = why
        entry.body = b""
        entry.route = ""
        self._held -= entry.size
        entry.size = 0
        self._settle(entry, why)
