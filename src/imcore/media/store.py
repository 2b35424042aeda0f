"""Where finished files are kept: what a store does, and the one that is a folder.

A file is there when its entry is, and the entry is written last: whatever fails before leaves nothing that could be
read. It never changes afterwards. What it holds is looked at before it is served, so that rot is found here.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta

from .aside import Aside
from .part import hashed, sync_folder

__all__ = ["Damaged", "Entry", "Folder", "Source", "Store"]

SOUND_MOST = 100_000
"""Files that we remember to have looked at."""


class Entry(msgspec.Struct, frozen=True):
    """What is known of a file."""

    size: Annotated[int, Meta(ge=0)]
    sha256: str
    type: str
    name: str
    created: int
    """Seconds since 1970."""


class Damaged(Exception):
    """What the store holds is not what was put into it."""


class Source(Protocol):
    """A file that is being read. fd: of a local file that is sound, None = `read` it."""

    fd: int | None

    def read(self, start: int, stop: int) -> AsyncIterator[bytes]:
        """Bytes [start, stop) in pieces. Raises OSError, `Damaged`."""

    def close(self) -> None:
        """Nobody reads it any more."""


class Store(Protocol):
    """All may raise OSError; `open` raises `Damaged`."""

    async def put(self, id: str, path: Path, entry: Entry) -> None:
        """Keep the bytes of this file, which is synced and does not change any more. Again, for the same id, is no
        error."""

    async def entry(self, id: str) -> Entry | None:
        """What is known of a file, None = there is none."""

    async def open(self, id: str, entry: Entry) -> Source:
        """To read it."""

    async def delete(self, id: str) -> None:
        """It may be there or not."""


class Local:
    """A file of the folder."""

    def __init__(self, fd: int) -> None:
        self.fd: int | None = fd

    async def read(self, start: int, stop: int) -> AsyncIterator[bytes]:
        """For connections that the kernel can't feed from a file."""
        fd = self.fd
        assert fd is not None
        while start < stop:
            data = await asyncio.to_thread(os.pread, fd, min(256 * 1024, stop - start), start)
            if not data:
                raise Damaged("the file became shorter")
            start += len(data)
            yield data

    def close(self) -> None:
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


class Folder:
    """Two files for each: `ab/abcd…` with its bytes, and `ab/abcd….json` with its entry."""

    def __init__(self, path: Path, aside: Aside) -> None:
        self._path = path
        self._aside = aside
        self._sound: dict[str, tuple[int, ...]] = {}  # what was looked at, as it was then
        self._looking: dict[str, asyncio.Future[None]] = {}

    async def put(self, id: str, path: Path, entry: Entry) -> None:
        await self._aside(self._put, id, path, entry)

    def _put(self, id: str, path: Path, entry: Entry) -> None:
        place = self._place(id)
        if not place.parent.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            sync_folder(place.parent.parent)
        place.unlink(missing_ok=True)  # of an earlier try
        place.hardlink_to(path)  # what it was made of goes when it is in the books
        said = place.with_suffix(".json")
        new = place.with_suffix(".new")
        with new.open("wb") as file:
            file.write(msgspec.json.encode(entry))
            file.flush()
            os.fsync(file.fileno())
        sync_folder(place.parent)  # the bytes are there before the entry says so
        new.replace(said)
        sync_folder(place.parent)

    async def entry(self, id: str) -> Entry | None:
        try:
            return msgspec.json.decode(await self._aside(self._place(id).with_suffix(".json").read_bytes), type=Entry)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise Damaged(f"the entry of {id}: {error}") from None

    async def open(self, id: str, entry: Entry) -> Source:
        source = Local(await self._aside(self._open, id))
        try:
            await self._look(id, entry, source)
        except BaseException:
            source.close()
            raise
        return source

    def _open(self, id: str) -> int:
        try:
            return os.open(self._place(id), os.O_RDONLY)
        except FileNotFoundError:
            raise Damaged(f"{id}: the entry is there, and its bytes are not") from None

    async def _look(self, id: str, entry: Entry, source: Local) -> None:
        """The bytes have the hash that they had: looked at once in this process's life, and when the file changes."""
        assert source.fd is not None
        found = os.fstat(source.fd)
        now = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        while id in self._looking:
            await asyncio.wait([self._looking[id]])
        if self._sound.get(id) == now:
            return
        self._looking[id] = asyncio.get_running_loop().create_future()
        try:
            self._sound.pop(id, None)
            if found.st_size != entry.size or await self._aside(hashed, self._place(id)) != entry.sha256:
                raise Damaged(f"{id}: the bytes are not those that were stored")
            if len(self._sound) >= SOUND_MOST:
                del self._sound[next(iter(self._sound))]
            self._sound[id] = now
        finally:
            self._looking.pop(id).set_result(None)

    async def delete(self, id: str) -> None:
        await self._aside(self._delete, id)

    def _delete(self, id: str) -> None:
        place = self._place(id)
        place.with_suffix(".json").unlink(missing_ok=True)
        place.unlink(missing_ok=True)

    def _place(self, id: str) -> Path:
        return self._path / id[:2] / id
