"""A link as the gateway sees it: who is on it, what its frames mean to the channel, and how it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from msgspec import UNSET, UnsetType

from .._codec import ACK, ERROR, FAILED, GOAWAY, HELLO, JOIN, LEAVE, MSG, ROOM
from .._link import Link
from ..bus.ports import Route, Wake
from ..errors import FrameError
from ..messages import Error, Hello, Refusal, Role, pack
from ..session import HELLO_LIMIT, Phase, moves
from .uplink import Up

if TYPE_CHECKING:
    from .gateway import Gateway

__all__ = ["ServerLink"]

_NEW = moves(Phase.GATEWAY_NEW)


class ServerLink(Link):
    """One connection, from its first byte to its last. An idle one must stay small: what not every link needs is made
    when it is needed, and what all links share is the gateway's."""

    __slots__ = ("accepted", "accepts", "gateway", "reading", "role", "route", "up")

    def __new__(cls, gateway: Gateway) -> Self:
        return super().__new__(cls, gateway.hub, _NEW, HELLO_LIMIT)

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.role: Role | None = None  # None until WELCOME
        self.route: Route | None = None  # None until HELLO is known to be this user's
        self.accepted = 0  # the highest number accepted from this device when the link began
        self.accepts: tuple[str, ...] = ()  # payload formats that this client understands, best first
        self.up: Up | None = None  # from the first message on
        self.reading = False  # the inbox is being read for it
        self.expect(gateway.limits.handshake_s)

    @property
    def nonce(self) -> str | UnsetType:
        """What WELCOME and ERROR repeat of the HELLO: in the tunnel, where an answer may be another one's."""
        return UNSET

    @property
    def user(self) -> str:
        """Who is on it; "" as long as nobody is."""
        return self.route.user if self.route is not None else ""

    @property
    def device(self) -> str:
        """On which of the user's devices."""
        return self.route.device if self.route is not None else ""

    @property
    def listens(self) -> bool:
        """Messages come down on it."""
        return self.role is not None and self.role != "up"

    def on_frame(self, type: int, flags: int, id: int, route: str, body: bytes) -> None:
        if type == MSG:
            if flags & ROOM:
                self.gateway.publish(self, id, route, body)
            else:
                if self.up is None:
                    self.up = Up(self, self.gateway.bus.queue, self.gateway.admission, self.gateway.limits.unanswered)
                self.up.message(flags, id, route, body)
        elif type == HELLO:
            self.hold()  # what comes behind it waits for the WELCOME
            self.gateway.hello(self, body)
        elif type == JOIN:
            self.gateway.rooms.join(self, id, route)
        elif type == LEAVE:
            self.gateway.rooms.leave(self, id, route)
        elif type == ERROR:
            self.close()

    def on_foreign(self, first: bytes) -> bool:
        self.gateway.http.take(self, first)
        return True

    def on_hello(self, hello: Hello) -> None:
        """What HELLO asks for. Raises `BadHello` for what may not be asked for here."""

    def on_welcome(self) -> None:
        """WELCOME was said: from here on the link is silent for so long at most."""
        limits = self.gateway.limits
        self.expect(limits.idle_s if self.role == "up" else limits.heartbeat[1] * 1.5, renew=True)

    def on_taken(self) -> None:
        self.gateway.downlink.taken(self)

    def on_fault(self, error: FrameError) -> None:
        self.farewell(error.code, str(error))

    def on_ping(self) -> None:
        self.gateway.downlink.asked(self)

    def on_deadline(self) -> None:
        if self.role == "up":
            self.close()  # idle, as foreseen (wire: `idle_s`)
        elif self.role is None:
            self.farewell("timeout", f"expected a whole HELLO within {self.gateway.limits.handshake_s:g} s", 0)
        else:
            self.farewell("timeout", "expected a sign of life within the heartbeat", 0)

    def on_end(self, error: Exception | None) -> None:
        self.up = None  # the two know each other: a circle that only the collector would find
        self.gateway.ended(self)

    def wake(self, wake: Wake) -> None:
        """The user's inbox has grown."""
        if self.listens:
            self.gateway.downlink.wake(self, wake)
        elif wake.seq > self.head:
            self.head = wake.seq

    def goes_to(self, head: int) -> None:
        """The newest number in the user's inbox, as the inbox itself says."""
        if head > self.head and self.open:
            self.head = head
            self.gateway.downlink.pump(self)

    def leave(self, goaway: bytes) -> None:
        """Ask the client to go (wire: `GOAWAY`)."""
        self.send(GOAWAY, body=goaway)

    def refuse(self, id: int, refusal: Refusal) -> None:
        """Answer a request: it is not done (wire: `Refusal`)."""
        self.gateway.refused[refusal.code] += 1
        self.send(ACK, id, "", pack(refusal), FAILED)

    def farewell(self, code: str, text: str, retry_ms: int | None = None) -> None:
        """Say why, then close (wire: `ERROR`)."""
        if self.open:
            self.gateway.errors[code] += 1
        self.send(ERROR, body=pack(Error(code, text, retry_ms, self.nonce)))
        self.close()
