"""A channel: one link after another of one kind. It opens them, waits between tries, leaves when asked to, and knows
when to stop coming back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from enum import Enum

from ..errors import LinkClosed, WayError
from ..messages import GoAway
from ..ways.candidate import Candidate
from ..ways.finder import Finder
from .backoff import LIVED_S, Backoff
from .link import ClientLink

__all__ = ["Channel", "State"]

WAIT_MOST = 3600.0
"""The most that the other side can make us wait, seconds."""
AGAIN_MOST = 8
"""Links that may end one after another without having served, and yet be followed at once."""
EMPTY_S = 1.0
"""How long an exchange lasts at least that brings nothing, seconds: whoever answers sooner is not asked in a circle."""
AGAIN_S = 30.0
"""How long after the first look a better way is looked for again, seconds, at most; twice as long each time, and only
while something moves: a look wakes the radio, and asks every way there is."""
UPWARD_MOST_S = 600.0
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
    """finder: of ways in. open_one: a link by one of them. needed: waits until a link is wanted. renews: the token is
    asked for anew each time. keeps: the link is kept when nothing moves. echoes: whether what this device said may come
    late or twice, and take over from what it says now. say: told each new state."""

    def __init__(
        self,
        finder: Finder,
        open_one: Callable[[Candidate], Awaitable[ClientLink]],
        needed: Callable[[], Awaitable[None]],
        renews: bool,
        keeps: bool,
        echoes: Callable[[], bool],
        say: Callable[[State, str], None],
    ) -> None:
        self.link: ClientLink | None = None
        """The link that is welcomed. While it drains, the one that will follow it is opened."""
        self.good: Candidate | None = None
        """The way that it was opened by last."""
        self._trying: Candidate | None = None
        self.state, self.text = State.IDLE, ""
        self._finder = finder
        self._open_one = open_one
        self._needed = needed
        self._renews = renews
        self._keeps = keeps
        self._echoes = echoes
        self._say_to = say
        self._settled = False  # the last link ended as foreseen: the next one goes the same way, without a search
        self._failures: list[LinkClosed] = []  # of this search
        self._opened = asyncio.Event()  # there is a way in
        self._spare: asyncio.Future[None] | None = None  # done when a better link is welcomed, or is not
        self._changed = asyncio.Event()  # it is another one now
        self._beside = asyncio.Event()  # the other channel is connected again
        self._moved = asyncio.Event()  # the network is another one, or time has leapt: what was tried before is nothing
        self._stirred = asyncio.Event()  # something moves
        self._leave_at = 0.0  # the time that a GOAWAY gave us for coming back
        self._moving = False  # the used link drains while the next one is opened
        self._renewals = 0  # tokens that were refused since the last WELCOME
        self._superseded = 0  # links in a row that another one took over from

    async def run(self) -> None:
        """Stay connected. Raises `LinkClosed`, with advice, when there is no use in coming back."""
        upward = asyncio.create_task(self._upward(), name="imcore looks for better ways")
        try:
            await self._stay()
        finally:
            upward.cancel()
            await asyncio.wait([upward])
            await self._finder.close()
            if not upward.cancelled():
                upward.result()

    async def _stay(self) -> None:
        backoff = Backoff()
        now = asyncio.get_running_loop().time
        again = brief = 0
        while True:
            await self._needed()
            began, replaced = now(), False
            try:
                link = await self._open_here()
            except LinkClosed as error:
                failure = error
            else:
                link, replaced = await self._last(link)
                backoff.lived(now() - began)
                failure = link.reason
                if replaced and failure.code == "superseded":  # by our own, which then did not come about
                    failure = LinkClosed(failure.code, failure.text, 0)
                self._settled = link.same_way
                if link is self.link and link.open:  # it was time to leave
                    self._moving = True
                    continue
                if link.served:
                    self._superseded = again = brief = 0
                    backoff.served()
                    await self._pause(link, began)
                    continue
                self._opened.clear()
                brief = brief + 1 if now() - began < LIVED_S else 0
                if not brief:
                    self._superseded = 0
                if self.good is not None and (brief > 1 or failure.code == "timeout"):
                    self._finder.lost(self.good)  # it froze, or breaks again and again: others first
                again += 1
                if link.again and again <= AGAIN_MOST:
                    continue
            if self._final(failure):
                raise LinkClosed(failure.code, f"{failure.text}: {ADVICE[failure.code]}", None)
            if failure.code == "superseded" and (replaced or self._superseded == 1):
                continue  # by a link of our own that came later than it was meant to: nothing is wrong with the way
            least = max((failure.retry_ms or 0) / 1000, self._leave_at - now())
            if (advice := self._finder.back_off) is not None:
                backoff.follow(advice.first_ms / 1000, advice.most_ms / 1000)
            wait = backoff.next(min(max(least, 0.0), WAIT_MOST))
            if self.link is None:
                self.say(State.WAITING, f"trying again in {wait:.1f} s: {failure}")
            await self._rest(wait, asked=least > 0)

    async def _rest(self, seconds: float, asked: bool) -> None:
        """Between two tries: shorter where something has changed that stood in the way. asked: by the other side."""
        changes: list[Awaitable[object]] = [self._moved.wait()]
        if not asked:
            self._beside.clear()
            changes += [self._beside.wait(), self._finder.opens()]
        waits = [asyncio.ensure_future(change) for change in changes]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.wait(waits)

    async def _last(self, link: ClientLink) -> tuple[ClientLink, bool]:
        """The link that ended, or is to be left, after all that took its place; and whether another one was just about
        to."""
        while True:
            await link.over
            spare = self._spare
            if spare is not None:
                await asyncio.wait([spare])
            if self.link is None or self.link is link:
                return link, spare is not None
            link = self.link

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

    def anew(self) -> None:
        """The network is another one, or time has leapt: whatever is waited for is due now, a search that runs begins
        again, and the next link is searched for. The link that there is stays."""
        self._moved.set()

    def hurry(self) -> None:
        """The channel beside this one is connected again: what kept both away may be over, so a pause that nobody asked
        for ends now."""
        self._beside.set()

    def stirs(self) -> None:
        """Something moves."""
        self._stirred.set()

    def say(self, state: State, text: str) -> None:
        """It stands there now; one exchange behind the other is no news."""
        if (state, text) != (self.state, self.text):
            self.state, self.text = state, text
            self._say_to(state, text)

    async def _pause(self, link: ClientLink, began: float) -> None:
        """Between a link that ended as foreseen and the next one. The time that a GOAWAY gave us is always kept."""
        now = asyncio.get_running_loop().time
        if (wait := self._leave_at - now()) > 0:
            await asyncio.sleep(min(wait, WAIT_MOST))
        if link.hasty and (wait := began + EMPTY_S - now()) > 0:
            await self._rest(wait, asked=True)

    async def _open_here(self) -> ClientLink:
        """A new link, by a way on the network of now; raises `LinkClosed`."""
        while True:
            if self._moved.is_set():
                self._moved.clear()
                self._settled = False
            opening = asyncio.create_task(self._open(), name="imcore opens a link")
            moved = asyncio.create_task(self._moved.wait())
            try:
                await asyncio.wait([opening, moved], return_when=asyncio.FIRST_COMPLETED)
                if opening.done():
                    return opening.result()
            finally:
                opening.cancel()
                moved.cancel()
                await asyncio.wait([opening, moved])
            if not opening.cancelled() and opening.exception() is None:
                return opening.result()

    async def _open(self) -> ClientLink:
        """A new link, welcomed; raises `LinkClosed` if there is no way in now."""
        self._failures.clear()
        try:
            if self._settled and self.good is not None and self._finder.knows(self.good):
                try:
                    return await self._enter(self.good)
                except WayError:
                    self._settled = False
                    self._finder.lost(self.good)
            link = await self._finder.find(self._enter, self._searching)
        except WayError as error:
            self._opened.clear()
            if not self._failures:
                raise LinkClosed(error.code, str(error), 0) from None
            if len(self._failures) == 1:
                raise self._failures[0] from None
            text = "; ".join(failure.text for failure in self._failures)
            raise LinkClosed("timeout", text, max(failure.retry_ms or 0 for failure in self._failures)) from None
        return link

    async def _enter(self, candidate: Candidate) -> ClientLink:
        """Raises `WayError` if another way may be tried, `LinkClosed` if that would be of no use."""
        self._searching(f"connecting to {candidate}")
        self._trying = candidate
        try:
            link = await self._open_one(candidate)
        except LinkClosed as error:
            if error.retry_ms is None and error.code in ADVICE:
                raise
            said = error.text if error.code == "timeout" else str(error)
            self._failures.append(LinkClosed(error.code, f"{candidate}: {said}", error.retry_ms))
            cause = error.__cause__
            outcome = cause.outcome if isinstance(cause, WayError) else error.code.upper()
            raise WayError(outcome, error.text) from None
        await self._found(candidate)
        return link

    async def _found(self, candidate: Candidate) -> None:
        if candidate != self.good or not self._opened.is_set():
            if candidate != self.good:
                self._changed.set()
                self._stirred.set()
            self.good = candidate
            self._opened.set()
            await self._finder.entered(candidate)

    def _searching(self, text: str) -> None:
        if self.link is None and self.state is not State.OPEN:
            self.say(State.CONNECTING, text)

    async def _upward(self) -> None:
        """Whether the way in holds, and whether there is a better one: at once, and then again and again. A spare link
        takes the place of the one in use when it is welcomed; who is asked anew each time anyway goes by it from then
        on."""
        wait = AGAIN_S
        spared: Candidate | None = None
        while True:
            await self._opened.wait()
            self._changed.clear()
            way = self.good
            assert way is not None
            if self._finder.held(way) is None and way != spared and self._finder.slow(way):
                spared = way  # messages first: it is looked at the next time
            else:
                await self._look(way)
            try:
                async with asyncio.timeout(wait * random.uniform(0.5, 1.0)):
                    await self._changed.wait()
            except TimeoutError:
                wait = min(wait * 2, UPWARD_MOST_S)
                self._stirred.clear()
                await self._stirred.wait()
            if self._changed.is_set():
                wait = AGAIN_S

    async def _look(self, way: Candidate) -> None:
        if (holds := self._finder.held(way)) is None:
            holds = await self._finder.holds(way)
        best = await self._finder.better(way, holds=holds)
        if best is not None and self._opened.is_set() and way == self.good:
            await self._move(best)

    async def _move(self, best: Candidate) -> None:
        if self._keeps and not best.point.tunnels:
            self._spare = asyncio.get_running_loop().create_future()
            try:
                await self._open_one(best)
            except LinkClosed:
                self._finder.lost(best)
                return
            finally:
                self._spare.set_result(None)
                self._spare = None
        await self._found(best)

    def _final(self, reason: LinkClosed) -> bool:
        """There is no use in coming back as we are."""
        if reason.retry_ms is not None or reason.code not in ADVICE:
            return False
        if reason.code == "superseded" and self._echoes():
            self._superseded += 1
            return self._superseded > SUPERSEDED_MOST
        if reason.code in ("unauthorized", "expired") and self._renews:
            self._renewals += 1
            return self._renewals > 1
        return True
