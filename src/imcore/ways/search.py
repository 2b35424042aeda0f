"""A race with real attempts: runs what the race decides, tells it what came of it, and leaves nothing running behind.

It knows neither probe nor HELLO: how to knock and how to enter is given to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Generic, TypeVar

import msgspec

from ..errors import WayError
from .candidate import Candidate
from .fetch import Progress
from .outcomes import Outcome
from .race import STAGGER_S, TRIPS, Act, Decision, Entry, Race

__all__ = ["Attempt", "Search"]

Way = TypeVar("Way")


class Attempt(msgspec.Struct, frozen=True):
    """What one knock came to; times in seconds from its start, None = it did not come to that."""

    candidate: Candidate
    outcome: str
    """`OK`, or the name of what was met."""
    text: str
    connect_s: float | None = None
    first_s: float | None = None
    whole_s: float | None = None
    entered: bool = False
    """It was verified, and then let us in, or not."""


class Search(Generic[Way]):
    """One race. knock: proves who is there; raises `WayError`. enter: the way in itself; raises `WayError` for another
    try elsewhere, anything else ends the search. tell: each attempt, when it has ended; one that was called off, since
    another one had won, tells nothing."""

    def __init__(
        self,
        race: Race,
        knock: Callable[[Candidate, Progress], Awaitable[object]],
        enter: Callable[[Candidate], Awaitable[Way]],
        tell: Callable[[Attempt], None],
    ) -> None:
        self._race = race
        self._knock = knock
        self._enter = enter
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._moved = asyncio.Event()
        self._tasks: dict[Candidate, asyncio.Task[None]] = {}
        self._left: set[asyncio.Task[None]] = set()
        self._progress: dict[Candidate, Progress] = {}
        self._asked: Candidate | None = None  # the only one, on a slow network
        self._next = asyncio.Event()  # it is another one's turn
        self._verified: set[Candidate] = set()
        self._way: list[Way] = []
        self._failure: BaseException | None = None

    def join(self, entries: Iterable[Entry]) -> None:
        """More candidates; also while it runs."""
        self._race.join(entries)
        self._moved.set()

    def complete(self) -> None:
        """No more will join."""
        self._race.complete()
        self._moved.set()

    def favour(self, candidate: Candidate | None) -> None:
        """Another search of this device has seen this one prove itself, and a proof to one is one to both: who is asked
        for it here, too, need not answer, and that is no attempt to tell of. None: that search is over."""
        self._race.favour(candidate, self._loop.time())
        if candidate is not None and candidate in self._tasks and candidate not in self._verified:
            self._call_off(candidate)
            self._proved(candidate)
        self._moved.set()

    async def run(self) -> Way | None:
        """The way in; None if there is none now."""
        try:
            while not self._race.over and self._failure is None:
                self._moved.clear()
                for candidate in self._progress:
                    self._look(candidate)
                for decision in self._race.step(self._loop.time()):
                    self._do(decision)
                if not self._race.over:
                    await self._wait(self._race.wake)
        finally:
            await self._end()
        if self._failure is not None:
            raise self._failure
        return self._way[0] if self._way else None

    async def _wait(self, until: float) -> None:
        try:
            async with asyncio.timeout_at(until):
                await self._moved.wait()
        except TimeoutError:
            pass

    async def _end(self) -> None:
        left = [*self._left, *self._tasks.values()]
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)

    def _do(self, decision: Decision) -> None:
        candidate = decision.candidate
        if decision.act is Act.DROP:
            self._call_off(candidate)
            self._pass_on(candidate)
            if decision.late:
                self._ended(candidate, self._progress[candidate].late, entered=candidate in self._verified)
            return
        if decision.act is Act.KNOCK:
            self._progress[candidate] = Progress(partial(self._turn, candidate))
            work = self._knocked(candidate)
        else:
            work = self._entered(candidate)
        self._tasks[candidate] = self._loop.create_task(work, name=f"imcore {decision.act.value} {candidate}")

    async def _turn(self, candidate: Candidate) -> None:
        """Where connecting is slow one is asked at a time, since what others answer comes before its own; the next one
        when it has failed, or owes its proof for longer than an answer takes here."""
        connect_s = self._progress[candidate].connect_s or 0.0
        if connect_s <= STAGGER_S:
            return
        while self._asked not in (None, candidate):
            try:
                async with asyncio.timeout(TRIPS * connect_s):
                    await self._next.wait()
            except TimeoutError:
                if self._asked not in self._verified:
                    return
        self._asked = candidate

    def _pass_on(self, candidate: Candidate) -> None:
        if self._asked == candidate:
            self._asked = None
            self._next.set()
            self._next = asyncio.Event()

    def _call_off(self, candidate: Candidate) -> None:
        task = self._tasks.pop(candidate, None)
        if task is not None:
            task.cancel()
            self._left.add(task)
            task.add_done_callback(self._left.discard)

    def _proved(self, candidate: Candidate) -> None:
        self._verified.add(candidate)
        self._race.verified(candidate, self._loop.time())

    async def _knocked(self, candidate: Candidate) -> None:
        try:
            await self._knock(candidate, self._progress[candidate])
        except WayError as error:
            self._failed(candidate, error)
        except Exception as error:
            self._broken(error)
        else:
            self._proved(candidate)
            self._moved.set()  # before others are told of it
            self._ended(candidate, None, entered=False)
        self._moved.set()

    async def _entered(self, candidate: Candidate) -> None:
        try:
            way = await self._enter(candidate)
        except WayError as error:
            self._failed(candidate, error, entered=True)
        except Exception as error:
            self._broken(error)
        else:
            self._way.append(way)
            self._race.entered(candidate)
        self._moved.set()

    def _failed(self, candidate: Candidate, error: WayError, *, entered: bool = False) -> None:
        self._ended(candidate, error, entered=entered)
        self._pass_on(candidate)
        self._look(candidate)
        self._race.failed(candidate, self._loop.time(), alone=error.outcome == Outcome.TLS_NAME.name)

    def _look(self, candidate: Candidate) -> None:
        connect_s = self._progress[candidate].connect_s
        if connect_s is not None:
            self._race.connected(candidate, connect_s)

    def _broken(self, error: Exception) -> None:
        if self._failure is None:
            self._failure = error

    def _ended(self, candidate: Candidate, error: WayError | None, *, entered: bool) -> None:
        progress = self._progress[candidate]
        outcome, text = (Outcome.OK.name, Outcome.OK.value) if error is None else (error.outcome, error.text)
        times = (progress.connect_s, progress.first_s, progress.whole_s)
        self._tell(Attempt(candidate, outcome, text, *times, entered=entered))
