"""What a device remembers between two processes: where the application stopped in its inbox.

Each step is one transaction without fsync (`synchronous=NORMAL` in WAL mode): it survives the death of the process at
any moment. A power cut may take the last steps back; then those messages are shown once more, and none is lost.
"""

from __future__ import annotations

import os
import sqlite3

from ..errors import ConfigError
from ..messages import Resume
from .files import DeviceFile

__all__ = ["StateFile"]

_TABLE = """CREATE TABLE IF NOT EXISTS downlink (
    one INTEGER PRIMARY KEY CHECK (one = 1), user TEXT NOT NULL, device TEXT NOT NULL, epoch TEXT NOT NULL, seq BLOB NOT
    NULL
) STRICT"""
_READ = "SELECT user, device, epoch, seq FROM downlink"
_WRITE = "REPLACE INTO downlink VALUES (1, ?, ?, ?, ?)"


class StateFile(DeviceFile):
    """Raises `ConfigError` if the file can't be used."""

    def __init__(self, path: str | os.PathLike[str], device: str) -> None:
        self.resume: Resume | None = None
        """The resume point."""
        super().__init__("state", path, device, [_TABLE], "NORMAL")

    def _load(self) -> None:
        row = self._file.execute(_READ).fetchone()
        if row is not None:
            user, device, epoch, seq = row
            self._belongs(device, user)
            self.resume = Resume(epoch, int.from_bytes(seq))

    def save(self, resume: Resume) -> None:
        """Everything up to there is taken. Raises `ConfigError` if it can't be written."""
        if resume == self.resume:
            return
        try:
            # A blob, since a number of the wire may not fit SQLite's signed integers.
            self._file.execute(_WRITE, (self.user, self.device, resume.epoch, resume.seq.to_bytes(8)))
        except sqlite3.Error as error:
            raise ConfigError(self._why(error)) from None
        self.resume = resume
