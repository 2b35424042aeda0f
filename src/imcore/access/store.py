"""Where figures outlive the process: a port that several copies of the service may share one day, and a file for one.

What is lost with it is measured anew within minutes; so nothing here ever stands in the way of an answer.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from .figures import FIGURES_MOST, KEPT_S, Key, Row

__all__ = ["FILE", "FileStore", "Store"]

FILE = "access.db"
"""In the data folder."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS figure (key BLOB PRIMARY KEY, weights BLOB NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS figure_at ON figure (at);
"""
_PUT = (
    "INSERT INTO figure VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET weights = excluded.weights, at = excluded.at"
)

_log = logging.getLogger(__name__)


class Store(Protocol):
    """Keeps figures. Called on a thread, one call at a time; raises `OSError` where it can't."""

    def load(self, now: float) -> list[Row]:
        """What was saved and is not too old, the newest last."""

    def save(self, rows: Sequence[Row], now: float) -> None:
        """Keep these, in place of what was kept under their keys. Forget what is too old."""

    def close(self) -> None:
        """Let go."""


class FileStore:
    """SQLite, for a service that has no other copy. A damaged file is put aside, and begun anew."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._path = Path(folder) / FILE
        self._database: sqlite3.Connection | None = None

    def load(self, now: float) -> list[Row]:
        """What an earlier process saved."""
        try:
            return self._load(now)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise OSError(f"{self._path}: {error}") from error
            _log.warning("%s: %s: it is put aside, and the figures begin anew", self._path, error)
            self.close()
            for suffix in ("-wal", "-shm"):
                Path(f"{self._path}{suffix}").unlink(missing_ok=True)
            self._path.replace(f"{self._path}.bad")
            return self._load(now)

    def save(self, rows: Sequence[Row], now: float) -> None:
        """All of them or none."""
        encode = msgspec.msgpack.encode
        try:
            database = self._open()
            with database:
                database.executemany(_PUT, [(encode(row.key), row.weights, row.at) for row in rows])
                database.execute("DELETE FROM figure WHERE at < ?", (now - KEPT_S,))
        except sqlite3.Error as error:
            raise OSError(f"{self._path}: {error}") from error

    def close(self) -> None:
        """Let go of the file."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _load(self, now: float) -> list[Row]:
        found = self._open().execute(
            "SELECT key, weights, at FROM figure WHERE at >= ? ORDER BY at DESC LIMIT ?", (now - KEPT_S, FIGURES_MOST)
        )
        return [Row(msgspec.msgpack.decode(key, type=Key), weights, at) for key, weights, at in found][::-1]

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            self._database = sqlite3.connect(self._path, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.executescript(_SCHEMA)
        return self._database
