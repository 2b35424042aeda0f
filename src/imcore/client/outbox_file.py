"""The outbox's file: what was given to `send` and is not settled, so that it outlives the process.

Blocking: it belongs to a thread. A change is durable, through a power cut too, when `write` has returned. What is never
written is that a message was sent: whatever has a number in here may have been.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from ..errors import OutboxError
from ..messages import Refusal
from .files import DeviceFile

__all__ = ["Change", "OutboxFile", "Row", "base_of", "forgotten", "given_up", "new"]

Change = tuple[str, tuple[Any, ...]]
"""A statement and its values."""

SYNCHRONOUS: Literal["FULL", "OFF"] = "FULL"
"""Each transaction is on the disk before it counts; tests that kill processes, not machines, do without."""

_TABLES = (
    # base: what the numbers count from, NULL = no message had one yet. A blob, since it may not fit a signed integer.
    """CREATE TABLE IF NOT EXISTS owner (
        one INTEGER PRIMARY KEY CHECK (one = 1), device TEXT NOT NULL, user TEXT, base BLOB
    ) STRICT""",
    # AUTOINCREMENT: no place is given twice, not even that of a message which is gone. code, text: why it is given up.
    """CREATE TABLE IF NOT EXISTS message (
        place INTEGER PRIMARY KEY AUTOINCREMENT, route TEXT NOT NULL, body BLOB NOT NULL, code TEXT, text TEXT
    ) STRICT""",
)


class Row(msgspec.Struct, frozen=True, gc=False):
    """A message in the file."""

    place: int
    route: str
    body: bytes
    refusal: Refusal | None
    """Set: it was being given up."""


def new(place: int, route: str, body: bytes) -> Change:
    """A message."""
    return "INSERT INTO message VALUES (?, ?, ?, NULL, NULL)", (place, route, body)


def given_up(place: int, why: Refusal) -> Change:
    """Its number is given up. The body stays: who is told of it after a death has to find it again."""
    return "UPDATE message SET code = ?, text = ? WHERE place = ?", (why.code, why.text, place)


def forgotten(place: int) -> Change:
    """It is settled."""
    return "DELETE FROM message WHERE place = ?", (place,)


def base_of(user: str, base: int) -> Change:
    """Whose messages these are, and what their numbers count from."""
    return "UPDATE owner SET user = ?, base = ?", (user, base.to_bytes(8))


class OutboxFile(DeviceFile):
    """Raises `ConfigError` if the file can't be read, written and trusted."""

    def __init__(self, path: str | os.PathLike[str], device: str) -> None:
        self.base: int | None = None
        """What the numbers counted from; None = no message ever had one."""
        self.last = 0
        """The newest place that was given."""
        self.rows: list[Row] = []
        """What an earlier process left, in order."""
        super().__init__("outbox", path, device, _TABLES, SYNCHRONOUS)

    def _load(self) -> None:
        file = self._file
        for (found,) in file.execute("PRAGMA quick_check(1)"):
            if found != "ok":
                raise sqlite3.DatabaseError(found)
        row = file.execute("SELECT device, user, base FROM owner").fetchone()
        if row is not None:
            device, user, base = row
            self._belongs(device, user)
            self.base = None if base is None else int.from_bytes(base)
        else:
            row = (self.device, None, None)
        file.execute("REPLACE INTO owner VALUES (1, ?, ?, ?)", row)  # a disk that takes nothing is told at once
        last = file.execute("SELECT seq FROM sqlite_sequence WHERE name = 'message'").fetchone()
        self.last = last[0] if last is not None else 0
        for place, route, body, code, text in file.execute("SELECT * FROM message ORDER BY place"):
            self.rows.append(Row(place, route, body, None if code is None else Refusal(code, text)))

    def write(self, changes: Sequence[Change]) -> None:
        """All of them or none; raises `OutboxError`, and then it was none."""
        file = self._file
        try:
            try:
                file.execute("BEGIN IMMEDIATE")
                for statement, values in changes:
                    file.execute(statement, values)
                file.execute("COMMIT")
            except BaseException:
                if file.in_transaction:
                    file.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise OutboxError(f"{self.name}: {error}") from None
