"""What a device remembers between two processes: where the application stopped in its inbox. One small SQLite file.

Each step is one transaction without fsync (`synchronous=NORMAL` in WAL mode): it survives the death of the process at
any moment. A power cut may take the last steps back; then those messages are shown once more, and none is lost.
"""

from __future__ import annotations

import os
import sqlite3

from ..errors import ConfigError
from ..messages import Resume

__all__ = ["StateFile"]

_TABLE = """CREATE TABLE IF NOT EXISTS downlink (
    one INTEGER PRIMARY KEY CHECK (one = 1), user TEXT NOT NULL, device TEXT NOT NULL, epoch TEXT NOT NULL, seq BLOB NOT
    NULL
) STRICT"""
_READ = "SELECT user, device, epoch, seq FROM downlink"
_WRITE = "REPLACE INTO downlink VALUES (1, ?, ?, ?, ?)"


class StateFile:
    """The file of one device, for one process at a time. Raises `ConfigError` if it can't be used as that."""

    def __init__(self, path: str | os.PathLike[str], device: str) -> None:
        self._path = os.fspath(path)
        self._device = device
        self._user: str | None = None
        self.resume: Resume | None = None
        """The resume point."""
        try:
            self._file = sqlite3.connect(self._path, timeout=0, isolation_level=None)
        except sqlite3.Error as error:
            raise ConfigError(self._why(error)) from None
        try:
            self._file.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute("PRAGMA synchronous=NORMAL")
            self._file.execute(_TABLE)
            row = self._file.execute(_READ).fetchone()
            if row is not None:
                self._user, of, epoch, seq = row
                if of != device:
                    raise ConfigError(
                        f"state {self._path}: it belongs to device {of!r} of {self._user!r}, not to {device!r}; "
                        "give each device a file of its own"
                    )
                self.resume = Resume(epoch, int.from_bytes(seq))
        except sqlite3.Error as error:
            self._file.close()
            raise ConfigError(self._why(error)) from None
        except ConfigError:
            self._file.close()
            raise

    def claim(self, user: str) -> None:
        """The server named the user; raises `ConfigError` if the file is another one's."""
        if self._user not in (None, user):
            raise ConfigError(
                f"state {self._path}: it belongs to device {self._device!r} of {self._user!r}, not of {user!r}; "
                "give each user a file of their own"
            )
        self._user = user

    def save(self, resume: Resume) -> None:
        """Everything up to there is taken. Raises `ConfigError` if it can't be written."""
        if resume == self.resume:
            return
        try:
            # A blob, since a number of the wire may not fit SQLite's signed integers.
            self._file.execute(_WRITE, (self._user, self._device, resume.epoch, resume.seq.to_bytes(8)))
        except sqlite3.Error as error:
            raise ConfigError(self._why(error)) from None
        self.resume = resume

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _why(self, error: sqlite3.Error) -> str:
        if "locked" in str(error):
            return f"state {self._path}: another process uses it; give each client a device and a file of its own"
        return f"state {self._path}: expected a file to read and write: {error}"
