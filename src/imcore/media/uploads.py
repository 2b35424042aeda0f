"""Uploads from their creation to the finished file. One request at a time works on one; a newer one ends an older.

An upload is a row of the books and a file that grows. It becomes a file of the store when it is whole, checked and on
disk; who asks again after that is told so until its time is over.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from . import tus
from .aside import Aside
from .ledger import NEVER, Ledger, Row
from .limits import Limits
from .links import new_id
from .mover import Move
from .part import BOOT, Part, hashed, join, make, refused, sync
from .refusal import Refusal
from .store import Entry, Store

__all__ = ["Upload", "Uploads"]

GONE = "there is no such upload, or it is past its time"


class Upload:
    """One of them, in memory."""

    def __init__(self, row: Row, path: Path, offset: int) -> None:
        self.row = row
        self.path = path
        self.offset = offset
        """Bytes that are written."""
        self.sha256: Any = None  # of those bytes, None = not known: they were written by an earlier process
        self.lock = asyncio.Lock()
        self.move: Move | None = None

    @property
    def id(self) -> str:
        return self.row.id

    @property
    def done(self) -> bool:
        """It is in a file of the store."""
        return bool(self.row.became)

    @property
    def whole(self) -> bool:
        return self.offset == self.row.length

    @property
    def name(self) -> tus.Described:
        """What its metadata say."""
        return tus.described(tus.metadata(self.row.metadata))


class Uploads:
    """folder: of the files under way. `load` first."""

    def __init__(self, folder: Path, ledger: Ledger, store: Store, limits: Limits, aside: Aside) -> None:
        self._folder = folder
        self._ledger = ledger
        self._store = store
        self._limits = limits
        self._aside = aside
        self._books = asyncio.Lock()  # one thread at a time is in the books
        self._all: dict[str, Upload] = {}

    async def load(self) -> None:
        """Those that an earlier process left."""
        for row in await self._write(self._ledger.uploads):
            self._all[row.id] = await self._aside(_found, row, self._folder / row.id)

    def find(self, id: str, user: str) -> Upload:
        """A user's own. Raises `Refusal`."""
        upload = self._all.get(id)
        if upload is None or upload.row.user != user:
            raise Refusal(404, GONE)
        if upload.row.expires < time.time():
            raise Refusal(410, "this upload is past its time: begin anew")
        return upload

    async def create(self, user: str, length: int, metadata: str, *, partial: bool) -> Upload:
        """A new one, of nothing yet. Raises `Refusal` for what a user may not have, or the disk can't hold."""
        limits = self._limits
        if length > limits.max_size:
            raise Refusal(413, f"Upload-Length: expected at most {limits.max_size}, got {length}")
        if not partial:
            self._check_type(metadata)
        if length > await self._aside(_free, self._folder):
            raise Refusal(507, f"the disk has no room for {length} bytes: try later")
        row = Row(new_id(), user, length, metadata, partial, self._expires(), BOOT, 0, "")
        upload = Upload(row, self._folder / row.id, 0)
        upload.sha256 = None if partial else hashlib.sha256()
        await self._write(self._begin, row, [])
        try:
            await self._aside(make, upload.path)
        except BaseException:
            await self._forget(upload)
            raise
        self._all[row.id] = upload
        return upload

    def _begin(self, row: Row, parts: list[Upload]) -> None:
        """In the books, within what a user may keep. parts: it takes their place."""
        count, held = self._ledger.held(row.user)
        count, held = count - len(parts), held - sum(part.row.length for part in parts)
        if held + row.length > self._limits.quota:
            raise Refusal(413, f"expected at most {self._limits.quota} bytes of one user, and there are {held} already")
        if count >= self._limits.files:
            raise Refusal(
                413, f"expected at most {self._limits.files} files of one user: delete some, or finish uploads"
            )
        self._ledger.begin(row)

    async def offset(self, upload: Upload) -> int:
        """Where to go on; what is before is on disk."""
        async with self.alone(upload):
            await self._sync(upload)
            return upload.offset

    async def append(
        self,
        upload: Upload,
        offset: int,
        checksum: tus.Checksum | None,
        move: Move,
        fill: Callable[[Part], Awaitable[None]],
    ) -> None:
        """Take a request's bytes. fill: gives them to a part. Raises `Refusal`; OSError if the connection broke: what
        came before counts, and is not lost."""
        async with self.alone(upload, move):
            if offset != upload.offset:
                raise Refusal(409, f"Upload-Offset: expected {upload.offset}, got {offset}")
            if upload.done:
                return
            part = await self._aside(Part, upload.path, offset, upload.sha256, checksum)
            whole = False
            try:
                await fill(part)
                whole = True
            except OSError as error:
                raise refused(error) or error from None
            finally:
                try:
                    upload.sha256 = await self._aside(part.end, whole)
                finally:
                    upload.offset = part.offset
            await self._sync(upload)

    async def finish(self, upload: Upload) -> None:
        """If it is whole: make it a file. Raises `Refusal` if it is not what its sender announced."""
        async with self.alone(upload):
            if upload.done or not upload.whole or upload.row.partial:
                return
            await self._sync(upload)
            sha256 = upload.sha256.hexdigest() if upload.sha256 is not None else await self._aside(hashed, upload.path)
            await self._become(upload, sha256, [upload])

    async def concat(self, user: str, ids: Iterable[str], metadata: str) -> Upload:
        """One file of the user's finished parts, in this order. Again with the same parts, it is the same file."""
        parts = [self.find(id, user) for id in ids]
        if any(not part.row.partial for part in parts):
            raise Refusal(400, "Upload-Concat: expected uploads that were created as partial")
        became = {part.row.became for part in parts}
        whole = self._all.get(next(iter(became)))
        if len(became) == 1 and whole is not None:
            return whole
        if became != {""}:
            raise Refusal(400, "Upload-Concat: expected parts that are in no other file yet")
        missing = next((part for part in parts if not part.whole), None)
        if missing is not None:
            raise Refusal(400, f"Upload-Concat: expected whole parts, and {missing.id} has {missing.offset} bytes")
        length = sum(part.row.length for part in parts)
        if length > self._limits.max_size:
            raise Refusal(413, f"expected at most {self._limits.max_size} bytes in all, got {length}")
        self._check_type(metadata)
        row = Row(new_id(), user, length, metadata, False, self._expires(), BOOT, 0, "")
        upload = Upload(row, self._folder / row.id, 0)
        async with upload.lock:
            try:
                sha256 = await self._aside(join, [part.path for part in parts], upload.path)
            except FileNotFoundError:
                raise Refusal(404, GONE) from None
            except OSError as error:
                raise refused(error) or error from None
            if any(part.done for part in parts):  # another request was faster
                await self._aside(_remove, upload.path)
                raise Refusal(409, "Upload-Concat: another request made a file of these parts: ask again")
            for part in parts:
                part.row.became = row.id
            try:
                await self._write(self._begin, row, parts)
                upload.offset = length
                self._all[row.id] = upload
                await self._become(upload, sha256, [upload, *parts])
            except BaseException:
                for part in parts:
                    part.row.became = ""
                self._all.pop(row.id, None)
                await self._forget(upload)
                raise
        for part in parts:
            await self._aside(_remove, part.path)
        return upload

    async def _become(self, upload: Upload, sha256: str, uploads: list[Upload]) -> None:
        """A file of the store, and then in the books."""
        said = upload.name
        if said.sha256 and said.sha256 != sha256:
            await self._drop(upload)
            raise Refusal(tus.CHECKSUM_MISMATCH, f"sha256: expected {said.sha256}, got {sha256}: send it again")
        now = int(time.time())
        entry = Entry(upload.row.length, sha256, said.type, said.name, now)
        try:
            await self._store.put(upload.id, upload.path, entry)
        except OSError as error:
            raise refused(error) or error from None
        expires = now + self._limits.keep_s if self._limits.keep_s else NEVER
        await self._write(
            self._ledger.finish, [each.id for each in uploads], upload.id, upload.row.user, entry.size, expires
        )
        for each in uploads:
            each.row.became = upload.id
            each.sha256 = None
        await self._aside(_remove, upload.path)

    async def delete(self, upload: Upload) -> None:
        """Give it up. A file that it became stays."""
        async with self.alone(upload):
            await self._drop(upload)

    async def expire(self, ids: Iterable[str]) -> None:
        """Those whose time is over."""
        for id in ids:
            upload = self._all.get(id)
            if upload is not None:
                await self.delete(upload)

    async def owner(self, file: str) -> str | None:
        """Whose file it is."""
        owner: str | None = await self._write(self._ledger.owner, file)
        return owner

    async def drop(self, file: str) -> None:
        """The file is gone."""
        await self._write(self._ledger.drop, file)

    async def over(self) -> tuple[list[str], list[str]]:
        """Uploads and files that are past their time."""
        found: tuple[list[str], list[str]] = await self._write(self._ledger.over)
        return found

    @asynccontextmanager
    async def alone(self, upload: Upload, move: Move | None = None) -> AsyncIterator[None]:
        """Work on it; whoever does so now is ended. Raises `Refusal` if it is gone when it is our turn."""
        if upload.move is not None:
            upload.move.stop(Refusal(409, "another request took this upload over"))
        async with upload.lock:
            if upload.id not in self._all:
                raise Refusal(404, GONE)
            upload.move = move
            try:
                yield
            finally:
                upload.move = None

    async def _sync(self, upload: Upload) -> None:
        row = upload.row
        if upload.done or (row.synced >= upload.offset and row.boot == BOOT):
            return
        try:
            await self._aside(sync, upload.path)
        except OSError as error:
            raise refused(error) or error from None
        row.synced, row.boot, row.expires = upload.offset, BOOT, self._expires()
        await self._write(self._ledger.sync, row.id, row.boot, row.synced, row.expires)

    async def _drop(self, upload: Upload) -> None:
        self._all.pop(upload.id, None)
        await self._forget(upload)

    async def _forget(self, upload: Upload) -> None:
        await self._write(self._ledger.forget, upload.id)
        await self._aside(_remove, upload.path)

    async def _write(self, what: Callable[..., Any], *values: object) -> Any:
        async with self._books:
            return await self._aside(what, *values)

    def _expires(self) -> int:
        return int(time.time()) + self._limits.expire_s

    def _check_type(self, metadata: str) -> None:
        kind = tus.described(tus.metadata(metadata)).type
        if not self._limits.takes(kind):
            raise Refusal(415, f"filetype: expected one of {', '.join(self._limits.types)}, got {kind}")


def _found(row: Row, path: Path) -> Upload:
    """How far it came. What was written since the machine was started is there; before that, what was synced."""
    if row.became:
        return Upload(row, path, row.length)
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        size = 0
        make(path)
    offset = size if row.boot == BOOT and BOOT else min(size, row.synced)
    offset = min(offset, row.length)
    os.truncate(path, offset)
    return Upload(row, path, offset)


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
