"""One HTTP request on a connection of its own, to a point that may be anybody: what came, how fast, and how far.

For the probe, the list of access points, DNS over HTTPS and reports. It follows no redirect and keeps no connection.
How long it may take is the caller's say; what had come by then is in its `Progress`.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Self, cast

import msgspec

from .._tunnel import Data, ResponseHead, ResponseReader
from ..errors import TunnelError, WayError
from ..points import Point, authority
from .dial import Connect, connect, ride
from .outcomes import Outcome, met, of_error, reason

__all__ = ["Answer", "Progress", "Request", "fetch"]


class Request(msgspec.Struct, frozen=True):
    """What is asked. With a body it is a POST, else a GET."""

    path: str
    body: bytes = b""
    kind: str = ""
    """The body's content type."""
    accept: str = ""
    most: int = 64 * 1024
    """Bytes that the answer's body may have."""


class Answer(msgspec.Struct, frozen=True):
    """A whole response."""

    head: ResponseHead
    body: bytes

    def field(self, name: bytes) -> bytes:
        """A field by its name in lower case; b"" if it is not there."""
        return dict(self.head.headers).get(name, b"")


class Progress:
    """How far a request has come; times in seconds from its start, None = not yet. turn: waited for once there is a
    connection, before anything is asked on it."""

    __slots__ = ("began", "connect_s", "first_s", "received", "turn", "whole_s")

    def __init__(self, turn: Callable[[], Awaitable[None]] | None = None) -> None:
        self.turn = turn
        self.began = time.monotonic()  # uvloop's own time goes in steps of a millisecond
        self.connect_s: float | None = None
        self.first_s: float | None = None
        self.whole_s: float | None = None
        self.received = 0
        """Bytes of the response."""

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began

    @property
    def late(self) -> WayError:
        """What it means that it is waited for no more."""
        return met(Outcome.FROZEN, after=self.received) if self.received else met(Outcome.SILENT)


async def fetch(
    point: Point, request: Request, progress: Progress, *, through: Connect = connect, tls: ssl.SSLContext | None = None
) -> Answer:
    """The answer to the request. through: what makes the connection. tls: where the point is in TLS, None = the
    system's authorities. Raises `WayError`: there is no connection, or what came is no whole HTTP response."""
    while True:
        try:
            stream = await through(point)
            exchange = _Exchange(request, progress)
            transport = await ride(stream.sock, point, exchange.itself, tls)
        except OSError as error:
            raise met(of_error(error), reason(error)) from None
        progress.connect_s = progress.elapsed()
        try:
            if progress.turn is not None:
                await progress.turn()
            transport.write(_head(point, request, stream.prefix, stream.fields) + request.body)
            answer = await exchange.answer
        except WayError as error:
            if not stream.told(error.outcome):
                raise
        else:
            # Another status may be a proxy's: how else it can be passed is tried, if anything is left.
            if not stream.told(None if answer.head.status == 200 else Outcome.PROXY_FORBIDS.name):
                progress.whole_s = progress.elapsed()
                return answer
        finally:
            transport.abort()


def _head(point: Point, request: Request, prefix: bytes, fields: bytes) -> bytes:
    lines = [f"Host: {authority(point.name, point.port)}", "Connection: close"]
    if request.accept:
        lines.append(f"Accept: {request.accept}")
    if request.body:
        lines += [f"Content-Type: {request.kind}", f"Content-Length: {len(request.body)}"]
    method = b"POST" if request.body else b"GET"
    text = "".join(f"{line}\r\n" for line in lines).encode()
    return b"%b %b%b HTTP/1.1\r\n%b%b\r\n" % (method, prefix, request.path.encode(), text, fields)


class _Exchange(asyncio.Protocol):
    """`answer` ends with the response, or in `WayError`."""

    def __init__(self, request: Request, progress: Progress) -> None:
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._progress = progress
        self._reader = ResponseReader(max_body=request.most)
        self._reader.expect(b"POST" if request.body else b"GET")
        self._head: ResponseHead | None = None
        self._body: list[bytes] = []

    def itself(self) -> Self:
        """What a transport asks for: it makes none of its own."""
        return self

    def data_received(self, data: bytes) -> None:
        if not self._progress.received:
            self._progress.first_s = self._progress.elapsed()
        self._progress.received += len(data)
        self._read(data)

    def eof_received(self) -> None:
        self._read(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._read(None)
        if not self.answer.done():
            self._fail(met(Outcome.CLOSED, f"the connection broke: {exc}" if exc is not None else ""))

    def _read(self, data: bytes | None) -> None:
        """data: None = no more will come."""
        if self.answer.done():
            return
        try:
            for event in self._reader.end() if data is None else self._reader.feed(data):
                if isinstance(event, ResponseHead):
                    self._head = event
                elif isinstance(event, Data):
                    self._body.append(event.data)
                else:
                    self.answer.set_result(Answer(cast(ResponseHead, self._head), b"".join(self._body)))
                    return
        except TunnelError as error:
            if not self._progress.received:
                self._fail(met(Outcome.CLOSED))
            elif self._head is None:
                self._fail(met(Outcome.HIJACK, f"no HTTP: {error}"))
            else:
                self._fail(met(Outcome.TRUNCATED, str(error)))

    def _fail(self, error: WayError) -> None:
        self.answer.set_exception(error)
        self.answer.exception()  # perhaps nobody waits any more
