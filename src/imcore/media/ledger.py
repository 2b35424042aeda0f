"""The books of the media service: unfinished uploads, and what each user holds. SQLite, on one thread at a time.

How far an upload came is not here: that its file says itself, as long as the machine has not gone down since. What is
here for the other case is what was on disk for sure.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import msgspec

from ..errors import EngineError

__all__ = ["Ledger", "Row"]

_TABLES = """
CREATE TABLE IF NOT EXISTS uploads (
    id TEXT PRIMARY KEY, user TEXT NOT NULL, length INTEGER NOT NULL, metadata TEXT NOT NULL, partial INTEGER NOT NULL,
    expires INTEGER NOT NULL, boot TEXT NOT NULL, synced INTEGER NOT NULL, became TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS uploads_expires ON uploads (expires);
CREATE INDEX IF NOT EXISTS uploads_user ON uploads (user);
CREATE TABLE IF NOT EXISTS files (
    id TEXT PRIMARY KEY, user TEXT NOT NULL, size INTEGER NOT NULL, expires INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS files_expires ON files (expires);
CREATE INDEX IF NOT EXISTS files_user ON files (user);
"""
NEVER = 1 << 62


class Row(msgspec.Struct):
    """An upload that is not finished, or was lately."""

    id: str
    user: str
    length: int
    metadata: str
    """As it came."""
    partial: bool
    expires: int
    boot: str
    """When the machine was started during which `synced` may be less than what is there."""
    synced: int
    """Bytes that are on disk for sure."""
    became: str
    """The id of the file that it is in, "" = not finished."""


class Ledger:
    """Raises `EngineError` for a disk that fails; then nothing has changed."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute("PRAGMA synchronous=FULL")
            self._file.executescript(_TABLES)
        except sqlite3.Error as error:
            raise EngineError(f"{path}: expected the media service's books: {error}") from None

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def uploads(self) -> list[Row]:
        """All of them, at the start."""
        return [
            Row(id, user, length, metadata, bool(partial), expires, boot, synced, became)
            for id, user, length, metadata, partial, expires, boot, synced, became in self._do("SELECT * FROM uploads")
        ]

    def held(self, user: str) -> tuple[int, int]:
        """How many files the user has, with the uploads under way, and their bytes."""
        [(count, size)] = self._do(
            "SELECT count(*), coalesce(sum(size), 0) FROM (SELECT size FROM files WHERE user = ?1 UNION ALL "
            "SELECT length FROM uploads WHERE user = ?1 AND became = '')",
            user,
        )
        return int(count), int(size)

    def begin(self, row: Row) -> None:
        """There is an upload."""
        self._do(
            "INSERT INTO uploads VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            row.id, row.user, row.length, row.metadata, row.partial, row.expires, row.boot, row.synced, row.became,
        )  # fmt: skip

    def sync(self, id: str, boot: str, synced: int, expires: int) -> None:
        """So much is on disk."""
        self._do("UPDATE uploads SET boot = ?, synced = ?, expires = ? WHERE id = ?", boot, synced, expires, id)

    def finish(self, uploads: list[str], file: str, user: str, size: int, expires: int) -> None:
        """These uploads became one file."""
        self._do("BEGIN IMMEDIATE")
        try:
            self._do("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", file, user, size, expires)
            for id in uploads:
                self._do("UPDATE uploads SET became = ? WHERE id = ?", file, id)
            self._do("COMMIT")
        except EngineError:
            if self._file.in_transaction:
                self._file.rollback()
            raise

    def forget(self, id: str) -> None:
        """The upload is gone."""
        self._do("DELETE FROM uploads WHERE id = ?", id)

    def owner(self, file: str) -> str | None:
        """Whose file it is."""
        rows = self._do("SELECT user FROM files WHERE id = ?", file)
        return str(rows[0][0]) if rows else None

    def drop(self, file: str) -> None:
        """The file is gone."""
        self._do("DELETE FROM files WHERE id = ?", file)

    def over(self, now: float | None = None) -> tuple[list[str], list[str]]:
        """Uploads and files that are past their time."""
        at = int(time.time() if now is None else now)
        uploads = self._do("SELECT id FROM uploads WHERE expires < ?", at)
        files = self._do("SELECT id FROM files WHERE expires < ?", at)
        return [id for (id,) in uploads], [id for (id,) in files]

    def _do(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            return self._file.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise EngineError(f"the media service's books: {error}") from None
