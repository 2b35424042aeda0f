"""Finding a way in: asks the sources, races what they name, enters by the winner, and looks for better ways behind it.

One finder for each direction: up and down have their own lists, races and winners. It says nothing of HELLO and tokens;
how to enter is given to it, and it is done only where a gateway has proven itself.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ..access_list import BackOff, Direction, Measured, Report
from ..errors import WayError
from .ahead import Ahead
from .candidate import Candidate, Listed
from .dial import Connect
from .fetch import Progress
from .memory import Memory
from .network import Network
from .outcomes import Outcome
from .probe import fill, probe, still
from .proofs import Proofs
from .race import MOST, PATIENCE_S, Race
from .search import Attempt, Search
from .sources import Heard, Sources
from .still import MOST_S

__all__ = ["Finder"]

Way = TypeVar("Way")

SLOW_MOST = 4.0
"""How much more patient a race may become, on networks where all of them found nobody."""
BETTER_S, BETTER_BY = 0.010, 1.1
"""What is not faster by so many seconds, and by this factor, is not worth a change."""
PORTAL_S = 2.0
"""About how often a portal is asked whether it still stands there, seconds: by one connection, and not by a race."""
SLOW_S = 1.0
"""What took so long to prove itself is slow, seconds."""
FROZEN_S = 5.0
"""How long the fill may make no progress at all, seconds."""
FILL_S = 60.0
"""How long it may take in all, seconds: what still comes then is slow, and not frozen."""
BAD_S = 3600.0
"""For so long a way by which too little came through is not looked at again, seconds: it may have been by chance."""
REPORT_MOST = 64

_WORST = (9, 9)


class Finder:
    """role: what the way is for. keys: that gateways prove themselves with; none = WELCOME is proof enough, and points
    are entered in turn. through: what makes connections for a candidate. ahead: what begins another one meanwhile,
    where going in takes that. network: which one the device is on. device: whose reports these are."""

    def __init__(
        self,
        role: Direction,
        sources: Sources,
        memory: Memory,
        keys: tuple[Ed25519PublicKey, ...],
        *,
        through: Callable[[Candidate], Connect],
        network: Callable[[], Network],
        device: str,
        tls: ssl.SSLContext | None = None,
        fits: Callable[[Candidate], bool] = lambda candidate: True,
        ahead: Ahead | None = None,
    ) -> None:
        self._role: Direction = role
        self._sources = sources
        self._memory = memory
        self._keys = keys
        self._through = through
        self._network = network
        self._device = device
        self._tls = tls
        self._fits = fits
        self._ahead = ahead
        self._listed: dict[Candidate, Listed] = {}
        self._gathering: asyncio.Task[None] | None = None
        self._gathered = ""  # the place where it was begun
        self._search: Search[Any] | None = None  # whatever its way in is: nobody asks this one for it
        self._other: Finder | None = None
        self._proofs = Proofs(self._where, ahead.drop if ahead is not None else lambda: None)
        self._slow = 1.0
        self._portal: Candidate | None = None
        self._sending: set[asyncio.Task[None]] = set()
        self.heard: list[Heard] = []
        """What the sources said last."""

    def beside(self, other: Finder) -> None:
        """The other one finds ways for the same device: while both search, one of them does so more quietly, and each
        tells the other one who has proven himself first; a proof to one of them is one to both."""
        self._other, other._other = other, self
        other._proofs = self._proofs

    def _where(self) -> object:
        """The network of now, and how often the device has come to it."""
        return str(self._network()), self._memory.journeys

    def _favour(self, candidate: Candidate | None) -> None:
        if self._other is not None and self._other._search is not None:
            self._other._search.favour(candidate)

    async def find(self, enter: Callable[[Candidate], Awaitable[Way]], say: Callable[[str], None]) -> Way:
        """A way in, within ten seconds. enter: goes in; raises `WayError` where another one may be tried, anything else
        ends the search. say: told where it stands, in words. Raises `WayError` that says what all of them met."""
        place = str(self._network())
        self._memory.network(place)
        await self._stop_gathering(unless=place)
        self._portal = None
        attempts: list[Attempt] = []

        def tell(attempt: Attempt) -> None:
            attempts.append(attempt)
            self._learn(attempt)
            proven = [one.candidate for one in attempts if one.outcome == Outcome.OK.name]
            if len(proven) == 1:
                self._favour(proven[0])

        async def go_in(candidate: Candidate) -> Way:
            await self._knock(candidate, Progress())  # nothing, unless the network is another one since it knocked
            return await enter(candidate)

        now = asyncio.get_running_loop().time()
        most = 1 if self._other is not None and self._other._search is not None else MOST
        through = self._through if self._ahead is None else self._ahead.knocking
        knock = partial(self._knock, through=through)
        search: Search[Way] = Search(Race(now, slow=self._slow, most=most), knock, go_in, tell)
        self._search = search
        self._begin_gathering()
        try:
            if self._keys:  # else there is nothing to look for: it is entered
                say("looking for a way in")
            way = await search.run()
        finally:
            self._search = None
            self._favour(None)
            self._send_report(attempts)
        if self._gathering is not None and self._gathering.done():
            self._gathering.result()
        portals = [one.candidate for one in attempts if one.outcome == Outcome.PORTAL.name]
        self._portal = portals[0] if portals and way is None and self._keys else None
        if way is None:
            self._slow = min(self._slow * 2, SLOW_MOST)
            await self._memory.save()
            raise self._nowhere(attempts)
        self._slow = 1.0
        return way

    async def entered(self, candidate: Candidate) -> None:
        """The way in is by this one now."""
        self._memory.won(self._role, candidate)
        await self._memory.save()

    async def opens(self) -> None:
        """Returns when the portal that the last search met lets others pass; never, if it met none."""
        portal = self._portal
        while portal is not None:
            await asyncio.sleep(PORTAL_S * random.uniform(0.75, 1.25))
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await self._knock(portal, Progress())
            except WayError as error:
                if error.outcome == Outcome.PORTAL.name:
                    continue
            except TimeoutError:
                pass
            return
        await asyncio.get_running_loop().create_future()

    def lost(self, candidate: Candidate) -> None:
        """It was the way in, and it did not hold."""
        self._proofs.lost(candidate)
        self._memory.failed(candidate)

    async def better(self, current: Candidate, *, holds: bool = True) -> Candidate | None:
        """The best that has proven itself and is better than this one, which is in use: less loaded, by a better way,
        or faster; None if there is none now. Where nothing is known yet, it is measured. holds: False = anything is
        better that does not lead there like one by which too little comes through."""
        if not self._keys:
            return None
        if self._sources.stale:
            self._begin_gathering()
        if self._gathering is not None:
            await asyncio.wait([self._gathering])
        mine, mine_s = self._rank(current), self._memory.cost_s(current)
        if not holds:
            mine, mine_s = _WORST, None
        held = self._proofs.held()
        bad = {one.path for one, good in held.items() if not good}
        rivals = [
            one
            for one in self._listed
            if one != current and not self._memory.wait_s(one) and held.get(one, holds or one.path not in bad)
        ]
        above = [one for one in rivals if self._rank(one) < mine]
        beside = [one for one in rivals if self._rank(one) == mine and self._memory.cost_s(one) is None]
        gate = asyncio.Semaphore(MOST)
        attempts: list[Attempt] = []

        async def measure(candidate: Candidate, patience_s: float) -> None:
            async with gate:
                progress = Progress()
                failure: WayError | None = None
                try:
                    async with asyncio.timeout(patience_s):
                        await self._knock(candidate, progress)
                except TimeoutError:
                    if patience_s < PATIENCE_S:
                        return  # it is only slower than what we have
                    failure = progress.late
                except WayError as error:
                    failure = error
                attempts.append(_attempt(candidate, progress, failure))
                self._learn(attempts[-1])

        try:
            async with asyncio.TaskGroup() as group:
                for one in above:
                    group.create_task(measure(one, PATIENCE_S))
                for one in beside:
                    group.create_task(measure(one, min(mine_s or PATIENCE_S, PATIENCE_S)))
        finally:
            self._send_report(attempts)
        proven = self._proofs.here()
        good = [one.candidate for one in attempts if one.candidate in proven]
        best = min(good, key=lambda one: (self._rank(one), self._memory.cost_s(one) or 0.0), default=None)
        await self._memory.save()
        if best is None or self._rank(best) < mine or mine_s is None:
            return best
        cost_s = self._memory.cost_s(best) or 0.0
        return best if cost_s < min(mine_s - BETTER_S, mine_s / BETTER_BY) else None

    def knows(self, candidate: Candidate) -> bool:
        """It has proven itself on the network of now, so that it may be used without another search; without keys
        nobody has to."""
        return not self._keys or candidate in self._proofs.here()

    def slow(self, candidate: Candidate) -> bool:
        """It took so long to prove itself that whatever moves beside messages stands in their way."""
        return (self._memory.cost_s(candidate) or 0.0) >= SLOW_S

    def held(self, candidate: Candidate) -> bool | None:
        """What `holds` found out on this network; None = it was not asked."""
        return self._proofs.held().get(candidate) if self._keys else True

    async def holds(self, candidate: Candidate) -> bool:
        """Many bytes come through from there. It is looked at once on each network; if not, that is reported, and holds
        for an hour."""
        if not self._keys:
            return True
        async with self._proofs.looking:
            held = self._proofs.held()
            if candidate not in held:
                held[candidate] = await self._is_filled(candidate)
                if not held[candidate]:
                    asyncio.get_running_loop().call_later(BAD_S, held.pop, candidate, None)
            return held[candidate]

    async def _is_filled(self, candidate: Candidate) -> bool:
        progress = Progress()
        work = asyncio.create_task(
            fill(candidate.point, self._keys, progress, through=self._through(candidate), tls=self._tls)
        )
        failure: WayError | None = None
        try:
            received = -1
            while not work.done() and progress.received != received and progress.elapsed() < FILL_S:
                received = progress.received
                await asyncio.wait([work], timeout=FROZEN_S)
            if progress.received == received:
                failure = progress.late
        finally:
            work.cancel()
            await asyncio.wait([work])
        if not work.cancelled():
            error = work.exception()
            failure = error if isinstance(error, WayError) else None
        if failure is None or not progress.received:
            return True
        attempt = _attempt(candidate, progress, failure)
        self._learn(attempt)
        self._send_report([attempt])
        return False

    async def still(self, candidate: Candidate, seconds: float) -> tuple[bool | None, float]:
        """Whether the network brings the gateway's word after a silence; see `probe.still`."""
        return await still(candidate.point, seconds, through=self._through(candidate), tls=self._tls)

    @property
    def still_s(self) -> float:
        """A silence that holds on most networks of this carrier, as the access service says; 0 = it was not heard."""
        return self._sources.still_s

    @property
    def back_off(self) -> BackOff | None:
        """How to come back after a failure, as the access service advises; None = it was not heard."""
        return self._sources.back_off

    async def close(self) -> None:
        """End what runs in the background."""
        left = [task for task in (self._gathering, *self._sending) if task is not None]
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
        await self._sources.close()
        await self._memory.save()

    # The parts of a search.

    def _begin_gathering(self) -> None:
        """Ask the sources, unless that is still under way; what is known joins the search."""
        if self._gathering is None or self._gathering.done():
            self._listed.clear()
            self.heard = []
            self._gathered = self._memory.place
            self._gathering = asyncio.create_task(self._gather(), name="imcore asks for ways in")
        elif self._search is not None:
            self._join(list(self._listed.values()))

    async def _stop_gathering(self, unless: str) -> None:
        """What was asked on another network is waited for no more: its answers are none for this one."""
        if self._gathering is not None and self._gathered != unless:
            self._gathering.cancel()
            await asyncio.wait([self._gathering])
            await self._sources.close()

    async def _gather(self) -> None:
        try:
            await self._sources.gather(self._role, self._hear, anew=self._slow > 1)
        finally:
            if self._search is not None:
                self._search.complete()

    def _hear(self, heard: Heard) -> None:
        self.heard.append(heard)
        fresh = [one for one in heard.listed if self._fits(one.candidate)]
        for one in fresh:
            known = self._listed.get(one.candidate)
            if known is None or (one.name and not known.name):
                self._listed[one.candidate] = one
        self._join(fresh)

    def _join(self, listed: list[Listed]) -> None:
        if self._search is not None:
            self._search.join(self._memory.entries(self._role, listed))

    async def _knock(
        self, candidate: Candidate, progress: Progress, through: Callable[[Candidate], Connect] | None = None
    ) -> None:
        if not self._keys:
            return
        proven = self._proofs.here()
        if self._proofs.holds(candidate):
            return
        through = through or self._through
        await probe(candidate.point, self._keys, progress, through=through(candidate), tls=self._tls)
        proven[candidate] = asyncio.get_running_loop().time()

    def _learn(self, attempt: Attempt) -> None:
        if attempt.outcome != Outcome.OK.name:
            self.lost(attempt.candidate)
        elif attempt.whole_s is not None:
            self._memory.took(attempt.candidate, attempt.whole_s)

    def _rank(self, candidate: Candidate) -> tuple[int, int]:
        """The lower, the better: how loaded, and how direct."""
        listed = self._listed.get(candidate)
        return (listed.level if listed is not None else 0, 2 * bool(candidate.proxy) + candidate.point.tunnels)

    def _nowhere(self, attempts: Sequence[Attempt]) -> WayError:
        failed = [one for one in attempts if one.outcome != Outcome.OK.name]
        if len(failed) == 1:
            return WayError(failed[0].outcome, f"{failed[0].candidate}: {failed[0].text}")
        silent = {one.source: one.outcome for one in self.heard if one.outcome != Outcome.OK.name}
        unheard = [f"{source}: {outcome}" for source, outcome in silent.items()]
        if not failed:
            outcome = silent.popitem()[1] if len(set(silent.values())) == 1 else Outcome.NO_NAME.name
            return WayError(outcome, "; ".join(["no access point is known", *unheard]))
        counts = Counter(one.outcome for one in failed)
        text = ", ".join(f"{count} {name}" for name, count in counts.most_common())
        return WayError(counts.most_common(1)[0][0], "; ".join([f"{len(failed)} ways were tried: {text}", *unheard]))

    def _send_report(self, attempts: Sequence[Attempt]) -> None:
        """What was measured of points that the access service knows by name, directly."""
        measured = [
            _measured(self._listed[one.candidate].name, one)
            for one in attempts
            if one.candidate in self._listed and self._listed[one.candidate].name and not one.candidate.proxy
        ]
        if measured:
            still = self._memory.still("")
            still_s = int(min(still.holds_s, MOST_S)) if still.settled(MOST_S) else 0
            report = Report(self._device, self._role, measured[:REPORT_MOST], still_s)
            task = asyncio.create_task(self._sources.report(report), name="imcore reports")
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)


def _attempt(candidate: Candidate, progress: Progress, error: WayError | None) -> Attempt:
    outcome, text = (Outcome.OK.name, Outcome.OK.value) if error is None else (error.outcome, error.text)
    return Attempt(candidate, outcome, text, progress.connect_s, progress.first_s, progress.whole_s)


def _measured(name: str, attempt: Attempt) -> Measured:
    point = attempt.candidate.point
    times = (attempt.connect_s, attempt.first_s, attempt.whole_s)
    connect_ms, first_ms, whole_ms = (None if one is None else round(one * 1000) for one in times)
    return Measured(name, point.port, point.scheme, attempt.outcome, connect_ms, first_ms, whole_ms)
