"""From the journal to the tables and back: small steps that ride on the batches, until the journal's head can go.

A pass writes the present state of every user that the journal changed, then deletes the rows that are covered by it.
State newer than those rows does no harm, since replaying a row changes nothing that has happened already. A message
that was taken by then is never written at all. No step is larger than a few milliseconds' work.
"""

from __future__ import annotations

import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ..ports import Uplink, Wake
from .clock import now_ms
from .store import Statement, add, in_list, insert
from .users import Device, User

__all__ = ["TALLIED", "Fold", "Step", "Tally", "load", "signed", "unsigned"]

STEP_ROWS = 256
STEP_BYTES = 1 << 20
STEP_BATCHES = 32
PASS_BYTES = 32 << 20
"""A pass begins when the journal has grown by so much: what a start has to replay, and what memory holds of it."""
PASS_S = 30.0
"""Or after so long, if anything changed at all."""

Tally = tuple[int, int, int, int, int]
"""What a row of the journal counts, in the order of `TALLIED`."""
TALLIED = "accepted", "withdrawn", "left", "replayed", "appended"
"""Counters whose journal rows are added to the table when they are deleted, in one transaction: nothing counts twice.
left: messages that left the queue, settled or dead."""

_encode = msgspec.msgpack.encode
_keys = msgspec.msgpack.Decoder(tuple[dict[str, int], dict[str, int]])


def signed(number: int) -> int:
    """A message number as SQLite's 64-bit integer."""
    return number - (1 << 64) if number >> 63 else number


def unsigned(number: int) -> int:
    """The message number of a 64-bit integer."""
    return number & ((1 << 64) - 1)


def load(connection: sqlite3.Connection, names: Sequence[str]) -> list[User]:
    """The users of these names, new ones for those that the tables do not know."""
    users = {name: User(name) for name in names}
    wanted = list(users)
    for sql, values in in_list("SELECT name, head, first, stored_size, expired, keys FROM user WHERE name", wanted):
        for name, head, first, stored_size, expired, keys in connection.execute(sql, values):
            user = users[name] = User(name, head, first, stored_size, expired)
            own, answers = _keys.decode(keys)
            user.keys, user.answers = own or None, answers or None
    for sql, values in in_list("SELECT user, name, accepted, taken, seen_ms FROM device WHERE user", wanted):
        for owner, name, accepted, taken, seen_ms in connection.execute(sql, values):
            user = users[owner]
            user.devices += (Device(user, name, unsigned(accepted), taken, seen_ms),)
    return list(users.values())


class Step:
    """Statements that go with a batch, and what follows when they are durable, or are not."""

    __slots__ = ("failed", "landed", "statements")

    def __init__(self, landed: Callable[[], None], failed: Callable[[], None]) -> None:
        self.statements: list[Statement] = []
        self.landed = landed
        self.failed = failed


