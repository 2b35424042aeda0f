"""A network that loses, doubles and delays whole exchanges, as no real proxy does at will; on the test's own loop."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, NamedTuple, Self

__all__ = ["Faults", "Loses"]

_LINE = re.compile(rb"POST (/[^ ]*) HTTP/1\.1\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Request(NamedTuple):
    """One, whole. fields: from the first line's end up to the body."""

    path: bytes
    fields: bytes
    body: bytes


async def _read(reader: asyncio.StreamReader) -> Request:
    head = await reader.readuntil(b"\r\n\r\n")
    line = _LINE.match(head)
    assert line is not None, head
    length = _LENGTH.search(head)
    body = await reader.readexactly(int(length[1])) if length else b""
    return Request(line[1], head[line.end() - 2 :], body)


async def _pump(reader: asyncio.StreamReader, answer: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            answer.feed_data(data)
    answer.feed_eof()


class Faults(NamedTuple):
    """How often what happens to an exchange, of 1; and how late, seconds."""

    lose_request: float = 0.05
    lose_answer: float = 0.05
    double: float = 0.05
    late: float = 0.05
    """The connection breaks, and the request goes to the gateway later all the same."""
    delay: float = 0.2
    most_s: float = 0.05


class Loses:
    """`async with Loses(port, faults, seed) as proxy:` stands in front of a gateway; `proxy.port` is where it listens.
    An answer is passed on when it is whole."""

    def __init__(self, target: int, faults: Faults, seed: int) -> None:
        self.target = target
        self.faults = faults
        self.happened = dict.fromkeys(Faults._fields[:5], 0)
        self._random = random.Random(seed)
        self.exchanges = 0
        """Requests that were read."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            lambda reader, writer: self._spawn(self._serve(reader, writer)), "127.0.0.1", 0
        )
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            for ended in await asyncio.gather(*self._tasks, return_exceptions=True):
                if isinstance(ended, Exception) and error is None:
                    raise ended

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it beside the rest, up to the end of the test."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is None:
            self._tasks.discard(task)  # else it stays, for `__aexit__` to raise

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while True:
                    request = await _read(reader)
                    self.exchanges += 1
                    await self._exchange(request, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _exchange(self, request: Request, writer: asyncio.StreamWriter) -> None:
        if self._happens("delay"):
            await self._wait()
        if self._happens("lose_request"):
            raise ConnectionAbortedError
        if self._happens("late"):
            self._spawn(self._again(request))
            raise ConnectionAbortedError
        if self._happens("double"):
            self._spawn(self._again(request))
        async with self._asking(request) as answer:
            whole = await answer.read()
        if self._happens("delay"):
            await self._wait()
        if self._happens("lose_answer"):
            writer.write(whole[: self._random.randrange(len(whole) + 1)])
            raise ConnectionAbortedError
        writer.write(whole)
        await writer.drain()

    async def _again(self, request: Request) -> None:
        await self._wait()
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            async with self._asking(request) as answer:
                await answer.read()

    async def _wait(self) -> None:
        await asyncio.sleep(self._random.random() * self.faults.most_s)

    def _happens(self, what: str) -> bool:
        happens: bool = self._random.random() < getattr(self.faults, what)
        self.happened[what] += happens
        return happens

    @asynccontextmanager
    async def _asking(self, request: Request) -> AsyncIterator[asyncio.StreamReader]:
        """The gateway's answer: all that comes until its end, without the sign that the connection ends with it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.target)
        try:
            fields = re.sub(rb"\r\nconnection:[^\r]*", b"", request.fields, flags=re.IGNORECASE)
            writer.write(b"POST %b HTTP/1.1" % request.path + fields[:-2] + b"Connection: close\r\n\r\n" + request.body)
            answer = asyncio.StreamReader()
            head = await reader.readuntil(b"\r\n\r\n")
            answer.feed_data(head.replace(b"Connection: close\r\n", b""))
            pump = asyncio.get_running_loop().create_task(_pump(reader, answer))
            try:
                yield answer
            finally:
                pump.cancel()
                await asyncio.gather(pump, return_exceptions=True)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
