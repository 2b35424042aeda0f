"""The outbox: what this device sends, from `add` until it is durable, refused or given up (wire: "Messages up").

Sans-I/O: it says which frame goes next and is told what came; it never reads, writes or waits. Its rules:

- A message has a place from the start and gets its number, base + place, when it is first put on a link; both only
  rise. Until then it can be dropped for good.
- A link begins with the lowest number that was not answered. `WELCOME.accepted` answers everything up to it. Once the
  count is known, messages go right behind HELLO: the WELCOME comes before their answers, and corrects what was wrong.
- After a refusal nothing is sent until every answer that is on its way has come: then the refused number goes first, as
  itself or given up. So no number is on one link twice at a time, and a refusal never causes a storm of repeats.
- A client that lost its count begins far above `accepted`, at random. Numbers that an earlier life of this device may
  still have on an old link are then never taken for ours.
- With a book nothing goes over a link, and no refusal is told, before the book has it. So who comes after a death knows
  each number that may be on its way, and never sends as itself what was called refused.
"""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from .._codec import DUP, FAILED
from ..errors import BadHello, OutboxFull
from ..messages import Refusal

__all__ = ["UNSURE", "WITHDRAWN", "Book", "Entry", "Outbox"]

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
WITHDRAWN = Refusal("", "its sender took it back")
"""Why a number is given up without having been refused; nobody is told."""


class Entry:
    """One message on its way."""

    __slots__ = ("body", "flags", "number", "place", "refusal", "route", "sent", "size", "told", "unwritten", "waiter")

    def __init__(self, place: int, route: str, body: bytes, waiter: Any) -> None:
        self.place = place
        """From 1 on, in the order of the calls."""
        self.number = 0
        """0 = never on a link."""
        self.route = route
        self.body = body
        self.size = len(route.encode()) + len(body)
        self.waiter = waiter
        """Whatever the owner wants to find again with the outcome."""
        self.refusal: Refusal | None = None
        """Set: the number is being given up."""
        self.told = False
        """The owner has its outcome, or wants to know no more."""
        self.unwritten = 0
        """Changes of it that the book does not have yet."""
        self.sent = False
        """It was on a link before."""
        self.flags = 0
        """Of the frame that carries it now."""


class Book(Protocol):
    """Where the outbox is written down, in the order of the calls; it says when that is done."""

    def put(self, entry: Entry) -> None:
        """A new message: then `Outbox.kept`; or `Outbox.drop`, if it can't be written."""

    def give_up(self, entry: Entry) -> None:
        """Why the entry is given up: then `Outbox.kept`."""

    def forget(self, entry: Entry) -> None:
        """The entry is settled; soon is early enough."""

    def rebase(self, base: int) -> None:
        """What the numbers count from: then `Outbox.based`."""


