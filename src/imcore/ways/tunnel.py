"""The tunnel's carrier (wire: "The HTTP tunnel"): exchanges as what links ride on, over two connections at the most.

One exchange is one POST: what its link says first is the request's body, and what the link hears is the response's.
What is not the answer of a gateway is named, and never reaches the link. Nothing is expected of a connection: one that
is gone is replaced, and who asked asks again.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from typing import Literal, cast

from .._hub import Hub
from .._link import Link
from .._tunnel import End, ResponseHead, ResponseReader
from ..errors import TunnelError, WayError
from ..points import Point, authority
from .dial import Connect, Stream, connect, ride
from .learned import Manner
from .outcomes import Outcome, met, of_head
from .watch import stranded

__all__ = ["Path", "Post", "Tunnel"]

Path = Literal["up", "down"]

ANY_BODY = 1 << 48  # a stream has no size; each frame in it has its limit


class Post:
    """One exchange: a link's carrier from its request to the end of the response."""

    __slots__ = ("_connection", "answered", "body", "elsewhere", "failure", "heard", "link", "reused", "sent")

    def __init__(self, connection: _Connection, link: Link, reused: bool) -> None:
        self._connection = connection
        self.link = link
        self.reused = reused
        """The connection had been used before: that it is dead says nothing about the way."""
        self.sent = 0
        """Bytes of the request's body; 0 = it has not gone."""
        self.heard = 0
        """Bytes of the response."""
        self.body = 0
        """Bytes of its body, when it has come to its end."""
        self.answered = False
        """The response was a gateway's, and came to its end."""
        self.failure: WayError | None = None
        """What came instead."""
        self.elsewhere = False
        """And the next connection will be made in another manner."""

    @property
    def wire(self) -> int:
        """The descriptor beneath, -1 = not known."""
        return -1 if self._connection.over else self._connection.wire

    # What the link calls.

    def write(self, data: bytes) -> None:
        if not self.sent:  # the request is whole with what was said first
            self.sent = len(data)
            self._connection.ask(data)

    def pause(self, on: bool) -> None:
        self._connection.pause(on)

    def end(self) -> None:
        """The link has heard enough; the rest of the response is read all the same, as the connection goes on."""

    def abort(self) -> None:
        if not self.answered:
            self._connection.abort()


class _Connection(asyncio.BufferedProtocol):
    """One HTTP connection: an exchange at a time, for as long as the other side keeps it."""

    def __init__(self, hub: Hub, point: Point, stream: Stream) -> None:
        self._hub = hub
        self._head = _head(point, stream)
        self._told = stream.told
        self._reader = ResponseReader(max_body=ANY_BODY)
        self._transport: asyncio.Transport | None = None
        self.post: Post | None = None
        self.since = asyncio.get_running_loop().time()
        """When it was used last."""
        self.used = False
        self.wire = stream.sock.fileno()
        self.over = False

    @property
    def free(self) -> bool:
        """It can take another exchange, as far as is known here."""
        return not self.over and self.post is None

    def ask(self, body: bytes) -> None:
        """Send the request."""
        if self.over or self._transport is None or self._transport.is_closing():
            asyncio.get_running_loop().call_soon(self.connection_lost, None)
            return
        self._reader.expect(b"POST")
        self.used = True
        self._transport.write(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))

    def pause(self, on: bool) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading() if on else self._transport.resume_reading()

    def abort(self) -> None:
        """End now; who rides on it knows."""
        self.over = True
        self.post = None
        self._reader.link = None
        if self._transport is not None:
            self._transport.abort()

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._hub.buffer

    def buffer_updated(self, nbytes: int) -> None:
        post = self.post
        if self.over:
            return
        if post is None:  # said without being asked: by no gateway
            self.abort()
            return
        post.heard += nbytes
        try:
            self._read(self._reader.feed(self._hub.buffer[:nbytes]))
            if self._reader.buffered:
                self._reader.feed(b"")  # what was read into is the hub's: of what is left the reader keeps a copy
        except TunnelError as error:
            self._garbled(error)

    def eof_received(self) -> None:
        self.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        post = self.post
        if post is not None and not self.over:
            try:
                self._read(self._reader.end())
            except TunnelError as error:
                if post.heard:
                    self._fail(met(Outcome.TRUNCATED, str(error)))
        if self.post is not None:
            detail = f"the connection broke: {exc}" if exc is not None else ""
            self._fail(met(Outcome.CLOSED, detail))
        self.over = True

    # What the response says.

    def _read(self, reader: ResponseReader) -> None:
        for event in reader:
            post = self.post
            if post is None:
                return
            if isinstance(event, ResponseHead):
                failure = of_head(event)
                if failure is not None:
                    self._fail(failure)
                    return
                self._told(None)
                reader.link = post.link
            elif isinstance(event, End):
                self._answered(post, event.keep_alive)

    def _answered(self, post: Post, keeps: bool) -> None:
        self.post = None
        self._reader.link = None
        self.since = asyncio.get_running_loop().time()
        post.answered = True
        post.body = self._reader.body
        self.pause(False)
        if not keeps:
            self.abort()
        post.link.lost(None)

    def _garbled(self, error: TunnelError) -> None:
        """It is no HTTP, or was cut off."""
        if self._reader.part in ("body", "trailers") or self._reader.link is not None:
            self._fail(met(Outcome.TRUNCATED, str(error)))
        else:
            self._fail(met(Outcome.HIJACK, f"no HTTP: {error}"))

    def _fail(self, failure: WayError) -> None:
        post = self.post
        self.abort()
        if post is not None:
            post.failure = failure
            post.elsewhere = self._told(failure.outcome)
            post.link.lost(failure)


