"""One download: ranges into a file beside the target, which takes the target's place when all of it is there."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from ..errors import MediaDamaged
from ..reference import Reference
from .media_state import Down, forget, remember, remembered
from .media_up import parts_for
from .media_way import BASE, Unreachable, Way, together
from .yielding import Yielding

__all__ = ["Download", "missing", "with_piece"]

REMEMBER = 4 * 1024 * 1024
"""Bytes after which it is remembered how far it came."""
PIECE = 256 * 1024
READ_S = 60.0
LEFT_S = 30
"""A link that ends sooner is not used again, seconds."""


class _Link(msgspec.Struct):
    link: str
    until: int


def with_piece(done: Iterable[tuple[int, int]], start: int, stop: int) -> list[tuple[int, int]]:
    """The pieces, with one more; what touches becomes one."""
    found: list[tuple[int, int]] = []
    for first, last in sorted([*done, (start, stop)]):
        if first >= last:
            continue
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def missing(done: Iterable[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """What they leave of [0, size)."""
    found = []
    at = 0
    for start, stop in with_piece(done, size, size):
        if at < start:
            found.append((at, min(start, size)))
        at = max(at, stop)
    if at < size:
        found.append((at, size))
    return found


class Download:
    """The file `path.part` grows, and `path.part.json` says which pieces of it are there."""

    def __init__(
        self,
        way: Way,
        yielding: Yielding,
        reference: Reference,
        path: Path,
        progress: Callable[[int, int], object] | None,
        say: Callable[[str], None],
    ) -> None:
        self._way = way
        self._yielding = yielding
        self._reference = reference
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._state = path.with_name(path.name + ".part.json")
        self._progress = progress
        self._say = say
        self._link: str | None = None
        self._unsaved = 0

    async def run(self) -> None:
        """To the end."""
        self._down = self._begin()
        self._fd = os.open(self._part, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._tell()
            if self._reference.size:
                await self._way.persist("beginning", self._way.reach, self._say)
            try:
                await self._pieces()
            finally:
                remember(self._state, self._down)
            await asyncio.to_thread(os.fsync, self._fd)
        finally:
            os.close(self._fd)
        if await asyncio.to_thread(_sha256, self._part) != self._reference.sha256:
            self._part.unlink()
            forget(self._state)
            raise MediaDamaged(f"{self._path}: what came is not the file that was sent: get it again")
        self._part.replace(self._path)
        forget(self._state)

    def _begin(self) -> Down:
        reference = self._reference
        down = remembered(self._state, Down) if self._part.exists() else None
        if down is None or (down.id, down.sha256) != (reference.id, reference.sha256):
            self._part.unlink(missing_ok=True)
            return Down(reference.id, reference.sha256)
        return down

    async def _pieces(self) -> None:
        """What is missing, shared out among connections."""
        left = missing(self._down.done, self._reference.size)
        total = sum(stop - start for start, stop in left)
        share = -(-total // parts_for(total, self._way.round_trip)) if total else 0
        pieces = [(at, min(at + share, stop)) for start, stop in left for at in range(start, stop, share)]
        await together(self._piece(start, stop) for start, stop in pieces)

    async def _piece(self, start: int, stop: int) -> None:
        at = start

        async def step() -> None:
            nonlocal at
            link = await self._shared()
            headers = {"Range": f"bytes={at}-{stop - 1}", "If-Range": f'"{self._reference.sha256}"'}
            async with self._way.request(
                "GET", link, headers=headers, anonymous=True, read_s=READ_S, fine=(403,)
            ) as it:
                if it.status == 403:  # it ended early: the clocks differ
                    self._link = None
                    raise Unreachable("the link does not hold any more")
                whole = f"/{self._reference.size}"
                if it.status == 206 and it.headers.get("Content-Range") != f"bytes {at}-{stop - 1}{whole}":
                    raise Unreachable("another range came than was asked for")
                if it.status == 200 and (at, stop) != (0, self._reference.size):
                    raise Unreachable("the whole file came, and a range was asked for")
                async for data in it.content.iter_chunked(PIECE):
                    if at + len(data) > stop:
                        raise Unreachable("more came than was asked for")
                    await asyncio.to_thread(_write, self._fd, data, at)
                    await self._came(at, at + len(data))
                    at += len(data)
            if at < stop:
                raise Unreachable("less came than was asked for")

        if start < stop:
            await self._way.persist("receiving", step, self._say)

    async def _came(self, start: int, stop: int) -> None:
        self._down.done = with_piece(self._down.done, start, stop)
        self._unsaved += stop - start
        if self._unsaved >= REMEMBER:
            self._unsaved = 0
            remember(self._state, self._down)
        self._tell()
        wait = self._yielding.take(stop - start, asyncio.get_running_loop().time())
        if wait:
            await asyncio.sleep(wait)

    async def _shared(self) -> str:
        """A link that holds: got by the reference's key."""
        if self._link is None:
            path = f"{BASE}/files/{self._reference.id}/link"
            async with self._way.request("POST", path, headers={"Media-Key": self._reference.key}) as it:
                self._link = msgspec.json.decode(await it.read(), type=_Link).link
        return self._link

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(sum(stop - start for start, stop in self._down.done), self._reference.size)


def _write(fd: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        size = os.pwrite(fd, view, at)
        view, at = view[size:], at + size


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
