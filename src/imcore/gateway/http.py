"""HTTP connections: each request to where it belongs, the tunnel or the application, and an end to who is too slow.

A request is read strictly, and answered before the next one is looked at. Nothing of an exchange outlives its answer:
two exchanges of one connection know as little of each other as those of two.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from enum import Enum, auto
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from .._link import Link
from .._tunnel import Data, RequestHead, RequestReader
from ..carrier import TransportCarrier
from ..errors import TunnelError
from ..proof import STILL_PATH
from .answer import Answer
from .deadline import Deadline
from .still import STILL_MOST, Still, read_still
from .tunnel import Exchange
from .web import Guest, Web

if TYPE_CHECKING:
    from .gateway import Gateway

__all__ = ["Connection", "Http"]

_log = logging.getLogger(__name__)

PATH = b"/im"
STILL = STILL_PATH.encode()
BODY_MOST = 1024 * 1024
"""Bytes of one exchange's request, where `max_frame` does not ask for more."""
BODY_RATE = 1000
"""Bytes a second that a request's body must bring on the whole, and a response's reader take."""
BEHIND_MOST = 16 * 1024
"""Bytes behind a request that wait for its response; more are left to the kernel. Clients send none (no pipelining)."""
LINGER_S = 2.0
"""How long a connection that we end is read from, so that its last response is not lost to a reset, seconds."""
ANY_BODY = 1 << 48  # how much the application takes is its own to say
LOW, HIGH = 4 * 1024, 16 * 1024  # bytes that wait in the transport before what fills it is told to stop

_STRANGERS = {0x16: "TLS, and this address has none", 0x04: "SOCKS 4", 0x05: "SOCKS 5"}


class Http:
    """The HTTP connections of one gateway. web: what answers that is not the tunnel's."""

    def __init__(self, gateway: Gateway, web: Web | None) -> None:
        self.gateway = gateway
        self.web = web
        self.draining = False
        self.body_most = max(BODY_MOST, 2 * gateway.limits.max_frame)
        self.connections: set[Connection] = set()
        self.still: set[Still] = set()
        """Who is silent because it was asked to be."""

    def take(self, link: Link, first: bytes) -> None:
        """A connection on which `first` has come, and no frame: HTTP goes on here, all else is let go."""
        if not b"A" <= first[:1] <= b"Z":
            what = _STRANGERS.get(first[0], f"a first byte of {first[0]:#04x}")
            _log.debug("a connection is closed: expected frames or HTTP, got %s", what)
            link.close()
            return
        held = link.release()
        connection = Connection(self, first)
        if isinstance(held, int):
            self.gateway.spawn(self._adopt(socket.socket(fileno=held), connection))
        else:
            transport = cast(TransportCarrier, held).transport
            transport.set_protocol(connection)
            connection.connection_made(transport)

    async def _adopt(self, sock: socket.socket, connection: Connection) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, sock)
        except OSError as error:  # it is gone already
            _log.debug("a connection is closed: %s", error)
            sock.close()

    def leave(self) -> None:
        """Idle connections end, others with their answer."""
        self.draining = True
        for connection in list(self.connections):
            connection.leave()

    def close(self) -> None:
        """All end now."""
        for connection in list(self.connections):
            connection.abort()