class Tunnel:
    """One access point's. through: what makes connections. tls: for `https://`, None = the system's authorities."""

    def __init__(
        self, hub: Hub, point: Point, manner: Manner, tls: ssl.SSLContext | None = None, through: Connect = connect
    ) -> None:
        self.manner = manner
        self._hub = hub
        self._point = point
        self._tls = tls
        self._through = through
        self._connections: dict[Path, _Connection] = {}
        self._sessions: deque[str] = deque(maxlen=64)
        self._reaching = 0
        self.rtt = 0.0
        """How long a connection takes to be made, seconds: a round trip, and with TLS some more."""
        self.served = True
        """None has failed since the last one that was answered, or since there was any: that costs no wait."""

    @property
    def idle(self) -> bool:
        """No exchange is under way, and none is about to be."""
        return not self._reaching and all(connection.post is None for connection in self._connections.values())

    async def reach(self, path: Path) -> None:
        """See to it that there is a connection for the next exchange on this path. Raises OSError."""
        connection = self._connections.get(path)
        if connection is not None and connection.free and self.idle_s(path) < self.manner.now.idle_s:
            return
        self.leave(path)
        began = asyncio.get_running_loop().time()
        self._reaching += 1
        try:
            stream = await self._through(self._point)
            fresh = _Connection(self._hub, self._point, stream)
            await ride(stream.sock, self._point, lambda: fresh, self._tls)
        finally:
            self._reaching -= 1
        self._connections[path] = fresh
        self.rtt = max(stream.took_s, asyncio.get_running_loop().time() - began)

    def post(self, path: Path, link: Link) -> Post:
        """Carry a link that has said all that it wants to, on the connection that `reach` saw to."""
        connection = self._connections[path]
        post = Post(connection, link, connection.used)
        connection.post = post
        link.carry(post)
        return post

    def idle_s(self, path: Path) -> float:
        """How long the connection had been idle, seconds."""
        connection = self._connections.get(path)
        return asyncio.get_running_loop().time() - connection.since if connection is not None else 0.0

    def seen(self, session: str) -> bool:
        """Whether an answer of this session has come before: then a cache gave it, as each exchange has its own."""
        if session in self._sessions:
            return True
        self._sessions.append(session)
        return False

    def leave(self, path: Path) -> None:
        """Close this path's connection."""
        connection = self._connections.pop(path, None)
        if connection is not None:
            post = connection.post
            connection.abort()
            if post is not None:
                post.link.lost(None)

    def moved(self) -> None:
        """This device is on another network: close what can't be reached from there."""
        for path, connection in list(self._connections.items()):
            if stranded(connection.wire):
                self.leave(path)

    def close(self) -> None:
        """Close both."""
        for path in list(self._connections):
            self.leave(path)


def _head(point: Point, stream: Stream) -> bytes:
    """Of a request, up to its length: at most 200 bytes with it, but for a long name and what a proxy wants."""
    return b"POST %b/im HTTP/1.1\r\nHost: %b\r\n%bContent-Type: application/octet-stream\r\nContent-Length: " % (
        stream.prefix,
        authority(point.name, point.port).encode(),
        stream.fields,
    )
