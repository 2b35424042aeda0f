"""A way to a server that is slow, or is cut. What goes over it is counted, and waits in one queue for all."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

PIECE = 32 * 1024


class Slow:
    """target: host:port. rate: bytes a second, both ways and all connections together, 0 = any. cut_after: bytes after
    which a connection ends."""

    def __init__(self, target: str, *, rate: int = 0, cut_after: int = 0) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self.rate = rate
        self._cut_after = cut_after
        self._free_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self.passed = 0
        """Bytes that went over."""
        self.cuts = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.address = f"{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            there, back = await asyncio.open_connection(*self._target)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pass(reader, back))
                    group.create_task(self._pass(there, writer))
            finally:
                back.transport.abort()
        except (OSError, ExceptionGroup):
            pass
        except asyncio.CancelledError:
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        own = 0
        while data := await reader.read(PIECE):
            if self.rate:
                self._free_at = max(self._free_at, loop.time()) + len(data) / self.rate
                await asyncio.sleep(self._free_at - loop.time())
            own += len(data)
            self.passed += len(data)
            if self._cut_after and own > self._cut_after:
                self.cuts += 1
                raise ConnectionResetError
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError
