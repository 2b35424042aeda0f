"""One link after another: opens them, waits between tries, leaves when asked to, and knows when to stop coming back."""

from __future__ import annotations

import asyncio
import os
import random
import ssl
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum

from .._hub import Hub
from ..errors import LinkClosed
from ..messages import GoAway, Hello
from ..points import Point
from ..ways.dial import dial, in_turn
from .backoff import Backoff
from .link import ClientLink, Owner

__all__ = ["Connection", "State", "Token"]

Token = str | Callable[[], str | Awaitable[str]]
"""A token, or what gets one: asked for each new link, so that an expired one is renewed."""

DIAL_S = 10.0
"""How long a connection may take, and then WELCOME, seconds."""
WAIT_MOST = 3600.0
"""The most that the other side can make us wait, seconds."""

_ADVICE = {
    "unauthorized": "check the token",
    "expired": "get a new token; a callable as `token` renews it by itself",
    "superseded": "if another process uses this device's name, give each one a name of its own",
    "kicked": "the server does not want this device any more",
    "version": "update this client",
    "bad_hello": "check token and device; if they are right, this client and the gateway do not fit each other",
}
"""Codes that end a client if `retry_ms` is null, and what to do about them."""


class State(Enum):
    """Where a client stands."""

    CONNECTING = "connecting"
    OPEN = "open"
    WAITING = "waiting"
    CLOSED = "closed"


class Connection:
    """owner: told what the links bring. hello: makes the HELLO for a token and a carrier. say: told each new state."""

    def __init__(
        self,
        owner: Owner,
        points: Sequence[Point],
        token: Token,
        tls: ssl.SSLContext | None,
        hello: Callable[[str, str], Hello],
        say: Callable[[State, str], None],
    ) -> None:
        self.link: ClientLink | None = None
        """The link that is welcomed. While it drains, the one that will follow it is opened."""
        self._owner = owner
        self._points = points
        self._good: Point | None = None
        self._token = token
        self._tls = tls
        self._hello = hello
        self._say = say
        self._leave_at = 0.0  # the time that a GOAWAY gave us for coming back
        self._moving = False  # the used link drains while the next one is opened
        self._renewals = 0  # tokens that were refused since the last WELCOME

    async def run(self, hub: Hub) -> None:
        """Stay connected. Raises `LinkClosed`, with advice, when there is no use in coming back."""
        backoff = Backoff()
        now = asyncio.get_running_loop().time
        while True:
            try:
                link = await self._open(hub)
            except LinkClosed as error:
                failure = error
            else:
                began = now()
                await link.over
                backoff.lived(now() - began)
                if link is self.link:  # it was time to leave
                    self._moving = True
                    continue
                failure = link.reason
            if self._final(failure):
                raise LinkClosed(failure.code, f"{failure.text}: {_ADVICE[failure.code]}", None)
            least = max((failure.retry_ms or 0) / 1000, self._leave_at - now())
            wait = backoff.next(min(max(least, 0.0), WAIT_MOST))
            if self.link is None:
                self._say(State.WAITING, f"trying again in {wait:.1f} s: {failure}")
            await asyncio.sleep(wait)

    def switch(self, link: ClientLink) -> None:
        """The link is welcomed: it takes the place of the one before."""
        old, self.link = self.link, link
        self._moving = False
        self._renewals = 0
        if old is not None:
            old.close()

    def lost(self, link: ClientLink) -> bool:
        """The link is over; False if it was not the one that is used."""
        if link is not self.link:
            return False
        self.link = None
        if self._moving:
            self._say(State.WAITING, "the link that drained is over, and the next one is not open yet")
        return True

    def leave(self, link: ClientLink, notice: GoAway) -> None:
        """The gateway asks us to go: the next link is opened at a time of our own, while this one drains."""
        loop = asyncio.get_running_loop()
        wait = random.uniform(0, min(notice.spread_ms / 1000, WAIT_MOST))
        self._leave_at = loop.time() + wait
        loop.call_later(wait, link.leave)

    async def _open(self, hub: Hub) -> ClientLink:
        """A new link, welcomed; raises `LinkClosed` if there is no way in now."""
        failures: list[LinkClosed] = []
        for point in in_turn(self._points, self._good):
            if self.link is None:
                self._say(State.CONNECTING, f"connecting to {point}")
            try:
                link = await self._try(hub, point)
            except OSError as error:
                failures.append(LinkClosed("timeout", f"{point}: {_reason(error)}", 0))
            except LinkClosed as error:
                if error.retry_ms is None and error.code in _ADVICE:
                    raise
                failures.append(LinkClosed(error.code, f"{point}: {error}", error.retry_ms))
            else:
                self._good = point
                return link
        if len(failures) == 1:
            raise failures[0]
        text = "; ".join(failure.text for failure in failures)
        raise LinkClosed("timeout", text, max(failure.retry_ms or 0 for failure in failures))

    async def _try(self, hub: Hub, point: Point) -> ClientLink:
        token = self._token if isinstance(self._token, str) else self._token()
        if not isinstance(token, str):
            token = await token
        link = ClientLink(hub, self._owner)
        try:
            async with asyncio.timeout(DIAL_S):
                link.wire = await dial(point, link, self._tls)
            link.hello(self._hello(token, point.scheme), DIAL_S)
            await link.opened
        except BaseException:
            link.abort()
            raise
        return link

    def _final(self, reason: LinkClosed) -> bool:
        """There is no use in coming back as we are."""
        if reason.retry_ms is not None or reason.code not in _ADVICE:
            return False
        if reason.code in ("unauthorized", "expired") and not isinstance(self._token, str):
            self._renewals += 1
            return self._renewals > 1
        return True


def _reason(error: OSError) -> str:
    """In words: asyncio's own repeat the address and leave out what the number means."""
    if isinstance(error, ConnectionError) and error.errno:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__
