"""Proxies that do on purpose what no real one does at will. Each reads a whole request, hands it to the gateway over a
connection of its own, and does with the answer what its kind does. They run on the test's own loop.

Requests in absolute form are taken too, so that each can be a plain HTTP proxy.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, NamedTuple, Self

__all__ = ["Cuts", "Faults", "Holds", "Http10", "Loses", "Refuses", "Replays", "Silent", "Simulated", "Slow", "Stalls"]

_FORM = re.compile(rb"(POST|GET) (?:http://[^/ ]+)?(/[^ ]*) HTTP/1\.[01]\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Request(NamedTuple):
    """One, whole. line: as it came. fields: from the first line's end up to the body."""

    method: bytes
    path: bytes
    fields: bytes
    body: bytes


class Simulated:
    """`async with Simulated(port) as proxy:` passes everything as it is; `proxy.port` is where it listens."""

    keeps = True
    """Whether it takes another request on a connection."""
    version = b"1.1"
    """What it speaks with the gateway."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.exchanges = 0
        """Requests that were read."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            lambda reader, writer: self.spawn(self._serve(reader, writer)), "127.0.0.1", 0
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

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
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
                    await self.exchange(request, writer)
                    if not self.keeps:
                        break
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def exchange(self, request: Request, writer: asyncio.StreamWriter) -> None:
        """Answer it. Raises `ConnectionError` to end the connection."""
        async with self.asking(request) as answer:
            while piece := await answer.read(65536):
                writer.write(piece)
                await writer.drain()

    @asynccontextmanager
    async def asking(self, request: Request) -> AsyncIterator[asyncio.StreamReader]:
        """The gateway's answer: all that comes until its end, without the sign that the connection ends with it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.target)
        try:
            fields = re.sub(rb"\r\nconnection:[^\r]*", b"", request.fields, flags=re.IGNORECASE)
            line = b"%b %b HTTP/%b" % (request.method, request.path, self.version)
            writer.write(line + fields[:-2] + b"Connection: close\r\n\r\n" + request.body)
            answer = asyncio.StreamReader()
            head = await reader.readuntil(b"\r\n\r\n")
            answer.feed_data(head.replace(b"Connection: close\r\n", b"") if self.version == b"1.1" else head)
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


async def _read(reader: asyncio.StreamReader) -> Request:
    head = await reader.readuntil(b"\r\n\r\n")
    line = _FORM.match(head)
    assert line is not None, head
    length = _LENGTH.search(head)
    body = await reader.readexactly(int(length[1])) if length else b""
    return Request(line[1], line[2], head[line.end() - 2 :], body)


async def _pump(reader: asyncio.StreamReader, answer: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            answer.feed_data(data)
    answer.feed_eof()


class Holds(Simulated):
    """Holds everything back until the answer is whole."""

    async def exchange(self, request: Request, writer: asyncio.StreamWriter) -> None:
        async with self.asking(request) as answer:
            writer.write(await answer.read())


class Stalls(Simulated):
    """Passes the first bytes of an answer's body that streams, and then nothing, for ever."""

    def __init__(self, target: int, size: int = 300) -> None:
        super().__init__(target)
        self.size = size
        """Bytes that pass, with the head."""

    async def exchange(self, request: Request, writer: asyncio.StreamWriter) -> None:
        async with self.asking(request) as answer:
            head = await answer.readuntil(b"\r\n\r\n")
            writer.write(head)
            if b"chunked" not in head:
                writer.write(await answer.read())
                return
            left = max(self.size - len(head), 0)
            while left and (piece := await answer.read(left)):
                writer.write(piece)
                left -= len(piece)
            await asyncio.get_running_loop().create_future()


class Cuts(Simulated):
    """Cuts each connection one byte further into the answer than the one before."""

    def __init__(self, target: int, step: int = 1, most: int = 1500) -> None:
        super().__init__(target)
        self.step, self.most = step, most
        self.at = 0

    async def exchange(self, request: Request, writer: asyncio.StreamWriter) -> None:
        left, self.at = self.at, (self.at + self.step) % self.most
        async with self.asking(request) as answer:
            while piece := await answer.read(left or 1):
                if not left:
                    raise ConnectionAbortedError
                writer.write(piece)
                await writer.drain()
                left -= len(piece)


class Replays(Simulated):
    """Answers every third request with the last answer that it has, as a cache that heeds nothing."""

    _last = b""

    async def exchange(self, request: Request, writer: asyncio.StreamWriter) -> None:
        if self.exchanges % 3 == 0 and self._last:
            writer.write(self._last)
            return
        async with self.asking(request) as answer:
            head = await answer.readuntil(b"\r\n\r\n")
            writer.write(head)
            body = b""
            while piece := await answer.read(65536):
                writer.write(piece)
                await writer.drain()
                body += piece
        self._last = head + body


class Silent(Simulated):
    """Closes the connection after each answer without having said so."""

    keeps = False


class Http10(Simulated):
    """Speaks HTTP/1.0 on both sides."""

    keeps = False
    version = b"1.0"

    async def exchange(self, request: Request, writer: asyncio.StreamWriter) -> None:
        async with self.asking(request) as answer:
            writer.write((await answer.readuntil(b"\r\n\r\n")).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
            while piece := await answer.read(65536):
                writer.write(piece)
                await writer.drain()


class Slow(Simulated):
    """Keeps every piece for a while before it passes it on."""

    def __init__(self, target: int, seconds: float = 0.2) -> None:
        super().__init__(target)
        self.seconds = seconds

    async def exchange(self, request: Request, writer: asyncio.StreamWriter) -> None:
        async with self.asking(request) as answer:
            while piece := await answer.read(65536):
                await asyncio.sleep(self.seconds)
                writer.write(piece)
                await writer.drain()


class Refuses(Simulated):
    """Takes no body above so many bytes: 413."""

    def __init__(self, target: int, most: int = 8192) -> None:
        super().__init__(target)
        self.most = most
        self.refused = 0

    async def exchange(self, request: Request, writer: asyncio.StreamWriter) -> None:
        if len(request.body) <= self.most:
            await super().exchange(request, writer)
            return
        self.refused += 1
        page = b"<html>413</html>"
        writer.write(
            b"HTTP/1.1 413 Request Entity Too Large\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%b"
            % (len(page), page)
        )


class Faults(NamedTuple):
    """How often what happens to an exchange, of 1; and how late, seconds."""

    lose_request: float = 0.05
    lose_answer: float = 0.05
    double: float = 0.05
    late: float = 0.05
    """The connection breaks, and the request goes to the gateway later all the same."""
    delay: float = 0.2
    most_s: float = 0.05


class Loses(Simulated):
    """Loses, doubles and delays requests and answers, at random."""

    def __init__(self, target: int, faults: Faults, seed: int) -> None:
        super().__init__(target)
        self.faults = faults
        self.happened = dict.fromkeys(Faults._fields[:5], 0)
        self._random = random.Random(seed)

    async def exchange(self, request: Request, writer: asyncio.StreamWriter) -> None:
        if self._happens("delay"):
            await self._wait()
        if self._happens("lose_request"):
            raise ConnectionAbortedError
        if self._happens("late"):
            self.spawn(self._again(request))
            raise ConnectionAbortedError
        if self._happens("double"):
            self.spawn(self._again(request))
        async with self.asking(request) as answer:
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
            async with self.asking(request) as answer:
                await answer.read()

    async def _wait(self) -> None:
        await asyncio.sleep(self._random.random() * self.faults.most_s)

    def _happens(self, what: str) -> bool:
        happens = self._random.random() < getattr(self.faults, what)
        self.happened[what] += happens
        return happens
