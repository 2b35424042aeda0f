"""An upload's bytes on disk while it is under way: written in order, hashed as they come, and true at any cut."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

from .refusal import Refusal
from .tus import CHECKSUM_MISMATCH, Checksum

__all__ = ["BOOT", "Part", "hashed", "join", "make", "refused", "sync", "sync_folder"]

FULL = (errno.ENOSPC, errno.EDQUOT)
"""The disk is full, or this user's share of it."""
STEP = 1024 * 1024


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:  # another system: then only what was synced counts
        return ""


BOOT = _boot()
"""This start of the machine: what was written since is in the kernel's memory, whatever became of the process."""


def refused(error: OSError) -> Refusal | None:
    """What a failing disk means to who uploads; None if it is not for them to know."""
    if error.errno in FULL:
        return Refusal(507, "the disk is full: what came is kept, go on later")
    return None


class Part:
    """A sink for one request's bytes from `offset` on. sha256: of what is before, None = it is not known.

    checksum: the request's bytes count only if they have it. They are written either way, and then taken back.
    """

    def __init__(self, path: Path, offset: int, sha256: Any, checksum: Checksum | None) -> None:
        self._fd = os.open(path, os.O_RDWR)
        self._start = offset
        self._sha256 = None if sha256 is None else sha256.copy()
        self._before = sha256
        self._checksum = checksum
        self._hash = None if checksum is None else hashlib.new(checksum.algorithm, usedforsecurity=False)
        self.offset = offset
        """Bytes of the upload that are written."""

    def take(self, data: memoryview) -> None:
        """Write, and hash what was written."""
        while data:
            size = os.pwrite(self._fd, data, self.offset)
            if self._sha256 is not None:
                self._sha256.update(data[:size])
            if self._hash is not None:
                self._hash.update(data[:size])
            self.offset += size
            data = data[size:]

    def end(self, whole: bool) -> Any:
        """The request is over; returns the SHA-256 of all bytes up to `offset`, or None. whole: all of its bytes came.
        Raises `Refusal` if they are not those that were announced: then none of them counts."""
        try:
            if self._checksum is None:
                return self._sha256
            assert self._hash is not None
            if whole and self._hash.digest() == self._checksum.digest:
                return self._sha256
            os.ftruncate(self._fd, self._start)
            self.offset = self._start
            self._sha256 = self._before
            if whole:
                raise Refusal(CHECKSUM_MISMATCH, "Upload-Checksum: what came does not have it: send it again")
            return self._sha256
        finally:
            os.close(self._fd)


def sync(path: Path) -> None:
    """Everything that was written is on disk."""
    fd = os.open(path, os.O_RDWR)
    try:
        os.fdatasync(fd) if hasattr(os, "fdatasync") else os.fsync(fd)
    finally:
        os.close(fd)


def sync_folder(path: Path) -> None:
    """The names in it are on disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make(path: Path) -> None:
    """An empty file, which is there after a power cut."""
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    sync_folder(path.parent)


def hashed(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def join(parts: list[Path], whole: Path) -> str:
    """Make one file of several, anew, on disk; returns its SHA-256. What fails leaves the parts as they are."""
    sha256 = hashlib.sha256()
    buffer = memoryview(bytearray(STEP))
    try:
        with whole.open("wb", buffering=0) as out:
            for part in parts:
                with part.open("rb", buffering=0) as file:
                    while size := file.readinto(buffer):
                        sha256.update(buffer[:size])
                        data = buffer[:size]
                        while data:
                            data = data[out.write(data) :]
            os.fsync(out.fileno())
    except BaseException:
        whole.unlink(missing_ok=True)
        raise
    return sha256.hexdigest()
