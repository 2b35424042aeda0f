"""A channel: one link after another of one kind. It opens them, waits between tries, leaves when asked to, and knows
when to stop coming back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from enum import Enum

from ..errors import LinkClosed
from ..messages import GoAway
from ..points import Point
from .backoff import Backoff
from .link import ClientLink

__all__ = ["Channel", "State"]

WAIT_MOST = 3600.0
"""The most that the other side can make us wait, seconds."""
AGAIN_MOST = 8
"""Links that may end one after another without having served, and yet be followed at once."""
EMPTY_S = 1.0
"""How long an exchange lasts at least that brings nothing, seconds: whoever answers sooner is not asked in a circle."""
SUPERSEDED_MOST = 4
"""Times in a row that another link may take over, where requests may come late or twice: it may have been our own."""

ADVICE = {
    "unauthorized": "check the token",
    "expired": "get a new token; a callable as `token` renews it by itself",
    "superseded": "if another process uses this device's name, give each one a name of its own",
    "kicked": "the server does not want this device any more",
    "version": "update this client",
    "bad_hello": "check token and device; if they are right, this client and the gateway do not fit each other",
}
"""Codes that end a client if `retry_ms` is null, and what to do about them."""


class State(Enum):
    """Where a client, or one of its channels, stands."""

    CONNECTING = "connecting"
    OPEN = "open"
    IDLE = "idle"
    """Only of what goes up, where it has a link of its own: there is none, since nothing has to go."""
    WAITING = "waiting"
    CLOSED = "closed"


class Channel:
    """candidates: access points to try now, in turn. open_one: a link to one of them. needed: waits until a link is
    wanted. renews: the token is asked for anew each time. say: told each new state."""

    def __init__(
        self,
        candidates: Callable[[], list[Point]],
        open_one: Callable[[Point], Awaitable[ClientLink]],
        needed: Callable[[], Awaitable[None]],
        renews: bool,
        say: Callable[[State, str], None],
    ) -> None:
        self.link: ClientLink | None = None
        """The link that is welcomed. While it drains, the one that will follow it is opened."""
        self.good: Point | None = None
        """The point that it was opened to last."""
        self._trying: Point | None = None
        self.state, self.text = State.IDLE, ""
        self._candidates = candidates
        self._open_one = open_one
        self._needed = needed
        self._renews = renews
        self._say_to = say
        self._leave_at = 0.0  # the time that a GOAWAY gave us for coming back
        self._moving = False  # the used link drains while the next one is opened
        self._renewals = 0  # tokens that were refused since the last WELCOME
        self._superseded = 0  # links in a row that another one took over from

    async def run(self) -> None:
        """Stay connected. Raises `LinkClosed`, with advice, when there is no use in coming back."""
        backoff = Backoff()
        now = asyncio.get_running_loop().time
        again = 0
        while True:
            await self._needed()
            began = now()
            try:
                link = await self._open()
            except LinkClosed as error:
                failure = error
            else:
                await link.over
                backoff.lived(now() - began)
                failure = link.reason
                if link is self.link and link.open:  # it was time to leave
                    self._moving = True
                    continue
                if link.served:
                    self._superseded = again = 0
                    await self._pause(link, now() - began)
                    continue
                again += 1
                if link.again and again <= AGAIN_MOST:
                    continue
            if self._final(failure):
                raise LinkClosed(failure.code, f"{failure.text}: {ADVICE[failure.code]}", None)
            least = max((failure.retry_ms or 0) / 1000, self._leave_at - now())
            wait = backoff.next(min(max(least, 0.0), WAIT_MOST))
            if self.link is None:
                self.say(State.WAITING, f"trying again in {wait:.1f} s: {failure}")
            await asyncio.sleep(wait)

    def switch(self, link: ClientLink) -> None:
        """The link is welcomed: it takes the place of the one before."""
        old, self.link = self.link, link
        self._moving = False
        self._renewals = 0
        if old is not None and old is not link:
            old.close()

    def lost(self, link: ClientLink) -> bool:
        """The link is over; False if it was not the one that is used."""
        if link is not self.link:
            return False
        self.link = None
        if self._moving:
            self.say(State.WAITING, "the link that drained is over, and the next one is not open yet")
        return True

    def leave(self, link: ClientLink, notice: GoAway) -> None:
        """The gateway asks us to go: the next link is opened at a time of our own, while this one drains."""
        loop = asyncio.get_running_loop()
        wait = random.uniform(0, min(notice.spread_ms / 1000, WAIT_MOST))
        self._leave_at = loop.time() + wait
        loop.call_later(wait, link.leave)

    def say(self, state: State, text: str) -> None:
        """It stands there now; one exchange behind the other is no news."""
        if (state, text) != (self.state, self.text):
            self.state, self.text = state, text
            self._say_to(state, text)

    async def _pause(self, link: ClientLink, lasted: float) -> None:
        """Between a link that ended as foreseen and the next one."""
        wait = self._leave_at - asyncio.get_running_loop().time()
        if link.hasty:
            wait = max(wait, EMPTY_S - lasted)
        if wait > 0:
            await asyncio.sleep(min(wait, WAIT_MOST))

    async def _open(self) -> ClientLink:
        """A new link, welcomed; raises `LinkClosed` if there is no way in now."""
        failures: list[LinkClosed] = []
        for point in self._candidates():
            if self.link is None and self.state is not State.OPEN:
                self.say(State.CONNECTING, f"connecting to {point}")
            self._trying = point
            try:
                link = await self._open_one(point)
            except LinkClosed as error:
                if error.retry_ms is None and error.code in ADVICE:
                    raise
                said = error.text if error.code == "timeout" else str(error)
                failures.append(LinkClosed(error.code, f"{point}: {said}", error.retry_ms))
            else:
                self.good = point
                return link
        if len(failures) == 1:
            raise failures[0]
        text = "; ".join(failure.text for failure in failures)
        raise LinkClosed("timeout", text, max(failure.retry_ms or 0 for failure in failures))

    def _final(self, reason: LinkClosed) -> bool:
        """There is no use in coming back as we are."""
        if reason.retry_ms is not None or reason.code not in ADVICE:
            return False
        if reason.code == "superseded" and self._trying is not None and self._trying.tunnels:
            self._superseded += 1
            return self._superseded > SUPERSEDED_MOST
        if reason.code in ("unauthorized", "expired") and self._renews:
            self._renewals += 1
            return self._renewals > 1
        return True
