"""What a device keeps on disk: small SQLite files, each of one device of one user, for one process at a time."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from typing import Literal

from ..errors import ConfigError

__all__ = ["DeviceFile"]


class DeviceFile:
    """what: its name in errors. synchronous: `FULL` = each transaction survives a power cut; `NORMAL` = the death of
    the process, and a power cut takes the last ones back. Raises `ConfigError` if it can't be used as that.

    It may be opened on one thread and used on another, by one at a time.
    """

    def __init__(
        self,
        what: str,
        path: str | os.PathLike[str],
        device: str,
        tables: Sequence[str],
        synchronous: Literal["FULL", "NORMAL", "OFF"],
    ) -> None:
        self.name = f"{what} {os.fspath(path)}"
        """What it is, and where."""
        self.device = device
        self.user: str | None = None
        """Whose it is, None as long as nobody is known."""
        try:
            self._file = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise ConfigError(self._why(error)) from None
        try:
            self._file.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute(f"PRAGMA synchronous={synchronous}")
            for table in tables:
                self._file.execute(table)
            self._load()
        except sqlite3.Error as error:
            self._file.close()
            raise ConfigError(self._why(error)) from None
        except BaseException:
            self._file.close()
            raise

    def claim(self, user: str) -> None:
        """The server named the user; raises `ConfigError` if the file is another one's."""
        if self.user not in (None, user):
            raise ConfigError(
                f"{self.name}: it belongs to device {self.device!r} of {self.user!r}, not of {user!r}; "
                "give each user a file of their own"
            )
        self.user = user

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _load(self) -> None:
        """Read what an earlier process left."""
        raise NotImplementedError

    def _belongs(self, device: str, user: str | None) -> None:
        """The file says whose it is."""
        if device != self.device:
            raise ConfigError(
                f"{self.name}: it belongs to device {device!r} of {user!r}, not to {self.device!r}; "
                "give each device a file of its own"
            )
        self.user = user

    def _why(self, error: sqlite3.Error) -> str:
        if "locked" in str(error):
            return f"{self.name}: another process uses it; give each client a device and files of its own"
        return f"{self.name}: expected a file to read and write: {error}"
