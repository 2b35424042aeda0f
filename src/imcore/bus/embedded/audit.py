"""The books of the embedded engine: every message accounted for, from the tables and the journal, beside the counters.

Reads one state of the database and changes nothing, whether a node works on it meanwhile or not.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from ...errors import EngineError
from ..books import SHOWN, Books, expect
from .recover import Recovered, recover
from .store import VERSION, explain
from .users import Limits

__all__ = ["audit", "reading"]

NO_LIMITS = Limits(1 << 62, 1 << 62, 1 << 62, 1 << 62)


def reading(folder: str | os.PathLike[str]) -> sqlite3.Connection:
    """A connection that can't write. Raises `EngineError` if there is no database of this version."""
    file = Path(folder) / "imcore.db"
    if not file.is_file():
        raise EngineError(f"{file}: no such file; expected the folder that a node has as its data")
    try:
        connection = sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise EngineError(f"{file}: {explain(error)}") from error
    if version != VERSION:
        connection.close()
        raise EngineError(f"{file}: its schema has version {version}, expected {VERSION}; start a node of this version")
    return connection


def audit(folder: str | os.PathLike[str]) -> Books:
    """Read everything and count again. Raises `EngineError` if the database can't be read at all."""
    try:
        with closing(reading(folder)) as connection:
            connection.execute("BEGIN")  # one state, whatever a node writes meanwhile
            return _books(connection)
    except sqlite3.Error as error:
        raise EngineError(f"{Path(folder) / 'imcore.db'}: {explain(error)}") from error


def _books(connection: sqlite3.Connection) -> Books:
    faults = [f"database: {text}" for (text,) in connection.execute("PRAGMA integrity_check(20)") if text != "ok"]
    left = recover(connection, NO_LIMITS)
    for user in left.users.values():  # the journal says what was taken, and leaves it to the engine to let go of it
        user.drop(user.floor(0, lambda user, device: True) + 1)
    totals = left.totals()
    (dead,) = connection.execute("SELECT count(*) FROM dead").fetchone()
    users, heads, gone, expired = _inboxes(connection, left)
    devices = {tuple(row) for row in connection.execute("SELECT user, name FROM device")}
    for user in left.users.values():
        devices.difference_update((user.name, name) for name in user.forgotten)
        devices.update((user.name, device.name) for device in user.devices)
    books = Books(
        accepted=totals["accepted"],
        settled=totals["left"] - totals["buried"],
        waiting=len(left.unsettled),
        dead=dead,
        dropped=totals["dropped"],
        replayed=totals["replayed"],
        withdrawn=totals["withdrawn"],
        appended=heads,
        delivered=gone - expired,
        undelivered=heads - gone,
        expired=expired,
        users=users,
        devices=len(devices),
        faults=faults,
    )
    if not left.counters:
        faults.append("counters: none; no node of this version has opened the database")
        return books
    expect(faults, "settled + waiting + dead + dropped", books.settled + books.waiting + dead + books.dropped,
            "accepted", books.accepted)  # fmt: skip
    expect(faults, "dead + dropped + replayed", dead + books.dropped + books.replayed, "put aside", totals["buried"])
    expect(faults, "the inboxes' newest numbers", heads, "appended", totals["appended"])
    expect(faults, "what the inboxes let go of", gone, "delivered and expired", totals["gone"])
    expect(faults, "what the inboxes say has expired", expired, "expired", totals["expired"])
    for kind in (_rows(connection, left), _cursors(connection, left)):
        for told, fault in enumerate(kind):
            if told == SHOWN:
                faults.append("… and more of these")
                break
            faults.append(fault)
    return books


def _inboxes(connection: sqlite3.Connection, left: Recovered) -> tuple[int, int, int, int]:
    """Users, and the sums of newest numbers, of what was let go, and of what expired."""
    users, heads, gone, expired = connection.execute(
        "SELECT count(*), coalesce(sum(head), 0), coalesce(sum(first - 1), 0), coalesce(sum(expired), 0) FROM user"
    ).fetchone()
    known = {name for (name,) in connection.execute("SELECT name FROM user")}
    for user in left.users.values():
        users += user.name not in known
        heads += user.head - user.stored
        gone += user.first - user.swept
        expired += user.expired - user.expired_stored
    return users, heads, gone, expired


def _rows(connection: sqlite3.Connection, left: Recovered) -> Iterator[str]:
    """The messages of an inbox that lie in its table: from the oldest to the newest number, none missing."""
    rows = connection.execute(
        "SELECT user.name, head, first, count(seq), min(seq), max(seq) FROM user "
        "LEFT JOIN inbox ON inbox.user = user.name AND seq >= first GROUP BY user.name"
    )
    for name, head, first, count, least, most in rows:
        if first > head + 1:
            yield f"inbox of {name!r}: begins with {first}, but its newest number is {head}"
        elif count != head - first + 1 or (count and (least, most) != (first, head)):
            yield (
                f"inbox of {name!r}: expected {first} to {head}, found {count} messages"
                + (f" from {least} to {most}" if count else "")
            )
    orphans = "SELECT DISTINCT inbox.user FROM inbox LEFT JOIN user ON user.name = inbox.user WHERE user.name IS NULL"
    for (name,) in connection.execute(orphans):
        if name not in left.users:
            yield f"inbox of {name!r}: has messages, but the user is unknown"


def _cursors(connection: sqlite3.Connection, left: Recovered) -> Iterator[str]:
    """What a device has taken was there."""
    rows = connection.execute(
        "SELECT device.user, device.name, taken, coalesce(head, 0) FROM device "
        "LEFT JOIN user ON user.name = device.user"
    )
    for name, device, taken, head in rows:
        if name not in left.users and taken > head:
            yield f"device {device!r} of {name!r}: has taken number {taken}, but the newest is {head}"
    for user in left.users.values():
        for each in user.devices:
            if each.taken > user.head:
                yield f"device {each.name!r} of {user.name!r}: has taken number {each.taken}, the newest is {user.head}"
