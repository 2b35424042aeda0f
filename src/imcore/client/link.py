"""A link as the client sees it: HELLO and WELCOME, heartbeats, and whose business each frame is.

One that only carries messages up needs no heartbeat: it is asked whether it lives while an answer is due, and no longer
used when the gateway has closed it.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, Self

from .._codec import ACK, ERROR, FAILED, GOAWAY, HEADER_SIZE, HELLO, MSG, PING, PONG, ROOM, WELCOME
from .._hub import Hub
from .._link import Link
from ..errors import FrameError, LinkClosed, RemoteError, WayError
from ..messages import Error, GoAway, Hello, Refusal, Resume, Role, Welcome, pack, unpack
from ..session import HELLO_LIMIT, Phase, moves
from ..ways.outcomes import Outcome, met, of_error
from ..ways.still import Still
from .heartbeat import Heartbeat, acknowledged, unsent

__all__ = ["ClientLink", "Owner"]

ROOM_MOST = 1 << 62

_NEW = moves(Phase.CLIENT_NEW)
_OPEN = moves(Phase.CLIENT_OPEN)


class Owner(Protocol):
    """Who is told what a link brings; all calls are made in the link's turn."""

    doubts: int
    """Links that were given up for an answer that was overdue, since one came."""

    def welcomed(self, link: ClientLink, welcome: Welcome) -> None:
        """The link is open. May raise `RemoteError`: then it is closed."""

    def message(self, link: ClientLink, seq: int, route: str, body: bytes, room: str | None) -> None:
        """A message came down."""

    def answer(self, link: ClientLink, number: int, refusal: Refusal | None) -> None:
        """A request was answered."""

    def waits(self, link: ClientLink) -> bool:
        """Whether an answer of this link is due."""

    def head(self, link: ClientLink, head: int) -> None:
        """A link that brings no messages says how far the inbox goes."""

    def too_large(self, link: ClientLink, size: int) -> None:
        """What it said, of so many bytes, is more than the way lets through at a time."""

    def lags(self, link: ClientLink) -> bool:
        """Whether this link has not brought what another one said that the inbox has."""

    def lacks(self, link: ClientLink, head: int) -> int | None:
        """The inbox's newest number is `head`: what this link has brought, if that is not all that it should have."""

    def still(self, link: ClientLink) -> Still:
        """How long it may be silent, as far as is known."""

    def died(self, link: ClientLink, silence_s: float) -> None:
        """It did not survive a silence that it should have."""

    def going(self, link: ClientLink, notice: GoAway) -> None:
        """The gateway asks us to leave."""

    def ended(self, link: ClientLink) -> None:
        """The link is over; `link.reason` says why."""


