"""aiohttp on connections that are not its own: each request was read strictly before, and is written anew for it.

So one connection may carry requests for the application between exchanges of the tunnel, as proxies like it, and what
the application reads is what the gateway read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from types import TracebackType
from typing import Any, NoReturn, Protocol, Self

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from .._tunnel import RequestHead

__all__ = ["Guest", "Web"]

_log = logging.getLogger(__name__)

FOREVER_S = 1e9  # a connection's idle time is the gateway's to watch


class Host(Protocol):
    """The connection that an application is a guest on."""

    transport: asyncio.Transport

    def pause(self, on: bool) -> None: ...
    def switched(self) -> None:
        """The response is 101: another protocol begins."""

    def answered(self) -> None:
        """The response to the last request is complete."""


class Web:
    """An application at work, for the length of an `async with`. grace_s: how long its handlers get to end, seconds."""

    def __init__(self, application: web.Application, grace_s: float) -> None:
        self._runner = web.AppRunner(
            application,
            handle_signals=False,
            access_log_class=_Answers,
            access_log=_log,
            keepalive_timeout=FOREVER_S,
            shutdown_timeout=grace_s,
        )

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    def guest(self, host: Host) -> Guest:
        """The application on one connection."""
        assert self._runner.server is not None
        return Guest(self._runner.server(), host)


class Guest:
    """The application on one connection; a request at a time."""

    def __init__(self, handler: web.RequestHandler, host: Host) -> None:
        self._handler = handler
        self._chunked = False
        self._lent = _Lent(host)
        handler.connection_made(self._lent)

    @property
    def begun(self) -> bool:
        """Some of a response has gone out, and not all."""
        return self._lent.written

    def head(self, head: RequestHead) -> None:
        """A request begins."""
        self._lent.written = False
        self._chunked = any(name == b"transfer-encoding" for name, _ in head.headers)
        lines = [b"%b %b HTTP/%b" % (head.method, head.target, head.version)]
        lines += [b"%b: %b" % field for field in head.headers]
        self._handler.data_received(b"\r\n".join([*lines, b"", b""]))

    def data(self, data: bytes) -> None:
        """More of its body."""
        self._handler.data_received(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def end(self) -> None:
        """It is whole."""
        if self._chunked:
            self._handler.data_received(b"0\r\n\r\n")

    def rest(self, data: bytes) -> None:
        """The connection's next bytes, which belong to a protocol that the last request asked to switch to."""
        self._handler.data_received(data)

    def block(self, on: bool) -> None:
        """The connection takes no more, or does again."""
        if on:
            self._handler.pause_writing()
        else:
            self._handler.resume_writing()

    def leave(self) -> None:
        """It has answered everything; the connection goes on without it."""
        self.lost(None)

    def lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        self._lent.returned = True
        self._handler.connection_lost(error)


class _Lent(asyncio.Transport):
    """A transport for the time that the handler has it: afterwards it may no longer write to it, nor close it."""

    def __init__(self, host: Host) -> None:
        super().__init__()
        self.host = host
        self.returned = False
        self.written = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.host.transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self.returned or self.host.transport.is_closing()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.is_closing():
            if not self.written:
                self.written = data[:13] != b"HTTP/1.1 100 "
                if data[:13] == b"HTTP/1.1 101 ":
                    self.host.switched()
            self.host.transport.write(data)

    @property
    def _sendfile_compatible(self) -> NoReturn:
        """asyncio asks this before it sends a file past us; told no, aiohttp reads and writes the file itself."""
        raise NotImplementedError

    def complete(self) -> None:
        """What was to be written is."""
        self.written = False
        if not self.returned:
            self.host.answered()

    def writelines(self, parts: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(parts))

    def pause_reading(self) -> None:
        if not self.returned:
            self.host.pause(True)

    def resume_reading(self) -> None:
        if not self.returned:
            self.host.pause(False)

    def get_write_buffer_size(self) -> int:
        return self.host.transport.get_write_buffer_size()

    def close(self) -> None:
        if not self.returned:
            self.host.transport.close()

    def abort(self) -> None:
        if not self.returned:
            self.host.transport.abort()


class _Answers(AbstractAccessLogger):
    """aiohttp tells its access log when a response is complete."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        _log.debug("%s %s: %d in %.3f s", request.method, request.path, response.status, time)
        if isinstance(request.transport, _Lent):
            request.transport.complete()
