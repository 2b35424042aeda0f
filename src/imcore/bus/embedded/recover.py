"""What a start does: the journal of the process before is replayed over the tables, in memory.

Applying a row to tables that are newer changes nothing: numbers only rise, and what is settled is taken out again.
Runs in a thread before the engine takes anything.
"""

from __future__ import annotations

import sqlite3
from collections import deque

import msgspec

from ...errors import EngineError
from ..ports import Uplink
from .dead import keys
from .fold import TALLIED, Tally, load
from .journal import Records, decode, tally
from .store import add
from .users import Limits, User, Users

__all__ = ["Recovered", "begin_to_count", "recover"]


class Recovered(msgspec.Struct):
    """What an earlier process left."""

    users: Users
    unsettled: dict[str, Uplink]
    stored: set[int]
    """Entries that the table of the queue has."""
    gone: list[int]
    """Those of them that were settled."""
    oldest: int
    last: int
    entry: int
    dead_keys: set[str]
    tallies: deque[tuple[int, Tally]]
    """What the rows of the journal count, with their batches."""
    counters: dict[str, int]
    """The table's; `totals` adds what it does not have yet."""

    def totals(self) -> dict[str, int]:
        """What has happened since the database was made, by the names of `TALLIED`, and `gone` (delivered or expired),
        `expired`, `buried` and `dropped`."""
        found = dict.fromkeys((*TALLIED, "gone", "expired", "buried", "dropped"), 0) | self.counters
        for _, counts in self.tallies:
            for name, value in zip(TALLIED, counts, strict=True):
                found[name] += value
        for user in self.users.values():
            found["gone"] += user.first - user.swept
            found["expired"] += user.expired - user.expired_stored
        return found


def recover(connection: sqlite3.Connection, limits: Limits) -> Recovered:
    """Read everything that is not settled, and the users that the journal changed."""
    counters = dict(connection.execute("SELECT name, value FROM counter"))
    dead_keys = keys(connection)
    tallies: deque[tuple[int, Tally]] = deque()
    (entry,) = connection.execute("SELECT value FROM meta WHERE name = 'entry'").fetchone()
    by_entry: dict[int, Uplink] = {}
    for number, message in connection.execute("SELECT entry, message FROM uplink ORDER BY entry"):
        uplink = msgspec.msgpack.decode(message, type=Uplink)
        uplink.entry = number
        by_entry[number] = uplink
    stored = set(by_entry)
    gone: list[int] = []
    users = Users()
    unsettled = {message.key: message for message in by_entry.values()}
    (last,) = connection.execute("SELECT value FROM meta WHERE name = 'batch'").fetchone()
    oldest = 0
    for last, row in connection.execute("SELECT batch, records FROM journal ORDER BY batch"):
        oldest = oldest or last
        records = decode(row)
        _bring(users, connection, records)
        for message in records.puts:
            entry = max(entry, message.entry + 1)
            by_entry[message.entry] = message
            unsettled[message.key] = message
        _apply(users, records, unsettled, dead_keys, limits)
        if any(counts := tally(records)):
            tallies.append((last, counts))
        for number in records.settled:
            settled = by_entry.pop(number, None)
            if settled is not None:
                unsettled.pop(settled.key, None)
                if number in stored:
                    gone.append(number)
    entry = max([entry, *(number + 1 for number in stored)])
    ordered = dict(sorted(unsettled.items(), key=lambda item: item[1].entry))
    return Recovered(users, ordered, stored, gone, oldest or last + 1, last, entry, dead_keys, tallies, counters)


def begin_to_count(connection: sqlite3.Connection, left: Recovered) -> None:
    """In a new database, or one of the first version, which did not count: begin with what is there."""
    (dead,) = connection.execute("SELECT count(*) FROM dead").fetchone()
    heads, gone = connection.execute("SELECT coalesce(sum(head), 0), coalesce(sum(first - 1), 0) FROM user").fetchone()
    heads += sum(user.head - user.stored for user in left.users.values())
    journal = left.totals()
    left.counters.update(
        accepted=len(left.unsettled) + dead + journal["left"] - journal["replayed"] - journal["accepted"],
        left=dead,
        buried=dead,
        appended=heads - journal["appended"],
        gone=gone,
    )
    with connection:
        connection.execute("BEGIN")
        for name, value in left.counters.items():
            connection.execute(*add(name, value))


def _bring(users: Users, connection: sqlite3.Connection, records: Records) -> None:
    names = {mark[0] for mark in records.marks}
    names.update(message.user for message in records.puts)
    names.update(withdrawn[0] for withdrawn in records.withdrawn)
    names.update(wake.user for wake in records.appended)
    for user in load(connection, [name for name in names if name not in users]):
        users[user.name] = user


def _apply(users: Users, records: Records, unsettled: dict[str, Uplink], dead_keys: set[str], limits: Limits) -> None:
    for name, device_name, taken, seen_ms in records.marks:
        device = users[name].device(device_name)
        device.taken = max(device.taken, taken)
        device.seen_ms = max(device.seen_ms, seen_ms)
    numbers = [(message.user, message.device, message.id) for message in records.puts]
    for name, device_name, id in [*numbers, *records.withdrawn]:
        device = users[name].device(device_name)
        device.accepted = device.pending = max(device.accepted, id)
    for wake, key in zip(records.appended, records.keys, strict=True):
        user = users[wake.user]
        if wake.seq <= user.head:
            continue
        if wake.seq != user.head + 1:
            raise EngineError(
                f"the journal gives number {wake.seq} in the inbox of {wake.user!r}, expected {user.head + 1}: "
                "the file is damaged; bring back a copy"
            )
        user.append(wake, key, unsettled, dead_keys)
        user.assigned = wake.seq
        user.trim(limits)


def dirty(users: Users) -> list[User]:
    """Mark all that were recovered: the tables lack what the journal told."""
    for user in users.values():
        user.dirty = True
    return list(users.values())