class ClientLink(Link):
    """One connection to a gateway, for one HELLO."""

    __slots__ = (
        "_closed",
        "acknowledged",
        "again",
        "asked",
        "awaiting",
        "beat",
        "beats",
        "doubted",
        "hasty",
        "loop",
        "opened",
        "over",
        "owner",
        "paused",
        "polls",
        "quiet",
        "reason",
        "role",
        "said",
        "sealed",
        "served",
        "sounded",
        "wire",
    )

    def __new__(cls, hub: Hub, owner: Owner) -> Self:
        return super().__new__(cls, hub, _NEW, HELLO_LIMIT)

    def __init__(self, hub: Hub, owner: Owner) -> None:
        self.role: Role = "both"
        self.beats = True
        """It shows signs of life by itself."""
        self.sealed = False
        """Nothing more can be said on it."""
        self.polls = False
        """Its answer comes when there is something to say, whole."""
        self.hasty = False
        """It brought nothing: the next one is not opened sooner than in a while."""
        self.served = False
        """It ended as foreseen: nothing is wrong."""
        self.again = False
        """It ended in a way that says nothing about the next one: that need not wait."""
        self.owner = owner
        self.loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[Welcome] = self.loop.create_future()
        """Ends with WELCOME, or in `LinkClosed`."""
        self.over: asyncio.Future[None] = self.loop.create_future()
        """Ends with the link, or before, when it is time to open another one."""
        self._closed = self.reason = LinkClosed("internal", "the other side closed the connection")
        """Why it ended; `__cause__` names what stands in the way, where that is known."""
        self.asked: Resume | None = None
        self.beat: Heartbeat | None = None
        self.said = 0.0
        self.sounded: list[asyncio.Future[bool]] = []
        self.acknowledged = 0
        self.awaiting = False
        """An answer is due, and its time runs."""
        self.wire = -1
        """The descriptor beneath, whatever carries the frames; -1 = not known."""
        self.paused = False
        self.doubted = False
        """Something spoke against it, and it has not answered since."""
        self.quiet = -1
        """Bytes that had come when the last ping was answered; -1 = nothing is known about the silence since."""

    def hello(self, hello: Hello, patience: float) -> None:
        """Say who we are; the answer has `patience` seconds."""
        self.role = hello.role
        self.asked = hello.resume
        self.said = self.loop.time()
        self.send(HELLO, body=pack(hello))
        self.expect(patience)

    @property
    def room(self) -> int:
        """Bytes of messages that may be said on it now."""
        return ROOM_MOST

    @property
    def same_way(self) -> bool:
        """The next link may go the same way, without a look at others: this one did not end in a silence."""
        return (self.served or self.again) and self.reason.code != "timeout"

    def due(self) -> None:
        """An answer is due: from here on a silence means something."""
        if self.beat is not None and not self.beat.waiting and not self.awaiting:
            self.awaiting = True
            self.expect(self.beat.overdue(self.owner.doubts), renew=True)

    def check(self) -> None:
        """There is a reason to doubt it: ask now whether it lives, and what it has not brought; if it does not say so
        soon, another one is opened beside it."""
        if self.beat is not None and self.open and not self.paused and not self.doubted:
            self.doubted = True  # until it answers: asking again would only put off the end of its time
            self._ping(self.beat)

    def die(self, code: str, text: str, retry_ms: int | None = 0) -> None:
        """Leave it without a word: it can't be trusted, or brings nothing any more."""
        self.reason = LinkClosed(code, text, retry_ms)
        self.abort()

    def meet(self, met: WayError) -> None:
        """Leave it: this stands in the way."""
        self._named(met)
        self.abort()

    def pause(self) -> None:
        """Read no more until `resume`: the application has enough to do. A silence means nothing until then."""
        self.paused = True
        self.hold()

    def resume(self) -> None:
        """Read on."""
        self.paused = False
        self.proceed()

    def leave(self) -> None:
        """It is time to open the next one."""
        if not self.over.done():
            self.over.set_result(None)

    async def sound(self) -> bool:
        """True when the gateway has read all that was sent so far, False when the link is over."""
        if not self.open or self.beat is None:
            return False
        sounded: asyncio.Future[bool] = self.loop.create_future()
        self.sounded.append(sounded)
        self._ping(self.beat)
        return await sounded

    # What the link is told.

    def on_frame(self, type: int, flags: int, id: int, route: str, body: bytes) -> None:
        try:
            if type == MSG:
                self.owner.message(self, id, route, body, route if flags & ROOM else None)
            elif type == ACK:
                self._answered(flags, id, body)
            elif type == PONG:
                self._alive(id, body)
            elif type == WELCOME:
                self._welcomed(unpack(body, Welcome))
            elif type == GOAWAY:
                self.owner.going(self, unpack(body, GoAway))
            elif type == ERROR:
                self._refused(unpack(body, Error))
        except RemoteError as error:
            self._blame(error)

    def on_fault(self, error: FrameError) -> None:
        self._blame(error)

    def on_deadline(self) -> None:
        beat = self.beat
        self.awaiting = False
        if beat is None:
            self.meet(met(Outcome.SILENT, "no WELCOME came in time"))
        elif not self.beats and not self.owner.waits(self):
            pass  # it may be silent as long as it likes
        elif not beat.waiting:
            left = beat.left(self.loop.time())
            if left > 0 and not self.owner.waits(self):  # all was answered, and it is no time for a heartbeat
                self.expect(left)
            else:
                self._ping(beat, alone=self.quiet == self.offset and not self.owner.waits(self))
        elif self.paused or self._moves():
            self.expect(beat.patience, renew=True)
        elif self.beats and not self.over.done() and (self.doubted or self.owner.waits(self)):
            self.owner.doubts += self.owner.waits(self)
            self.leave()  # another one is opened beside it: whichever answers first is the one
            self.expect(beat.patience, renew=True)
        else:
            if self.quiet >= 0 and beat.silence:
                self.owner.died(self, beat.silence)
            self.meet(met(Outcome.FROZEN, f"no answer to a ping within {beat.patience:.1f} s", self.offset))

    def on_end(self, error: Exception | None) -> None:
        if isinstance(error, WayError):
            self._named(error)
        elif error is not None:
            self.reason = LinkClosed("internal", f"the connection broke: {error}", 0)
            if isinstance(error, OSError):
                self.reason.__cause__ = met(of_error(error), str(error))
        elif self.beat is None and self.reason is self._closed:
            self._named(met(Outcome.CLOSED))
        self._judge(error)
        self.leave()
        self._sound(False)
        if not self.opened.done():
            self.opened.set_exception(self.reason)
            self.opened.exception()  # perhaps nobody waits any more
        self.owner.ended(self)

    def _moves(self) -> bool:
        """What we said is still on its way through a narrow network: that is slow, not dead."""
        before, self.acknowledged = self.acknowledged, acknowledged(self.wire)
        return self.acknowledged > before and unsent(self.wire) > 0

    # What frames mean.

    def _judge(self, error: Exception | None) -> None:
        """What this end says about the next link."""
        if not self.beats and self.beat is not None and self.reason.retry_ms == 0:
            self.again = True  # the gateway may close what is idle at any time, also now
            self.served = not self.owner.waits(self)

    def _welcomed(self, welcome: Welcome) -> None:
        self.expect_moves(_OPEN, welcome.max_frame)
        self.owner.welcomed(self, welcome)
        self.beat = Heartbeat(*welcome.heartbeat, self.loop.time() - self.said)
        self.beat.follow(self.owner.still(self))
        if not self.opened.done():
            self.opened.set_result(welcome)
        if self.beats:
            self._ping(self.beat)
        else:
            self.due()

    def _refused(self, error: Error) -> None:
        self.reason = LinkClosed(error.code, error.text, error.retry_ms)
        self.close()

    def _answered(self, flags: int, id: int, body: bytes) -> None:
        if flags & FAILED:
            self.owner.answer(self, id, unpack(body, Refusal))
        else:
            self.owner.answer(self, id, None)
            if len(body) == 8:
                self.owner.head(self, int.from_bytes(body))

    def _alive(self, token: int, body: bytes) -> None:
        beat = self.beat
        if beat is None or not beat.pong(token, self.loop.time()):
            return
        self.quiet = self.offset + HEADER_SIZE + len(body)
        self.doubted = False
        self._sound(True)
        if not self.beats:
            self.due()
            return
        received = self.owner.lacks(self, int.from_bytes(body)) if len(body) == 8 else None
        if received is None:
            beat.trust()
        elif beat.doubt(received, self.loop.time()):
            self.die("internal", f"the inbox goes on behind number {received}, but nothing came: asking for it anew")
            return
        else:
            self.expect(min(beat.patience, beat.pause(self.loop.time())))
            return
        self.expect(beat.pause(self.loop.time()))
        if self.owner.waits(self):
            self.due()

    def _sound(self, answered: bool) -> None:
        waiting, self.sounded = self.sounded, []
        for each in waiting:
            if not each.done():
                each.set_result(answered)

    def _named(self, why: WayError) -> None:
        """What ended it has a name: the cause of the reason."""
        self.reason = LinkClosed(why.code, str(why), 0)
        self.reason.__cause__ = why

    def _ping(self, beat: Heartbeat, *, alone: bool = False) -> None:
        """alone: nothing has moved since the last one, and nothing is due."""
        if not alone:
            self.quiet = -1
        token, body = beat.ping(self.loop.time())
        self.send(PING, token, body=body)
        self.acknowledged = acknowledged(self.wire)
        hurry = self.doubted or self.owner.waits(self)
        patience = beat.overdue(self.owner.doubts) if hurry else beat.patience
        self.expect(patience, renew=True)

    def _blame(self, error: RemoteError) -> None:
        """The other side broke the contract: say so, and close."""
        self.reason = LinkClosed(error.code, f"the gateway broke the contract: {error}", 0)
        if self.beat is None:
            self.reason.__cause__ = met(Outcome.HIJACK, str(error))
        self.send(ERROR, body=pack(Error(error.code, str(error), 0)))
        self.close()
