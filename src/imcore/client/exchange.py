"""An exchange of the tunnel as the client's link: it speaks once, hears until the response ends, and sees by the two
timed pings whether the way streams (wire: "The HTTP tunnel")."""

from __future__ import annotations

import asyncio
import secrets
from typing import Self

import msgspec
from msgspec import UNSET, UnsetType

from .._codec import MSG, PING
from .._hub import Hub
from ..errors import BadFrame, RemoteError, WayError
from ..messages import Error, Hello, Welcome
from ..session import Phase, moves
from ..ways.outcomes import Outcome, met
from ..ways.tunnel import Path, Post, Tunnel
from .heartbeat import Heartbeat, acknowledged
from .link import ClientLink, Owner

__all__ = ["ExchangeLink"]

_OPEN = moves(Phase.CLIENT_TUNNEL)
_BROKE = {outcome.name for outcome in (Outcome.CLOSED, Outcome.TRUNCATED, Outcome.PROXY_LOST)}
_BY_CHANCE = _BROKE | {outcome.name for outcome in (Outcome.CACHED, Outcome.HIJACK, Outcome.REWRITTEN)}
"""May have come to this exchange alone."""

FIRST_S = 0.7
"""How long the WELCOME of a stream may take on a way that was not seen to stream, seconds, beside the round trip: so
that this is known before a race would give the way up (`race.OVERDUE_S`)."""
SECOND_S = 1.0
"""And the second ping behind it, which the gateway sends after 0.3 s."""
SURE_S = 3.0
"""Both where the way was seen to stream, so that a busy gateway is not taken for it."""
ANSWER_S = 10.0
"""How long a gateway may take to answer, where nothing has to be held back, seconds."""
STALE_IDLE_S = 1.0
"""A connection that was idle for so long may be dead without our knowing, seconds."""
STALE_S = 3.0
"""How long an answer may take on a connection that was used before, as nothing tells whether it lives, seconds."""
HELD_S = 2.0
"""A response that failed sooner was not held back for too long, seconds."""
PATIENCE_RTT = 3
"""Round trips that are added to each wait."""
CHECK_S = 0.5
"""How long what the inbox is known to have may be on its way, seconds, beside the round trips."""
PAD_BYTES = 4096
"""What fills a buffer on the way, and stands behind each piece on a way that needs it."""
SILENT = 1.5
"""A stream may be silent for so many of the gateway's shortest heartbeats."""