class Outbox:
    """settle: told the outcome of each entry once: None = durable, else why it was refused. count, size: entries and
    bytes that may be held. book: None = what is held dies with the process."""

    def __init__(
        self,
        settle: Callable[[Entry, Refusal | None], None],
        *,
        count: int = 10_000,
        size: int = 16 * 1024 * 1024,
        rng: random.Random | None = None,
        book: Book | None = None,
    ) -> None:
        self._settle = settle
        self._count = count
        self._size = size
        self._rng = rng or random.SystemRandom()
        self._book = book
        self._waiting: OrderedDict[Entry, None] = OrderedDict()  # no number yet
        self._numbered: dict[int, Entry] = {}  # not answered, rising
        self._again: deque[Entry] = deque()  # those of them that this link has yet to carry, rising
        self._flying: dict[int, Entry] = {}  # and those that it carries
        self._flying_bytes = 0
        self._held = 0
        self._max_frame = LAST
        self._place = 0  # the newest that was given
        self._base = 0
        self._based = False  # and the book has it
        self._highest = -1  # of the numbers that were on a link; -1 = the count is lost
        self._opened = False  # a link has said HELLO, and was not welcomed yet
        self._known = False  # a WELCOME told our count, in this life
        self._linked = False
        self._refused = False  # nothing goes until all answers are in
        self._refusals = 0  # since a message was last accepted
        self._window = WINDOW  # behind a refusal it opens anew: what may be refused next is not sent over and over
        self.not_before = 0.0
        """The time, in the caller's seconds, before which nothing goes."""

    def __len__(self) -> int:
        return len(self._waiting) + len(self._numbered)

    @property
    def known(self) -> bool:
        """A WELCOME has told our count."""
        return self._known

    @property
    def wants(self) -> bool:
        """A link that begins now would carry something, or tell our count."""
        entry = next(iter(self._numbered.values()), None) or next(iter(self._waiting), None)
        return entry is not None and (not self._known or (self._based and not entry.unwritten))

    @property
    def flying(self) -> int:
        """Messages that the link carries and that are not answered."""
        return len(self._flying)

    def restore(self, base: int | None, last: int, entries: Iterable[Entry]) -> None:
        """What an earlier life had in its book, before anything else: the base of its numbers, the last place that it
        gave, and its entries, rising. Each of them may have been on a link, unless there was no base yet."""
        self._place = last
        if base is not None:
            self._base, self._based = base, True
            self._highest = base + last
        for entry in entries:
            self._held += entry.size
            if base is None:
                self._waiting[entry] = None
            else:
                entry.number = base + entry.place
                entry.sent = True
                self._numbered[entry.number] = entry

    def add(self, route: str, body: bytes, waiter: Any) -> Entry:
        """Take a message; raises `OutboxFull`."""
        entry = Entry(self._place + 1, route, body, waiter)
        if len(self) >= self._count or (self._held and self._held + entry.size > self._size):
            raise OutboxFull(
                f"the outbox holds {len(self)} unconfirmed messages of {self._held} bytes: expected at most "
                f"{self._count} of {self._size} bytes; wait until some are confirmed"
            )
        self._place = entry.place
        self._held += entry.size
        self._waiting[entry] = None
        if self._book is not None:
            entry.unwritten += 1
            self._book.put(entry)
        return entry

    def drop(self, entry: Entry) -> bool:
        """Forget a message that was never on a link; False if it was: its number has to be settled."""
        if entry.number or entry not in self._waiting:
            return False
        del self._waiting[entry]
        self._held -= entry.size
        return True

    def withdraw(self, entry: Entry) -> None:
        """Its sender wants it no more, and to know no more of it. What was never on a link is forgotten (in a book, not
        before that says so: else, after a death, a higher number that arrived would vouch for it); what was goes as its
        number alone, given up, when it would have to go again."""
        if entry.told:
            return
        entry.told = True
        if entry.refusal is None and (self._book is not None or not self.drop(entry)):
            self._give_up(entry, WITHDRAWN)

    def kept(self, entry: Entry) -> None:
        """The book has a change of it now."""
        entry.unwritten -= 1
        if entry.refusal is not None and not entry.unwritten:
            self._refuse(entry)

    def based(self, base: int) -> None:
        """The book has this base now."""
        self._based = base == self._base

    def number(self) -> int:
        """A number that no message has or will have; only when the count is known."""
        self._place += 1
        number = self._base + self._place
        self._highest = max(self._highest, number)
        return number

    def open(self) -> None:
        """A new link says HELLO. What waits may follow at once, if a WELCOME has told our count before."""
        self.end(broken=False)
        self._opened = True
        if self._known:
            self._carry()

    def learn(self, accepted: int) -> None:
        """A link that carries no messages was welcomed. May raise `BadHello`."""
        if not self._known:
            self._settle_up_to(accepted)

    def begin(self, accepted: int, max_frame: int) -> None:
        """The link was welcomed. Raises `BadHello` if no numbers are left above `accepted`."""
        if not self._opened:
            self.end()
        self._opened = False
        self._settle_up_to(accepted)
        self._max_frame = max_frame
        if not self._linked:
            self._carry()

    def end(self, *, broken: bool = True) -> None:
        """The link is over. broken: False = as foreseen, so that what a refusal said about time still holds."""
        self._linked = self._refused = self._opened = False
        self._again.clear()
        self._flying.clear()
        self._flying_bytes = 0
        if broken:
            self.not_before = 0.0

    def _carry(self) -> None:
        """The link carries messages from here on, first those that have a number."""
        self._linked = True
        self._again.extend(self._numbered.values())

    def _settle_up_to(self, accepted: int) -> None:
        """The gateway has accepted everything up to there, ours or not."""
        if accepted > LAST - 2 * GAP:
            raise BadHello(
                f"Welcome: expected accepted below {LAST - 2 * GAP}, so that numbers are left, got {accepted}"
            )
        foreign = 0 <= self._highest < accepted
        for number in [number for number in self._numbered if number <= accepted]:
            entry = self._numbered[number]
            if self._flying.pop(number, None) is not None:
                self._flying_bytes -= entry.size
            elif self._again and self._again[0] is entry:
                self._again.popleft()
            self._answered(entry, UNSURE if foreign else None)
        if self._highest < accepted:
            self._highest = accepted
            self._base = accepted + self._rng.randrange(GAP)
            self._based = self._book is None
            if self._book is not None:
                self._book.rebase(self._base)
        self._known = True

    def next(self, now: float, room: int = LAST) -> Entry | None:
        """The next message for the link, with `flags`; None = none may go now. room: bytes that the link takes; of a
        message that would be alone on it nobody asks."""
        while self._linked and self._based and not self._refused and now >= self.not_before:
            entry = self._again[0] if self._again else next(iter(self._waiting), None)
            if entry is None or entry.unwritten:
                return None
            if entry.refusal is not None:
                self._empty(entry)
            elif entry.size > self._max_frame:
                text = f"expected at most {self._max_frame} bytes of route and body, got {entry.size}"
                self._give_up(entry, Refusal("too_large", text))
                continue
            if self._flying and (
                len(self._flying) >= self._window or entry.size > min(room, WINDOW_BYTES - self._flying_bytes)
            ):
                return None
            if self._again:
                self._again.popleft()
            else:
                del self._waiting[entry]
                entry.number = self._base + entry.place
                self._highest = max(self._highest, entry.number)
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
            if refusal.retry_ms is None and not entry.flags & FAILED:
                if entry.refusal is None:  # else it was withdrawn meanwhile
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

    def give_up_flying(self, why: Refusal) -> None:
        """The link carries what it can't get through: the lowest number is given up, if it is alone there."""
        if len(self._flying) == 1:
            [entry] = self._flying.values()
            if entry.refusal is None:
                self._give_up(entry, why)

    def close(self) -> list[Entry]:
        """Nothing is sent any more; returns what has no outcome, in order."""
        self.end()
        left = [entry for entry in [*self._numbered.values(), *self._waiting] if not entry.told]
        for entry in left:
            entry.told = True
        self._numbered.clear()
        self._waiting.clear()
        self._held = 0
        return left

    def _answered(self, entry: Entry, outcome: Refusal | None) -> None:
        del self._numbered[entry.number]
        self._held -= entry.size
        if not entry.told:
            entry.told = True
            self._settle(entry, outcome)
        if self._book is not None:
            self._book.forget(entry)

    def _give_up(self, entry: Entry, why: Refusal) -> None:
        """Its owner is told when the book has it; the number goes once more, empty."""
        entry.refusal = why
        if self._book is not None:
            entry.unwritten += 1
            self._book.give_up(entry)
        else:
            self._refuse(entry)

    def _refuse(self, entry: Entry) -> None:
        if not entry.told:
            entry.told = True
            self._settle(entry, entry.refusal)
        if self.drop(entry) and self._book is not None:
            self._book.forget(entry)

    def _empty(self, entry: Entry) -> None:
        """Only the number is needed any more."""
        self._held -= entry.size
        entry.size = 0
        entry.route, entry.body = "", b""
