"""The race: which way in is tried when, and which one is taken. Sans-I/O: it is told the time, and says what to do.

An attempt has two parts. To *knock* is to reach a point and have it prove who it is: several may knock at once. To
*enter* is HELLO until WELCOME: one at a time, since the gateway takes each newer HELLO of a device for its successor.
The first that is verified enters first; whoever is welcomed has won. The rules:

- Who won here before goes first, and has a stagger's head start. Then by level, by turn, and by what is known of speed.
  Those that nothing tells apart start together: so the fastest of them is found by running, not by luck.
- At most three are in flight; one, as long as another race of the same device may find the way. The next one starts a
  stagger after the last, and at once when one has failed.
- A higher level starts only when all of the lower ones have failed or are overdue.
- Failures are doubts, never bans. A machine that fails twice counts as one level up; a port and way that fails at one
  machine is tried later at the others. What failed before is last. So no candidate is ever left out.
- Who is overdue makes room for one that waits; only the oldest in flight keeps its place, for networks that are slow
  rather than silent. After ten seconds it is over.
- A port that is dropped without a word costs its stagger, not a timeout. A port and way by which two machines refuse,
  or say nothing for a stagger, comes after the others. Who is silent makes room for another port and way, and has a
  second turn: after a stagger if somebody else goes the same way, else after three.
- All of these times are for networks that are not slow. Nobody is silent before five times what connecting took him,
  or, until he is connected, what it took the fastest. If the first connection takes longer than a stagger, it was
  slowness and not silence: who was started out of impatience and has no connection waits again, for as long.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import Enum
from math import inf

import msgspec

from .candidate import Candidate

__all__ = ["Act", "Decision", "Entry", "Race"]

STAGGER_S = 0.25
MOST = 3
LIMIT_S = 10.0
ROOM = 3
"""So many staggers one has a place without an answer, if another port and way waits for it."""
TRIPS = 5
"""Nobody is late within so many times what connecting took: TLS and a proof are four round trips at the most."""
OVERDUE_S = 1.0
"""After so long an answer is not to be counted on, seconds."""
PATIENCE_S = 3.0
"""And after so long it is not waited for, if others wait."""
ALIKE = 1.2
"""Speeds that differ by less than this factor tell nothing."""


class Entry(msgspec.Struct, frozen=True):
    """A candidate with what orders it."""

    candidate: Candidate
    level: int = 0
    turn: int = 0
    cost_s: float | None = None
    """What it took last time from start to verified, seconds; None = not known."""
    favourite: bool = False
    """It won here before."""
    wait_s: float = 0.0
    """It failed a moment ago, and for so long, seconds, others had better be tried: the less, the sooner."""


class Act(Enum):
    """What the race wants done."""

    KNOCK = "knock"
    ENTER = "enter"
    DROP = "drop"
    """End it, whatever it does: it was silent for too long, or the race is over."""


class Decision(msgspec.Struct, frozen=True):
    """Do this, with that one."""

    act: Act
    candidate: Candidate
    late: bool = False
    """Of a drop: it had its time, and did not use it. Else another one has won."""


class _Runner:
    """An entry that was started."""

    __slots__ = ("began", "connect_s", "counted", "doubted", "entry", "took")

    def __init__(self, entry: Entry, now: float) -> None:
        self.entry = entry
        self.began = now  # its knocking, then its entering
        self.took = 0.0
        self.doubted = False  # in what it does now
        self.connect_s: float | None = None  # what connecting took; None = nobody is there yet
        self.counted = False  # and that, or another failure of it, is among the race's doubts


class Race:
    """One race, from `now`. slow: a factor for networks that were too slow for the usual patience.

    After each event, and whenever `wake` has come, `step` says what to do. Times are seconds from any origin.
    """

    def __init__(
        self,
        now: float,
        *,
        stagger_s: float = STAGGER_S,
        most: int = MOST,
        limit_s: float = LIMIT_S,
        slow: float = 1.0,
    ) -> None:
        self._stagger = stagger_s
        self._most = most
        self._began = now
        self._end = now + limit_s
        self._overdue = OVERDUE_S * slow
        self._patience = PATIENCE_S * slow
        self._known: dict[Candidate, int] = {}  # and when it joined: 0, 1, 2 …
        self._favoured: Candidate | None = None  # by another race, before it joined this one
        self._waiting: list[Entry] = []
        self._knocking: dict[Candidate, _Runner] = {}
        self._ready: dict[Candidate, _Runner] = {}  # verified, in the order in which they were
        self._entering: _Runner | None = None
        self._doubts: Counter[str] = Counter()
        self._mute: dict[str, set[str]] = {}  # by port and way: machines that refused, or were silent
        self._passing: set[str] = set()  # ports and ways by which somebody was verified
        self._trip = inf  # what connecting took the fastest
        self._hasty = inf  # who was started after this was started out of impatience
        self._yielded: set[Candidate] = set()
        self._now = now  # of the last step
        self._next_at = now  # when the next one may start
        self._start_at = now  # when to see about it
        self._complete = False
        self.winner: Candidate | None = None
        self.over = False
        """Nothing more will be decided."""

    # What happens.

    def join(self, entries: Iterable[Entry]) -> None:
        """More candidates; who is known already stays as it is."""
        for entry in entries:
            if entry.candidate not in self._known and not self.over:
                self._known[entry.candidate] = len(self._known)
                self._waiting.append(entry)
                if entry.candidate == self._favoured:
                    self.favour(entry.candidate, self._now)

    def complete(self) -> None:
        """No more will join."""
        self._complete = True

    def connected(self, candidate: Candidate, connect_s: float) -> None:
        """There is a connection, so many seconds after its start. Nothing, if it was dropped meanwhile; the same holds
        for the next three."""
        runner = self._knocking.get(candidate)
        if runner is not None and runner.connect_s is None:
            runner.connect_s = connect_s
            if self._trip == inf and connect_s > self._stagger:
                self._hasty = runner.began
                self._next_at = max(self._next_at, runner.began + TRIPS * connect_s)
            self._trip = min(self._trip, connect_s)

    def verified(self, candidate: Candidate, now: float) -> None:
        """It has proven who it is."""
        runner = self._knocking.pop(candidate, None)
        if runner is not None:
            runner.took = now - runner.began
            self._passing.add(candidate.path)
            self._ready[candidate] = runner

    def entered(self, candidate: Candidate) -> None:
        """It was welcomed."""
        if self._entering is not None and self._entering.entry.candidate == candidate:
            self._entering = None
            self.winner = candidate

    def failed(self, candidate: Candidate, now: float, *, alone: bool = False) -> None:
        """It did not knock, or not enter. alone: for a reason that says nothing of others."""
        runner = self._knocking.pop(candidate, None)
        if runner is None and self._entering is not None and self._entering.entry.candidate == candidate:
            runner, self._entering = self._entering, None
        if runner is not None and not self.over:
            if not (runner.connect_s is not None or runner.took or alone):
                self._mute.setdefault(candidate.path, set()).add(candidate.machine)
            runner.counted = runner.counted or alone
            self._doubt(runner)
            self._next_at = now

    def favour(self, candidate: Candidate | None, now: float) -> None:
        """Another race of this device has seen this one prove itself: if it waits here, it is next, and as many as
        usual are in flight from here on; if it is not known yet, the same holds when it joins. If it knocks here
        already, it needs nobody beside it. None: that race is over, and as many as usual are in flight."""
        if candidate is None:
            self._most = MOST
        elif candidate not in self._known:
            self._favoured = candidate
        for place, entry in enumerate(self._waiting):
            if entry.candidate == candidate:
                self._waiting[place] = msgspec.structs.replace(entry, favourite=True, wait_s=0.0)
                self._next_at = now
                self._most = MOST

    # What to do about it.

    def step(self, now: float) -> list[Decision]:
        """What to do now, in this order."""
        if self.over:
            return []
        if self.winner is not None or now >= self._end:
            return self._finish(late=self.winner is None)
        self._now = now
        self._listen(now)
        done = self._call_back()
        done += self._give_up(now)
        done += self._enter(now)
        done += self._start(now)
        if self._complete and not (self._waiting or self._knocking or self._ready or self._entering):
            self.over = True
        return done

    @property
    def wake(self) -> float:
        """When `step` has something to say again, if nothing happens before: a time, or inf when the race is over."""
        if self.over:
            return inf
        times = [self._end, self._start_at]
        for runner in self._flying:
            times.append(self._deadline(runner))
            if not runner.doubted:
                times.append(self._overdue_at(runner))
        if self._waiting:
            knocking = self._knocking.values()
            times += [runner.began + self._room(runner, count) for runner in knocking for count in (1, ROOM)]
        return min(time for time in times if time > self._now)

    def _listen(self, now: float) -> None:
        """Who should have said something by now?"""
        for candidate, runner in self._knocking.items():
            if now >= runner.began + self._room(runner, 1):
                self._mute.setdefault(candidate.path, set()).add(candidate.machine)

    def _call_back(self) -> list[Decision]:
        """Who was started only because a slow network seemed to be silent."""
        unconnected = [one for one in self._knocking.values() if one.connect_s is None and not one.doubted]
        hasty = [one for one in unconnected if one.began > self._hasty]
        self._hasty = inf
        for one in hasty:
            del self._knocking[one.entry.candidate]
            self._waiting.append(one.entry)
        return [Decision(Act.DROP, one.entry.candidate) for one in hasty]

    def _give_up(self, now: float) -> list[Decision]:
        for runner in self._flying:
            if now >= self._overdue_at(runner):
                self._doubt(runner)
        late = [runner for runner in self._flying if now >= self._deadline(runner)]
        for runner in late:
            self.failed(runner.entry.candidate, now)
        return [Decision(Act.DROP, runner.entry.candidate, late=True) for runner in late]

    def _enter(self, now: float) -> list[Decision]:
        if self._entering is not None or not self._ready:
            return []
        candidate = next(iter(self._ready))
        runner = self._entering = self._ready.pop(candidate)
        runner.began, runner.doubted = now, False
        return [Decision(Act.ENTER, candidate)]

    def _start(self, now: float) -> list[Decision]:
        done: list[Decision] = []
        self._start_at = inf
        while self._waiting and not self._ready:
            best = min(self._waiting, key=self._order)
            held = [runner for runner in self._flying if not runner.doubted]
            if any(self._level(runner.entry) < self._level(best) for runner in held):
                break  # until they fail or are overdue
            if now < self._next_at and self._flying and not self._together(best, now):
                self._start_at = self._next_at
                break
            if len(self._flying) >= self._most:
                dropped = self._make_room(best, now)
                if dropped is None:
                    break
                done.append(dropped)
                continue  # who is best may be another one now
            self._waiting.remove(best)
            runner = self._knocking[best.candidate] = _Runner(best, now)
            runner.counted = best.candidate in self._yielded
            self._next_at = now + self._stagger
            done.append(Decision(Act.KNOCK, best.candidate))
        return done

    def _make_room(self, best: Entry, now: float) -> Decision | None:
        """For this one; None if nobody has to."""
        oldest = min(self._flying, key=lambda runner: runner.began)
        others = [one for one in self._knocking.values() if one is not oldest]
        late = next((one for one in others if one.doubted), None)
        if late is not None:
            self.failed(late.entry.candidate, now)
            return Decision(Act.DROP, late.entry.candidate, late=True)
        if self._is_mute(best):
            return None
        for one in others:
            candidate = one.entry.candidate
            before = [each for each in self._flying if each is not one and each.began <= one.began]
            behind = any(each.entry.candidate.path == candidate.path for each in before)
            if (
                now >= one.began + self._room(one, 1 if behind else ROOM)
                and candidate.path != best.candidate.path
                and candidate not in self._yielded
            ):
                self._yielded.add(candidate)
                self._doubt(one)
                del self._knocking[candidate]
                self._waiting.append(one.entry)
                return Decision(Act.DROP, candidate)
        return None

    def _room(self, runner: _Runner, staggers: int) -> float:
        """How long after its start it may have to make room for another port and way."""
        return max(staggers * self._stagger, self._slowness(runner))

    def _slowness(self, runner: _Runner) -> float:
        """How long an answer may take here, as far as connecting has shown."""
        trip = self._trip if runner.connect_s is None else runner.connect_s
        return TRIPS * trip if trip < inf else 0.0

    def _overdue_at(self, runner: _Runner) -> float:
        return runner.began + max(self._overdue, self._slowness(runner))

    def _is_mute(self, entry: Entry) -> bool:
        """Its port and way is one by which nobody is reached, as it seems."""
        candidate = entry.candidate
        mute = self._mute.get(candidate.path, ())
        reached = candidate.path in self._passing or not mute
        return not reached and (len(mute) > 1 or self._drops or candidate.machine in mute)

    @property
    def _drops(self) -> bool:
        """This network drops ports: one machine's silence is enough to doubt the next one."""
        return any(len(machines) > 1 for path, machines in self._mute.items() if path not in self._passing)

    def _finish(self, *, late: bool) -> list[Decision]:
        self.over = True
        running = [*self._knocking, *self._ready]
        if self._entering is not None:
            running.append(self._entering.entry.candidate)
        self._waiting.clear()
        self._knocking.clear()
        self._ready.clear()
        self._entering = None
        return [Decision(Act.DROP, candidate, late) for candidate in running]

    # Who comes before whom.

    @property
    def _flying(self) -> list[_Runner]:
        return [*self._knocking.values(), *([self._entering] if self._entering is not None else [])]

    def _order(self, entry: Entry) -> tuple[bool, float, int, bool, int, float, int]:
        turn = entry.turn + self._doubts[entry.candidate.path]
        cost = inf if entry.cost_s is None else entry.cost_s
        favourite = entry.favourite and not entry.wait_s
        known = self._known[entry.candidate]
        return (not favourite, entry.wait_s, self._level(entry), self._is_mute(entry), turn, cost, known)

    def _level(self, entry: Entry) -> int:
        return entry.level + self._doubts[entry.candidate.machine] // 2

    def _together(self, entry: Entry, now: float) -> bool:
        """Some were started just now, and nothing tells this one from them."""
        mine = self._order(entry)
        others = [runner.entry for runner in self._knocking.values() if runner.began == now]
        return bool(others) and all(self._alike(mine, entry, other) for other in others)

    def _alike(self, mine: tuple[bool, float, int, bool, int, float, int], entry: Entry, other: Entry) -> bool:
        theirs = self._order(other)
        less, more = sorted((mine[5], theirs[5]))
        close = less == more or more <= less * ALIKE
        apart = entry.candidate.machine != other.candidate.machine
        return apart and close and not self._drops and mine[0] and mine[:5] == theirs[:5]

    def _doubt(self, runner: _Runner) -> None:
        runner.doubted = True
        if not runner.counted:
            runner.counted = True
            self._doubts[runner.entry.candidate.machine] += 1
            self._doubts[runner.entry.candidate.path] += 1

    def _deadline(self, runner: _Runner) -> float:
        """Until when it has time: to the end, if nobody else could use it. Who proved itself quickly is expected to
        answer quickly, where others are ready to take its place."""
        patience = max(self._patience, 2 * self._slowness(runner))
        if runner is self._entering and self._ready:
            quick = max(self._overdue, self._slowness(runner), TRIPS * runner.took)
            return runner.began + min(quick, patience)
        return runner.began + patience if self._waiting else self._end