class ExchangeLink(ClientLink):
    """tunnel: the way that it goes. path: which of the two. quick: where answers are held back, one at once is wanted.
    last: it is wanted at once in any case."""

    __slots__ = (
        "_began",
        "_checking",
        "_heard_at",
        "_idle_s",
        "_nonce",
        "_quick",
        "_streaming",
        "path",
        "post",
        "tunnel",
    )

    def __new__(cls, hub: Hub, owner: Owner, tunnel: Tunnel, path: Path, *, quick: bool, last: bool) -> Self:
        return super().__new__(cls, hub, owner)

    def __init__(self, hub: Hub, owner: Owner, tunnel: Tunnel, path: Path, *, quick: bool, last: bool) -> None:
        super().__init__(hub, owner)
        self.beats = False
        self.tunnel = tunnel
        self.path = path
        self.post: Post | None = None
        self._nonce = secrets.token_urlsafe(6)
        self._quick = quick or last
        self.polls = path == "down" and (last or tunnel.manner.now.mode == "poll")
        self.hasty = path == "down" and not self._quick
        self._checking = False
        self._streaming = False  # both pings came
        self._began = self._heard_at = self._idle_s = 0.0

    @property
    def room(self) -> int:
        return 0 if self.sealed else max(0, self.tunnel.manner.now.body - self.queued)

    @property
    def same_way(self) -> bool:
        return self.served or self.again

    def hello(self, hello: Hello, patience: float) -> None:
        hello = msgspec.structs.replace(hello, nonce=self._nonce)
        if self.path == "down":
            poll_ms = 1 if self._quick else round(self.tunnel.manner.now.hold_s * 1000)
            pad = PAD_BYTES if self.tunnel.manner.now.mode == "padded" else None
            hello = msgspec.structs.replace(
                hello, poll_ms=poll_ms if self.polls else 0, pad=None if self.polls else pad
            )
        super().hello(hello, patience)

    def ask(self) -> None:
        """All is said: send it."""
        self.sealed = True
        self._began = self._heard_at = self.said = self.loop.time()
        self._idle_s = self.tunnel.idle_s(self.path)
        self.post = self.tunnel.post(self.path, self)
        self.wire = self.post.wire
        self.acknowledged = acknowledged(self.wire)
        self.expect(self._patience(), renew=self.path == "up")

    @property
    def _stale(self) -> bool:
        """The connection may have died while nobody used it."""
        return self.post is not None and self.post.reused and self._idle_s >= STALE_IDLE_S

    def _patience(self) -> float:
        """How long the answer may take to begin, seconds."""
        assert self.post is not None
        around = PATIENCE_RTT * self.tunnel.rtt
        if self.polls:
            return ANSWER_S + around + (0.0 if self._quick else self.tunnel.manner.now.hold_s)
        if self._stale:
            return STALE_S + around
        if self.path == "up":
            return ANSWER_S + around
        return (SURE_S if self.tunnel.manner.sure else FIRST_S) + around

    def due(self) -> None:
        """The response is waited for anyway."""

    def check(self) -> None:
        """Nothing can be asked; when it has not brought by now what there is, it is asked anew."""
        if self.path == "down" and not self._checking:
            self._checking = True
            self.loop.call_later(CHECK_S + PATIENCE_RTT * self.tunnel.rtt, self._checked)

    def give_way(self) -> None:
        """There is something else to say: that needs another one."""
        self.served = True
        self.hasty = False
        self.die("internal", "there was something else to say")

    async def sound(self) -> bool:
        await asyncio.wait([self.over])
        return self.served

    # What the link is told.

    def on_frame(self, type: int, flags: int, id: int, route: str, body: bytes) -> None:
        self._heard_at = self.loop.time()
        if type == PING:
            self._pinged(id, body)
        else:
            if type == MSG:
                self.hasty = False
            super().on_frame(type, flags, id, route, body)

    def on_foreign(self, first: bytes) -> bool:
        page = first.lstrip().startswith(b"<")
        self._strange(Outcome.PORTAL if page else Outcome.REWRITTEN, f"it begins with {first[:16]!r}")
        return True

    def on_deadline(self) -> None:
        manner, post = self.tunnel.manner, self.post
        silent_s = self.loop.time() - self._heard_at
        if post is None:
            self.die("timeout", "it was not sent")
            return
        if self.paused:  # what would have come is not read
            self.expect(self._patience(), renew=True)
            return
        if self._moves():
            self.expect(self._patience(), renew=self.path == "up")
            return
        self.again = True
        if self._stale and not post.heard:
            manner.idled_too_long(self._idle_s)
            why = met(Outcome.SILENT, "on a connection that was used before")
        elif self.path == "up":
            self.again = False
            why = met(Outcome.FROZEN, after=post.heard) if post.heard else met(Outcome.SILENT)
        elif self.polls:
            manner.held_too_long(silent_s)
            why = met(Outcome.SILENT, f"to a request that may be held back for {manner.now.hold_s:g} s")
        elif self._streaming:
            manner.stalled(silent_s)
            why = met(Outcome.FROZEN, after=post.heard)
        else:
            manner.holds_back()
            why = met(Outcome.FROZEN, "what was streamed is held back", post.heard)
        self.meet(why)

    # What it means.

    def _checked(self) -> None:
        """Of a stream that was not seen to stream yet, and perhaps never will, the deadlines tell."""
        self._checking = False
        manner = self.tunnel.manner
        if self.open and self.owner.lags(self) and (self.polls or self._streaming or manner.sure):
            manner.sure = manner.sure and (self.polls or self._streaming)
            self.again = True
            self.die("timeout", "the inbox goes on, but nothing came: asking for it anew")

    def _judge(self, error: Exception | None) -> None:
        post = self.post
        if post is not None and post.answered and self.beat is not None and self.reason.retry_ms == 0:
            self.served = self.offset == post.body or self.paused  # else the last frame is not whole
            if self.served:
                self.tunnel.served = True
            else:
                self._named(met(Outcome.TRUNCATED, f"{post.body - self.offset} bytes of a frame"))
        elif isinstance(error, WayError) and post is not None:
            self._failed(error.outcome, post)

    def _failed(self, outcome: str, post: Post) -> None:
        manner, took_s = self.tunnel.manner, self.loop.time() - self._began
        if post.elsewhere:
            self.again = True
        elif outcome == Outcome.TOO_LARGE.name:
            self.again = manner.too_large(post.sent)
            if self.again:
                self.owner.too_large(self, post.sent)
        elif post.reused and not post.heard:
            manner.idled_too_long(self._idle_s)
            self.again = True
        elif self.path == "down" and self._streaming:
            manner.stalled(self.loop.time() - self._heard_at)
            self.again = True
        elif self.path == "down" and self.beat is not None and not self.polls:
            manner.broke()
        elif self.polls and took_s >= HELD_S and outcome in _BROKE:
            manner.held_too_long(took_s)
            self.again = True
        if outcome in _BY_CHANCE:
            self._by_chance()

    def _by_chance(self) -> None:
        """What came of this exchange may have come of it alone: where others have just been answered, the next one need
        not wait."""
        self.again = self.again or self.tunnel.served
        self.tunnel.served = False

    def _pinged(self, id: int, body: bytes) -> None:
        if len(body) not in (0, 2):
            self._blame(BadFrame(f"PING: expected a body of 0 or 2 bytes, got {len(body)}", self.offset))
        elif self._streaming or id > 1:
            if not self._streaming:
                self._streaming = True
                self.tunnel.manner.streams()
            self.expect(max(ANSWER_S, int.from_bytes(body) * SILENT), renew=True)

    def _is_ours(self, nonce: str | UnsetType) -> bool:
        """It answers this request, and not one of before, or of somebody else: such an answer is a cache's."""
        if nonce is UNSET or nonce == self._nonce:
            return True
        self._strange(Outcome.CACHED, "it answers another request")
        return False

    def _refused(self, error: Error) -> None:
        if self._is_ours(error.nonce):
            super()._refused(error)

    def _welcomed(self, welcome: Welcome) -> None:
        if not self._is_ours(welcome.nonce):
            return
        if self.tunnel.seen(welcome.session):  # of a gateway that repeats no nonce
            self._strange(Outcome.CACHED, f"session {welcome.session!r} was seen before")
            return
        self.expect_moves(_OPEN, welcome.max_frame)
        self.owner.welcomed(self, welcome)
        self.beat = Heartbeat(*welcome.heartbeat, self.loop.time() - self.said)
        if not self.opened.done():
            self.opened.set_result(welcome)
        if not self.polls and self.path == "down":  # as long as more comes, the second ping is behind that
            self.expect((SURE_S if self.tunnel.manner.sure else SECOND_S) + PATIENCE_RTT * self.tunnel.rtt, renew=True)

    def _blame(self, error: RemoteError) -> None:
        """What came is not what a gateway says: nobody is there to be told."""
        self._strange(Outcome.REWRITTEN, str(error))

    def _strange(self, outcome: Outcome, text: str) -> None:
        """What came does not answer this exchange."""
        self._by_chance()
        self.meet(met(outcome, text))