class Fold:
    """Knows what the tables lack."""

    def __init__(self, unsettled: Mapping[str, Uplink], size: Callable[[], int], entry: Callable[[], int]) -> None:
        self.dirty: list[User] = []
        """Users with durable changes that the tables lack."""
        self.stored: set[int] = set()
        """Entries of the queue that the table has."""
        self.gone: list[int] = []
        """Those of them that were settled."""
        self.last = 0
        """The newest batch that is durable."""
        self.tallies: deque[tuple[int, Tally]] = deque()
        """What the rows of the journal count, with their batches."""
        self.oldest = 1
        """The oldest batch in the journal."""
        self._unsettled = unsettled
        self._size = size
        self._entry = entry
        self._size_then = 0
        self._begun = time.monotonic()
        self._pass: Iterator[list[Statement]] | None = None
        self._todo: deque[User] = deque()
        self._shown: list[tuple[User, int, int, int, int]] = []
        self._entries: list[int] = []

    @property
    def due(self) -> bool:
        """Whether a step wants to go with the next batch, or alone if there is none."""
        if self._pass is not None or self._size() - self._size_then >= PASS_BYTES:
            return True
        return time.monotonic() - self._begun >= PASS_S and (bool(self.dirty or self.gone) or self.oldest <= self.last)

    def step(self) -> Step | None:
        """The next step, if one is due."""
        if not self.due:
            return None
        if self._pass is None:
            self._pass = self._walk()
        step = Step(self._landed, self._failed)
        for statements in self._pass:
            if statements:
                step.statements = statements
                return step
        self._pass = None
        self._begun = time.monotonic()
        return None

    def _walk(self) -> Iterator[list[Statement]]:
        self._size_then = self._size()
        last, entry = self.last, self._entry()
        self._todo.extend(sorted(self.dirty, key=lambda user: user.name))  # neighbours share pages
        self.dirty.clear()
        while self._todo:
            yield self._users()
        waiting = [message for message in self._unsettled.values() if message.entry not in self.stored]
        for start in range(0, len(waiting), STEP_ROWS):
            yield self._messages(waiting[start : start + STEP_ROWS])
        while self.gone:
            batch = self.gone[:STEP_ROWS]
            yield list(in_list("DELETE FROM uplink WHERE entry", batch))
            del self.gone[: len(batch)]  # behind the yield: the step has landed
            self.stored.difference_update(batch)
        while self.oldest <= last:
            until = min(last, self.oldest + STEP_BATCHES - 1)
            covered = [tally for batch, tally in self.tallies if batch <= until]
            yield [
                ("UPDATE meta SET value = max(value, ?) WHERE name = 'entry'", (entry,)),
                ("UPDATE meta SET value = max(value, ?) WHERE name = 'batch'", (until,)),
                ("DELETE FROM journal WHERE batch <= ?", (until,)),
                *(add(name, value) for name, *values in zip(TALLIED, *covered, strict=True) if (value := sum(values))),
            ]
            self.oldest = until + 1
            while self.tallies and self.tallies[0][0] <= until:
                self.tallies.popleft()

    def _users(self) -> list[Statement]:
        statements: list[Statement] = []
        users: list[Any] = []
        devices: list[Any] = []
        inbox: list[Any] = []
        size, now, gone, expired = 0, now_ms(), 0, 0
        while self._todo and len(users) + len(devices) + len(inbox) < 5 * STEP_ROWS and size < STEP_BYTES:
            user = self._todo.popleft()
            part: list[Wake] = []
            for wake in user.tail[:STEP_ROWS]:
                part.append(wake)
                size += len(wake.body)
                if size >= STEP_BYTES:
                    break
            whole = len(part) == len(user.tail)
            head = user.head if whole else part[-1].seq
            if user.swept < user.first and user.swept <= user.stored:
                statements.append(("DELETE FROM inbox WHERE user = ? AND seq < ?", (user.name, user.first)))
            if user.forgotten:
                names = user.forgotten
                statements += [("DELETE FROM device WHERE user = ? AND name = ?", (user.name, name)) for name in names]
            for wake in part:
                inbox += (user.name, wake.seq, wake.route, wake.body, now)
            stored_size = user.stored_size + sum(len(wake.body) for wake in part)
            keys = _encode((user.keys or {}, user.answers or {}))
            users += (user.name, head, user.first, stored_size, keys, user.expired)
            gone += user.first - user.swept
            expired += user.expired - user.expired_stored
            for device in user.devices:
                devices += (user.name, device.name, signed(device.accepted), device.taken, device.seen_ms)
            self._shown.append((user, head, user.first, user.expired, len(user.forgotten)))
            user.folding = True
            if whole:
                user.dirty = False
            else:
                self._todo.append(user)
                break  # the same user twice in a step would write the same messages twice
        statements += insert("INSERT OR REPLACE INTO inbox", 5, inbox)
        statements += insert("INSERT OR REPLACE INTO user", 6, users)
        statements += insert("INSERT OR REPLACE INTO device", 5, devices)
        statements += [add(name, value) for name, value in (("gone", gone), ("expired", expired)) if value]
        return statements

    def _messages(self, messages: list[Uplink]) -> list[Statement]:
        values: list[Any] = []
        for message in messages:
            if message.key in self._unsettled:
                values += (message.entry, _encode(message))
                self._entries.append(message.entry)
        self.stored.update(self._entries)  # at once: who settles it from now on leaves it to a later step to delete
        return list(insert("INSERT OR REPLACE INTO uplink", 2, values))

    def _landed(self) -> None:
        self._entries.clear()
        for user, head, first, expired, forgotten in self._shown:
            user.folding = False
            user.forgotten = user.forgotten[forgotten:]
            user.stored, user.swept, user.expired_stored = head, first, expired
            user.stored_size += user.cut(head + 1)
        self._shown.clear()

    def _failed(self) -> None:
        """Give the pass up; another one begins later."""
        for user, *_ in self._shown:
            user.folding = False
            if not user.dirty:
                user.dirty = True
                self.dirty.append(user)
        self.dirty += self._todo
        self.stored.difference_update(self._entries)
        self._shown.clear()
        self._todo.clear()
        self._entries.clear()
        self._pass = None
        self._begun = time.monotonic()
