"""The answer to an exchange: what its link says becomes one HTTP response (wire: "The HTTP tunnel").

It is the link's carrier. It knows no frames; the few bytes around them are all that it adds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .http import Connection
    from .tunnel import Exchange

__all__ = ["HEAD", "Answer"]

HEAD = (
    b"HTTP/1.1 200 OK\r\n"
    b"Content-Type: application/octet-stream\r\n"
    b"Cache-Control: no-store, no-transform\r\n"
    b"X-Accel-Buffering: no\r\n"
    b"Incremental: ?1\r\n"
)
"""What every answer begins with. There is no Date: what is never stored has no age, and WELCOME tells the time."""


class Answer:
    """One response on a connection. http_1_0: the request's version knows no chunks. more: fields that the head has
    beside the usual ones, each a whole line."""

    __slots__ = ("_connection", "_exchange", "_http_1_0", "_more", "_said", "begun", "ended")

    def __init__(self, connection: Connection, exchange: Exchange, http_1_0: bool, more: bytes) -> None:
        self._connection = connection
        self._exchange = exchange
        self._http_1_0 = http_1_0
        self._more = more
        self._said: list[bytes] = []
        self.begun = False  # some of it has gone out
        self.ended = False  # the link has said all

    @property
    def exchange(self) -> Exchange:
        """Whose answer it is."""
        return self._exchange

    def finish(self) -> None:
        """The link has said all, and the request is whole: send what is left."""
        if not self.begun:
            said = b"".join(self._said)
            self._connection.send(b"%b%bContent-Length: %d\r\n\r\n%b" % (HEAD, self._more, len(said), said))
        elif not self._http_1_0:
            self._connection.send(b"0\r\n\r\n")

    # What the link calls.

    def write(self, data: bytes) -> None:
        if self._exchange.streams:
            self._stream(data + self._exchange.padding)
        else:
            self._said.append(data)
        self._exchange.settle(data)

    def pause(self, on: bool) -> None:
        self._connection.pause(on)

    def end(self) -> None:
        self.ended = True
        self._exchange.lost(None)
        self._connection.answered()

    def abort(self) -> None:
        self._connection.abort()

    def _stream(self, data: bytes) -> None:
        if self._http_1_0:
            self._connection.send(data if self.begun else b"%b%b\r\n%b" % (HEAD, self._more, data))
        elif self.begun:
            self._connection.send(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            self._connection.send(
                b"%b%bTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (HEAD, self._more, len(data), data)
            )
        self.begun = True
