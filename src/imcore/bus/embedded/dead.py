"""Dead letters: messages whose handler failed too often, what became of them, and what somebody asks for.

A request lies in the database until the node that owns the folder has fulfilled it: at once if it runs, else at its
next start. So whoever asks needs no way to the node, and never writes what the node writes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

import msgspec

from ..books import Action, Letter
from ..ports import Uplink
from .store import Statement, add

__all__ = ["Request", "ask", "bury", "drop", "forget", "keys", "letters", "open_requests"]


class Request(msgspec.Struct, frozen=True):
    """What somebody asks the node to do."""

    number: int
    action: Action
    message: Uplink | None
    """None: there is no letter of that number (any more)."""


_decode = msgspec.msgpack.Decoder(Uplink).decode


def bury(message: Uplink, error: str, at_ms: int) -> list[Statement]:
    """Put a message aside."""
    values = (msgspec.msgpack.encode(message), error, at_ms)
    return [("INSERT INTO dead (message, error, buried_ms) VALUES (?, ?, ?)", values), add("buried", 1)]


def forget(number: int) -> list[Statement]:
    """It is no dead letter any more, and nothing is to be done about it."""
    return [("DELETE FROM dead WHERE number = ?", (number,)), ("DELETE FROM request WHERE number = ?", (number,))]


def drop(number: int) -> list[Statement]:
    """Give a letter up."""
    return [*forget(number), add("dropped", 1)]


def keys(connection: sqlite3.Connection) -> set[str]:
    """The keys of all dead letters: their handlers may come with them again."""
    return {_decode(message).key for (message,) in connection.execute("SELECT message FROM dead")}


def letters(connection: sqlite3.Connection) -> Iterator[Letter]:
    """All of them, oldest first."""
    rows = connection.execute(
        "SELECT dead.number, message, error, buried_ms, action FROM dead LEFT JOIN request USING (number) "
        "ORDER BY dead.number"
    )
    for number, message, error, buried_ms, action in rows:
        yield Letter(number, _decode(message), error, buried_ms, action)


def open_requests(connection: sqlite3.Connection, count: int) -> list[Request]:
    """What was asked for and is not done, at most `count`."""
    rows = connection.execute(
        "SELECT number, action, message FROM request LEFT JOIN dead USING (number) ORDER BY number LIMIT ?", (count,)
    )
    return [Request(number, action, None if message is None else _decode(message)) for number, action, message in rows]


def ask(connection: sqlite3.Connection, numbers: Sequence[int], action: Action) -> None:
    """Ask for it; a later wish replaces an earlier one that was not fulfilled yet. Durable when it returns."""
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT OR REPLACE INTO request VALUES (?, ?)", [(number, action) for number in numbers])
    connection.execute("COMMIT")
