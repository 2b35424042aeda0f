"""A stand-in for the network on loopback: passes bytes to a target, and breaks every connection when it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self, cast

__all__ = ["Relay"]


class Relay:
    """`async with Relay() as relay`: clients connect to `relay.point`, and reach `relay.target` while there is one."""

    def __init__(self) -> None:
        self.target: str | None = None
        """`host:port`; None: the network is down, and whoever connects is cut at once."""
        self._ways: dict[_End, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(lambda: _End(came=self._came), "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        tasks = list(self._ways.values())
        self.cut()
        if tasks:
            await asyncio.wait(tasks)

    @property
    def point(self) -> str:
        """Where clients connect: `host:port`."""
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    def cut(self) -> int:
        """Break every connection, with what is on its way in it; returns how many there were."""
        ways, self._ways = self._ways, {}
        for near, task in ways.items():
            task.cancel()
            near.transport.abort()
        return len(ways)

    def _came(self, near: _End) -> None:
        if self.target is None:
            near.transport.abort()
        else:
            self._ways[near] = asyncio.get_running_loop().create_task(self._reach(near, self.target))

    async def _reach(self, near: _End, target: str) -> None:
        host, _, port = target.rpartition(":")
        try:
            await asyncio.get_running_loop().create_connection(lambda: _End(near), host, int(port))
            await near.gone.wait()
        except OSError:
            near.transport.abort()
        finally:
            self._ways.pop(near, None)


class _End(asyncio.Protocol):
    """One end of a way; what comes in here goes out at the other one. The near one keeps it until then."""

    def __init__(self, near: _End | None = None, came: Callable[[_End], None] | None = None) -> None:
        self._other = near
        self._came = came
        self._kept = b""
        self.gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self._came is not None:
            self._came(self)
        elif self._other is not None:
            self._other._other = self
            self.transport.write(self._other._kept)

    def data_received(self, data: bytes) -> None:
        if self._other is None:
            self._kept += data
        elif not self._other.transport.is_closing():
            self._other.transport.write(data)

    def eof_received(self) -> bool:
        if self._other is None or self._other.transport.is_closing():
            return False
        self._other.transport.write_eof()
        return True  # the other direction may have more to say

    def pause_writing(self) -> None:
        if self._other is not None:
            self._other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self._other is not None and not self._other.transport.is_closing():
            self._other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()
        if self._other is not None:
            self._other.transport.abort() if exc else self._other.transport.close()
