"""An exchange of the tunnel: one `POST /im` is a whole link (wire: "The HTTP tunnel").

The request's body is what a client says on a fresh connection, the response's what the gateway answers. An exchange
lives as long as there is something to answer. It knows frames and when it is over; HTTP is its carrier's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType

from .._codec import GOAWAY, HEADER_SIZE, MSG, PAD, PING, encode
from ..errors import BadFrame, BadHello
from ..messages import Hello
from .link import ServerLink

if TYPE_CHECKING:
    from .gateway import Gateway

__all__ = ["Exchange"]

ANSWER_S = 25.0
"""How long an `up` exchange waits for what is not durable yet, seconds: then it answers what it can, and the client
asks again. On some ways a response may not be held for longer."""
SECOND_PING_S = 0.3


class Exchange(ServerLink):
    """From HELLO to the last frame of the answer. Who feeds it says when the request's body is whole; who carries its
    answer asks after each piece whether it is over (`settle`)."""

    __slots__ = ("_padding", "_pings", "_size", "nonce", "poll_ms")

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(gateway)
        self.nonce: str | UnsetType = UNSET  # of the HELLO: the answer repeats it, so that no cache's is taken for ours
        self.poll_ms = 0  # 0: what comes down is streamed
        self._padding = b""
        self._pings = 0
        self._size: int | None = None  # bytes of the request's body, once it is whole

    @property
    def streams(self) -> bool:
        """Each piece goes out as it is said; otherwise all of them together, when it is over."""
        return self.role == "down" and self.poll_ms == 0

    @property
    def padding(self) -> bytes:
        """What stands behind each piece that is streamed, to push it through a buffer on the way."""
        return self._padding

    def request_ended(self, size: int) -> None:
        """The body is whole, and had so many bytes."""
        self._size = size
        if self.open and self.offset == 0:
            self.on_fault(BadFrame("expected a whole HELLO, but the body ended", size))
        elif not self.queued:
            self.settle(b"")

    def settle(self, said: bytes) -> None:
        """Close if there is nothing more to answer. said: the frames that have just been handed to the carrier."""
        if not self.open or self.role is None:
            return
        if self.role == "up":
            waiting = self.up is not None and self.up.puts != self.up.answers
            over = self._size is not None and not waiting
        elif self.poll_ms:
            over = _has_message(said)
        else:
            over = self.sent - self.taken >= self.gateway.limits.window
        if self._size is not None and self.offset != self._size and (over or self.role == "down"):
            self.on_fault(BadFrame("expected the rest of a frame, but the body ended", self.offset))
        elif over:
            self.close()
        elif self.listens:
            self.gateway.downlink.pump(self)  # no acknowledgement will say that there is room again

    def on_foreign(self, first: bytes) -> bool:
        return False  # within HTTP there is nothing but frames

    def on_hello(self, hello: Hello) -> None:
        self.nonce = hello.nonce
        if hello.role == "both":
            raise BadHello('Hello: expected the role "up" or "down" in the tunnel, got "both"')
        self.poll_ms = hello.poll_ms or 0
        if hello.pad:
            self._padding = encode(PAD, body=bytes(hello.pad))

    def on_welcome(self) -> None:
        if self.role == "up":
            self.expect(ANSWER_S)
        elif self.poll_ms:
            # At most so long: the wheel may be late by two of its ticks.
            hold_s = min(self.poll_ms / 1000, self.gateway.limits.idle_s)
            self.expect(max(0.0, hold_s - 2 * self.hub.tick_ms / 1000))
        else:
            self._ping(SECOND_PING_S)

    def on_deadline(self) -> None:
        shortest, longest = self.gateway.limits.heartbeat
        if self.role is None:
            super().on_deadline()
        elif self.streams and self._pings * shortest < longest:
            self._ping(shortest)
            self.gateway.downlink.asked(self)  # as at a heartbeat: nobody can send one here
        else:
            self.close()

    def leave(self, goaway: bytes) -> None:
        self.send(GOAWAY, body=goaway)
        if self.role == "down":
            self.close()

    def _ping(self, next_s: float) -> None:
        """Nobody answers: it shows the client how the way treats what is streamed, and when to give it up."""
        self._pings += 1
        self.send(PING, self._pings, body=self.gateway.limits.heartbeat[0].to_bytes(2))
        self.expect(next_s)


def _has_message(frames: bytes) -> bool:
    """Whether there is a `MSG` among whole frames."""
    at = 0
    while at < len(frames):
        if frames[at + 1] == MSG:
            return True
        at += HEADER_SIZE + int.from_bytes(frames[at + 4 : at + 8])
    return False