class _Stage(Enum):
    """Of a connection. Each but the last two has a deadline."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    LINGER = auto()  # nothing more is said; what comes is thrown away
    ANSWER = auto()  # the request is whole
    SWITCHED = auto()  # what comes is no longer HTTP, and the application's


_STAGES = {"idle": _Stage.IDLE, "line": _Stage.HEAD, "head": _Stage.HEAD}
_DEAF = (_Stage.LINGER, _Stage.SWITCHED)


class Connection(asyncio.BufferedProtocol):
    """One HTTP connection, on which `first` has come already."""

    __slots__ = (
        "_answer",
        "_answered",
        "_body",
        "_body_began",
        "_deadline",
        "_first",
        "_guest",
        "_http",
        "_keep",
        "_left",
        "_looking",
        "_paused",
        "_reader",
        "_stage",
        "_switches",
        "_whole",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, http: Http, first: bytes) -> None:
        self._http = http
        self._first = first
        self._reader = RequestReader(max_body=ANY_BODY)
        self._deadline = Deadline(self._over)
        self._stage = _Stage.IDLE
        self._looking = False
        self._paused = False
        self._left = 0  # bytes that had not gone out when we looked last; 0 = nobody waits for them
        self._guest: Guest | Still | None = None
        self._answer: Answer | None = None  # of the exchange that this request is, until it has gone out
        self._begin()

    def _begin(self) -> None:
        """For the next request."""
        self._keep = True
        self._whole = False  # it was read
        self._answered = False  # and answered
        self._switches = False
        self._body = 0  # bytes
        self._body_began = 0.0

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=HIGH, low=LOW)
        self._http.connections.add(self)
        first, self._first = self._first, b""
        self._came(first)

    def get_buffer(self, sizehint: int) -> memoryview:
        buffer = self._http.gateway.hub.buffer
        return buffer[: max(1, BEHIND_MOST - self._reader.buffered)] if self._whole else buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._came(self._http.gateway.hub.buffer[:nbytes])

    def pause_writing(self) -> None:
        self._block(True)

    def resume_writing(self) -> None:
        self._block(False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._http.connections.discard(self)
        self._deadline.drop()
        self._stage = _Stage.LINGER
        self._forget(exc)

    # What the exchange and the application do with it.

    def send(self, data: bytes) -> None:
        """Part of a response."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def pause(self, on: bool) -> None:
        """Read no more for now, or do again."""
        if on is self._paused or self.transport.is_closing():
            return
        self._paused = on
        if on:
            self.transport.pause_reading()
            self._deadline.rest()  # the other side is not to blame
        else:
            self.transport.resume_reading()
            self._body_began = asyncio.get_running_loop().time() - self._body / BODY_RATE
            self._expect()

    def switched(self) -> None:
        """The application has agreed to what the request asked for: what comes from here on is no longer HTTP."""
        if self._switches and self._whole and not self._reader.buffered:
            self._stage = _Stage.SWITCHED
            self._deadline.rest()
        else:  # it was not asked, or not waited for
            self.abort()

    def answered(self) -> None:
        """The request's answer is complete, as far as its maker goes."""
        self._answered = True
        self._next()

    def abort(self) -> None:
        """End now."""
        self.transport.abort()

    def leave(self) -> None:
        """End as soon as nothing is at work."""
        if isinstance(self._guest, Still):
            self._forget(None)
            self._finish()
        elif self._stage is _Stage.IDLE:
            self._finish()

    # Reading.

    def _came(self, data: bytes | memoryview) -> None:
        if self._stage is _Stage.SWITCHED:
            assert self._guest is not None
            self._guest.rest(bytes(data))
        elif self._stage is not _Stage.LINGER:
            self._reader.feed(data)
            self._look()

    def _look(self) -> None:
        """Read on, up to the end of a request that is not answered yet."""
        self._looking = True
        try:
            while not self._whole and self._stage not in _DEAF:
                event = next(self._reader, None)
                if event is None:
                    break
                if isinstance(event, Data):
                    self._data(event.data)
                elif isinstance(event, RequestHead):
                    self._head(event)
                else:
                    self._end()
            if self._reader.buffered:
                self._reader.feed(b"")  # what was read into is the hub's: of what is left the reader keeps a copy
                if self._whole and self._reader.buffered >= BEHIND_MOST:
                    self.pause(True)
        except TunnelError as error:
            self._refuse(error.status, str(error))
        finally:
            self._looking = False
        self._watch()

    def _head(self, head: RequestHead) -> None:
        path = _path(head.target)
        if path == PATH:
            self._exchange(head)
        elif path == STILL:
            self._be_still(head)
        elif self._http.web is None:
            self._refuse(404, "nothing is served here but the tunnel")
        else:
            self._switches = any(name == b"upgrade" for name, _ in head.headers)
            self._keep = not self._switches  # where the application does not agree, it still reads nothing else behind
            if self._guest is None or isinstance(self._guest, Still):
                self._guest = self._http.web.guest(self)
            self._guest.head(head)

    def _exchange(self, head: RequestHead) -> None:
        fields = dict(head.headers)
        kind = fields.get(b"content-type", b"").partition(b";")[0].strip().lower()
        size = int(fields.get(b"content-length", b"-1"))
        if head.method != b"POST":
            self._refuse(405, "expected POST", b"Allow: POST\r\n", silent=head.method == b"HEAD")
        elif size < 0:
            self._refuse(411, "expected a Content-Length")
        elif size > self._http.body_most:
            self._refuse(413, f"expected at most {self._http.body_most} bytes, got {size}")
        elif kind != b"application/octet-stream":
            self._refuse(415, "expected Content-Type: application/octet-stream")
        else:
            if self._guest is not None:
                self._guest.leave()
                self._guest = None
            old = head.version == b"1.0"
            closes = any(name == b"connection" and b"close" in value.lower() for name, value in head.headers)
            self._keep = not (old or closes or self._http.draining)
            exchange = Exchange(self._http.gateway)
            self._answer = Answer(self, exchange, old, b"" if self._keep else b"Connection: close\r\n")
            exchange.carry(self._answer)
            if b"expect" in fields and not old and size:
                self.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _be_still(self, head: RequestHead) -> None:
        if head.method != b"GET":
            self._refuse(405, "expected GET", b"Allow: GET\r\n", silent=head.method == b"HEAD")
        elif len(self._http.still) >= STILL_MOST or self._http.draining:
            self._refuse(503, "no more connections are kept still: come later", b"Retry-After: 600\r\n")
        else:
            try:
                nonce, silence_ms = read_still(head.target.partition(b"?")[2], self._http.gateway.limits.heartbeat[1])
            except ValueError as error:
                self._refuse(400, str(error))
                return
            if self._guest is not None:
                self._guest.leave()
            self._keep = False
            self._guest = Still(self, nonce, silence_ms, self._http.still)

    def _data(self, data: bytes) -> None:
        self._body += len(data)
        if self._answer is not None:
            self._answer.exchange.feed(data)
        elif self._guest is not None:
            self._guest.data(data)

    def _end(self) -> None:
        self._whole = True
        if self._answer is not None:
            self._answer.exchange.request_ended(self._body)
            self._next()
        elif self._guest is not None:
            self._guest.end()
            self._next()

    def _next(self) -> None:
        """A request is over when it is whole and answered; then comes the next one."""
        if not (self._whole and self._answered) or self._stage in _DEAF:
            return
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.finish()
        if not self._keep or self._http.draining:
            self._finish()
            return
        self._begin()
        self._stage = _Stage.ANSWER  # whatever comes now is another one
        self.pause(False)
        if self._looking:
            return
        if self._reader.buffered:
            self._look()
        else:
            self._watch()

    # Its end, and time.

    def _refuse(self, status: int, text: str, more: bytes = b"", *, silent: bool = False) -> None:
        """Answer with a status of HTTP's and a sentence, and end. silent: to HEAD, without the sentence."""
        guest = self._guest
        begun = (
            self._answer.begun if self._answer is not None else guest is not None and (guest.begun or self._answered)
        )
        self._forget(None)
        if begun:  # it would be taken for a part of the response
            self.abort()
            return
        body = b"" if silent else f"{text}\n".encode()
        self.send(
            b"HTTP/1.1 %d %b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n%bConnection: close"
            b"\r\n\r\n%b" % (status, HTTPStatus(status).phrase.encode(), len(body), more, body)
        )
        self._finish()

    def _finish(self) -> None:
        """Nothing more is said. The other side gets to close first, so that it reads what was said to the end."""
        if self.transport.is_closing():
            return
        self._stage = _Stage.LINGER
        self.pause(False)
        if not self.transport.can_write_eof():  # TLS has an end of its own, with a deadline of its own
            self._deadline.rest()
            self.transport.close()
            return
        try:
            self.transport.write_eof()
        except OSError:  # the other side has broken it, and the loop does not know yet
            self.transport.abort()
        self._expect()

    def _forget(self, error: Exception | None) -> None:
        """Whoever was to answer need not."""
        guest, self._guest = self._guest, None
        answer, self._answer = self._answer, None
        if guest is not None:
            guest.lost(error)
        if answer is not None:
            answer.exchange.lost(error)

    def _block(self, on: bool) -> None:
        self._left = self.transport.get_write_buffer_size() if on else 0
        if self._answer is not None:
            self._answer.exchange.block(on)
        elif self._guest is not None:
            self._guest.block(on)
        self._expect()

    def _watch(self) -> None:
        """After each piece: which deadline holds?"""
        if self._stage in _DEAF:
            return
        stage = _Stage.ANSWER if self._whole else _STAGES.get(self._reader.part, _Stage.BODY)
        if stage is _Stage.BODY and stage is not self._stage:
            self._body_began = asyncio.get_running_loop().time()
        if stage is not self._stage or stage is _Stage.BODY:
            self._stage = stage
            self._expect()

    def _expect(self) -> None:
        limits = self._http.gateway.limits
        if self._left or self._stage is _Stage.IDLE:
            self._deadline.expect(limits.idle_s)
        elif self._stage is _Stage.HEAD:
            self._deadline.expect(limits.handshake_s)
        elif self._stage is _Stage.BODY:
            late = asyncio.get_running_loop().time() - self._body_began
            self._deadline.expect(limits.handshake_s + self._body / BODY_RATE - late)
        elif self._stage is _Stage.LINGER:
            self._deadline.expect(LINGER_S)
        else:
            self._deadline.rest()

    def _over(self) -> None:
        """The time is up."""
        left, before = self.transport.get_write_buffer_size(), self._left
        if left and (not before or left < before):  # it is being read, however slowly
            self._left = left
            self._deadline.expect(self._http.gateway.limits.idle_s)
        elif left or self._stage is _Stage.LINGER:
            self.abort()
        elif self._stage is _Stage.IDLE:
            self._finish()
        else:
            self._refuse(408, f"expected the rest of the {self._stage.name.lower()} sooner")


def _path(target: bytes) -> bytes:
    """Of a request's target, as it is or in absolute form (RFC 9112, 3.2)."""
    if not target.startswith(b"/"):
        target = b"/" + target.partition(b"://")[2].partition(b"/")[2]
    return target.partition(b"?")[0]
