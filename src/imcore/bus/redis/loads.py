"""How the nodes do: one short stream, which whoever watches reads from now on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

import msgspec
from redis.asyncio.connection import AbstractConnection

from ..ports import Load
from .pipe import Pipe
from .reader import ask, read_forever

__all__ = ["RedisLoads"]

BLOCK_MS = 2000

log = logging.getLogger("imcore.bus")
_decode = msgspec.msgpack.Decoder(Load).decode


class RedisLoads:
    """Follows `ports.Loads`."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._watchers: list[Callable[[Load], None]] = []
        self._watched = asyncio.Event()
        self._read = b"0-0"

    async def begin(self, connection: AbstractConnection) -> None:
        """What comes from now on is new."""
        newest = await ask(connection, b"XREVRANGE", self._pipe.keys.loads(), b"+", b"-", b"COUNT", 1)
        self._read = newest[0][0] if newest else b"0-0"

    def report(self, load: Load) -> None:
        """Tell all who watch. While Redis is away nobody hears of it; the next one comes in some seconds."""
        if self._pipe.up:
            self._pipe.do(0, b"report", (msgspec.msgpack.encode(load),))

    def watch(self, take: Callable[[Load], None]) -> None:
        """Hand `take` what every node reports from now on."""
        self._watchers.append(take)
        self._watched.set()

    async def read(self) -> None:
        """Read for who watches, until cancelled."""
        await self._watched.wait()
        await read_forever(partial(self._pipe.connect, 0), self._reading)

    async def _reading(self, connection: AbstractConnection) -> None:
        name = self._pipe.keys.loads()
        while True:
            found = await ask(
                connection, b"XREAD", b"COUNT", 100, b"BLOCK", BLOCK_MS, b"STREAMS", name, self._read
            )  # fmt: skip
            for entry, fields in found[0][1] if found else ():
                self._read = entry
                self._tell(_decode(fields[1]))

    def _tell(self, load: Load) -> None:
        for take in self._watchers:
            try:
                take(load)
            except Exception:
                log.exception("a watcher failed on a report of node %s; the next one comes in some seconds", load.node)
