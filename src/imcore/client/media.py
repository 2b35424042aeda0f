"""Files up and down: `Client.upload` and `Client.download`, on connections of their own.

They go on where they were after any break, of the network or of the process, give way to messages, and are checked to
the last byte at both ends. No part of a file ever goes over a link.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from ..errors import ConfigError, Unknown
from ..reference import Reference
from ..ways.ways import Ways
from .media_down import Download
from .media_up import Upload
from .media_way import Way
from .opening import Token
from .yielding import Yielding

__all__ = ["Media", "Progress", "Transfers"]

Progress = Callable[[int, int], object]
"""Told how many bytes of how many are over."""
RoundTrip = Callable[[], Awaitable[float | None]]
"""Measures one of the message channel, seconds; None = there is no link to measure on."""

EVERY_S = 0.5
"""How often the messages' round trip is measured while files move, seconds."""


class Media:
    """ways: to media services. round_trip: of messages."""

    def __init__(self, ways: Ways, token: Token, round_trip: RoundTrip) -> None:
        self._ways = ways
        self._token = token
        self._round_trip = round_trip
        self._active = 0
        self.yielding: Yielding | None = None
        """How they give way to messages; None before the first one."""
        self._watcher: asyncio.Task[None] | None = None
        self.text = ""
        """What went wrong last, while it is tried again."""

    async def upload(
        self,
        path: str | os.PathLike[str],
        *,
        progress: Progress | None,
        name: str | None,
        type: str,
        state: str | os.PathLike[str] | None,
        timeout: float | None,
    ) -> Reference:
        """See `Client.upload`."""
        async with self._transfer(timeout) as (way, yielding):
            kept = None if state is None else Path(state)
            return await Upload(way, yielding, Path(path), name, type, kept, progress, self._say).run()

    async def download(
        self,
        reference: Reference,
        path: str | os.PathLike[str],
        *,
        progress: Progress | None,
        timeout: float | None,
    ) -> None:
        """See `Client.download`."""
        async with self._transfer(timeout) as (way, yielding):
            await Download(way, yielding, reference, Path(path), progress, self._say).run()

    def _say(self, text: str) -> None:
        self.text = text

    @asynccontextmanager
    async def _transfer(self, seconds: float | None) -> AsyncIterator[tuple[Way, Yielding]]:
        """One at work; as long as there is any, the round trip of messages is watched."""
        loop = asyncio.get_running_loop()
        if self.yielding is None or self._watcher is None:
            self.yielding = Yielding(loop.time())
            self._watcher = loop.create_task(self._watch(self.yielding), name="imcore media")
        self._active += 1
        way = Way(self._ways, self._token)
        try:
            async with asyncio.timeout(seconds), way.open():
                yield way, self.yielding
        except TimeoutError:
            why = f" ({self.text})" if self.text else ""
            raise Unknown(0, f"{seconds:g} s are up, and the file is not over{why}: go on by the same call") from None
        except OSError as error:
            raise ConfigError(f"{error.filename or 'file'}: {error.strerror or error}") from None
        finally:
            self._active -= 1
            if not self._active:
                watcher, self._watcher = self._watcher, None
                watcher.cancel()
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([watcher])

    async def _watch(self, yielding: Yielding) -> None:
        loop = asyncio.get_running_loop()
        while True:
            took = await self._round_trip()
            if took is not None:
                yielding.round_trip(took, loop.time())
            await asyncio.sleep(EVERY_S)


class Transfers:
    """What a client does with files."""

    _media: Media

    def _check(self, route: str, body: bytes) -> None:
        raise NotImplementedError

    async def upload(
        self,
        path: str | os.PathLike[str],
        *,
        progress: Progress | None = None,
        name: str | None = None,
        type: str = "",
        state: str | os.PathLike[str] | None = None,
        timeout: float | None = None,
    ) -> Reference:
        """Bring a file to the media service; returns what to send to those who may read it.

        progress: told how many bytes of how many are there. name, type: what the reference says; by default the file's
        own. state: a small file in which it is remembered until it is over, so that the next process goes on by the
        same call. Raises `Refused` for what the service does not take, `Unknown` when `timeout` seconds are up,
        `MediaDamaged` if the file changed meanwhile, `ConfigError` if it can't be read.
        """
        self._check("", b"")
        return await self._media.upload(path, progress=progress, name=name, type=type, state=state, timeout=timeout)

    async def download(
        self,
        reference: Reference,
        path: str | os.PathLike[str],
        *,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> None:
        """Get a file, whole and checked, or not at all. Until then it grows as `path.part`, beside `path.part.json`: by
        them another call, or another process, goes on. Raises as `upload` does."""
        self._check("", b"")
        await self._media.download(reference, path, progress=progress, timeout=timeout)
