"""One upload by tus 1.0: in one piece, or in parts at once where the round trip is long."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import mimetypes
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from ..errors import MediaDamaged, Refused
from ..reference import Reference
from .media_state import Up, forget, remember, remembered
from .media_way import BASE, FINISH_S, Unreachable, Way, together
from .yielding import Yielding

__all__ = ["PART_LEAST", "Upload", "parts_for"]

PIECE = 256 * 1024
PART_LEAST = 4 * 1024 * 1024
"""Bytes of a part that is worth a connection."""
PARTS_MOST = 4
FAR_S = 0.05
"""A round trip from which on one connection does not fill the way, seconds."""
UPLOADS = f"{BASE}/uploads"


def parts_for(size: int, round_trip: float) -> int:
    """Connections at once for so many bytes."""
    return max(1, min(PARTS_MOST, size // PART_LEAST)) if round_trip >= FAR_S else 1


class Upload:
    """state: where it is remembered, None = nowhere."""

    def __init__(
        self,
        way: Way,
        yielding: Yielding,
        path: Path,
        name: str | None,
        type: str,
        state: Path | None,
        progress: Callable[[int, int], object] | None,
        say: Callable[[str], None],
    ) -> None:
        self._way = way
        self._yielding = yielding
        self._path = path
        self._name = path.name if name is None else name
        self._type = type or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        self._state = state
        self._progress = progress
        self._say = say
        self._over: list[int] = []  # bytes of each part

    async def run(self) -> Reference:
        """To the end."""
        self._file = await asyncio.to_thread(self._path.open, "rb")
        try:
            self._size = os.fstat(self._file.fileno()).st_size
            self._sha256 = (await asyncio.to_thread(hashlib.file_digest, self._file, "sha256")).hexdigest()
            for _ in range(2):  # an upload that was remembered may be past its time
                try:
                    reference = await self._once()
                except _Gone:
                    if self._state is not None:
                        forget(self._state)
                else:
                    break
            else:
                raise Refused("no_route", "the upload went away while it was under way: begin anew")
        finally:
            self._file.close()
        if reference.sha256 != self._sha256:
            raise MediaDamaged(f"{self._path}: what arrived is another file than what was sent: it changed meanwhile?")
        if self._state is not None:
            forget(self._state)
        return reference

    async def _once(self) -> Reference:
        up = remembered(self._state, Up) if self._state is not None else None
        fresh = up is None or (up.size, up.sha256) != (self._size, self._sha256) or not up.parts
        if fresh or up is None:
            up = await self._way.persist("beginning", self._begin, self._say)
            if self._state is not None:
                remember(self._state, up)
        self._over = [0] * len(up.parts)
        starts = [0, *(stop for _, stop in up.parts)]
        await together(
            self._part(index, path, starts[index], stop, known=fresh) for index, (path, stop) in enumerate(up.parts)
        )
        path = up.parts[0][0]
        if len(up.parts) > 1:
            path = await self._way.persist("joining", lambda: self._join([path for path, _ in up.parts]), self._say)
        return await self._way.persist("finishing", lambda: self._reference(path), self._say)

    async def _begin(self) -> Up:
        await self._way.reach()
        count = parts_for(self._size, self._way.round_trip)
        up = Up(self._size, self._sha256)
        for index in range(count):
            start, stop = self._size * index // count, self._size * (index + 1) // count
            headers = {"Upload-Length": str(stop - start)}
            if count > 1:
                headers["Upload-Concat"] = "partial"
            else:
                headers["Upload-Metadata"] = self._metadata()
            async with self._way.request("POST", UPLOADS, headers=headers) as response:
                up.parts.append((_path(response.headers.get("Location", "")), stop))
        return up

    def _metadata(self) -> str:
        said = {"filename": self._name[:255], "filetype": self._type, "sha256": self._sha256}
        return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in said.items() if value)

    async def _part(self, index: int, path: str, start: int, stop: int, *, known: bool) -> None:
        """known: nothing of it is there yet."""
        offset: int | None = 0 if known else None

        async def step() -> None:
            nonlocal offset
            if offset is None:
                async with self._way.request("HEAD", path, fine=(404, 410)) as response:
                    if response.status != 200:
                        raise _Gone
                    offset = int(response.headers["Upload-Offset"])
            at, offset = start + offset, None  # after a break it is asked for
            self._tell(index, at - start)
            if at >= stop:
                return
            headers = {
                "Upload-Offset": str(at - start),
                "Content-Type": "application/offset+octet-stream",
                "Content-Length": str(stop - at),
            }
            async with self._way.request(
                "PATCH",
                path,
                headers=headers,
                data=self._pieces(index, start, at, stop),
                read_s=FINISH_S,
                fine=(404, 410),
            ) as response:
                if response.status != 204:
                    raise _Gone

        await self._way.persist("sending", step, self._say)

    async def _pieces(self, index: int, start: int, at: int, stop: int) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        while at < stop:
            data = await asyncio.to_thread(os.pread, self._file.fileno(), min(PIECE, stop - at), at)
            if not data:
                raise MediaDamaged(f"{self._path}: it became shorter while it was sent")
            yield data
            at += len(data)
            self._tell(index, at - start)
            wait = self._yielding.take(len(data), loop.time())
            if wait:
                await asyncio.sleep(wait)

    async def _join(self, paths: list[str]) -> str:
        headers = {"Upload-Concat": "final;" + " ".join(paths), "Upload-Metadata": self._metadata()}
        async with self._way.request(
            "POST", UPLOADS, headers=headers, read_s=FINISH_S, fine=(400, 404, 410)
        ) as response:
            if response.status != 201:  # a part went away, or they are in another file
                raise _Gone
            return _path(response.headers.get("Location", ""))

    async def _reference(self, path: str) -> Reference:
        async with self._way.request("GET", path, fine=(404, 410)) as response:
            if response.status != 200:
                raise _Gone
            return Reference.decode(await response.read())

    def _tell(self, index: int, over: int) -> None:
        self._over[index] = over
        if self._progress is not None:
            self._progress(sum(self._over), self._size)


class _Gone(Exception):
    """The service does not know the upload any more."""


def _path(location: str) -> str:
    """Of an upload, from its address."""
    at = location.find(f"{UPLOADS}/")
    if at < 0:
        raise Unreachable(f"expected the address of an upload, got {location[:80]!r}")
    return location[at:]
