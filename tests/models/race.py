"""What a race may do, said again without a schedule: a course of made-up ways, and a judge of what was done.

The course answers each decision after a time of its own, in virtual time. The judge knows no order and no queue: it
reads the trace and the rules, and says which one was broken.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

from imcore.points import Point
from imcore.ways.candidate import Candidate
from imcore.ways.race import LIMIT_S, MOST, OVERDUE_S, PATIENCE_S, ROOM, STAGGER_S, Act, Entry, Race

Fate = Literal["good", "refused", "silent"]


@dataclass(frozen=True)
class Way:
    """A candidate, and what comes of it. joins_s: when its source names it."""

    entry: Entry
    knock: Fate = "good"
    knock_s: float = 0.05
    enter: Fate = "good"
    enter_s: float = 0.05
    joins_s: float = 0.0
    connect_s: float | None = None
    """From its knock to a connection; None = there is none before it has come to something."""


def way(
    machine: int, knock: Fate = "good", knock_s: float = 0.05, *, port: int = 80, level: int = 0, turn: int = 0,
    cost_s: float | None = None, favourite: bool = False, wait_s: float = 0.0, joins_s: float = 0.0,
    enter: Fate = "good", enter_s: float = 0.05, connect_s: float | None = None,
) -> Way:  # fmt: skip
    """A way to the machine 10.0.0.N."""
    candidate = Candidate(Point("tcp", f"10.0.0.{machine}", port))
    return Way(
        Entry(candidate, level, turn, cost_s, favourite, wait_s), knock, knock_s, enter, enter_s, joins_s, connect_s
    )


@dataclass
class Course:
    """A race over ways, run to its end; `trace` is what happened: (time, what, candidate)."""

    ways: list[Way]
    complete_s: float = 0.0
    trace: list[tuple[float, str, Candidate]] = field(default_factory=list)
    ended_s: float = 0.0
    steps: int = 0

    def run(self) -> Candidate | None:
        """The winner."""
        race = Race(0.0)
        fate = {way.entry.candidate: way for way in self.ways}
        order = count()
        events: list[tuple[float, int, str, Candidate | None, int]] = []
        tries: Counter[Candidate] = Counter()

        def at(when: float, what: str, candidate: Candidate | None) -> None:
            heapq.heappush(events, (when, next(order), what, candidate, tries[candidate] if candidate else 0))

        for one in self.ways:
            at(one.joins_s, "join", one.entry.candidate)
        at(max([self.complete_s, *(one.joins_s for one in self.ways)]), "complete", None)
        now = 0.0
        while not race.over:
            while events and events[0][0] <= now:
                _, _, what, candidate, number = heapq.heappop(events)
                if candidate is None:
                    race.complete()
                    continue
                if number != tries[candidate]:
                    continue  # its task was cancelled
                if what != "join":
                    self.trace.append((now, what, candidate))
                if what == "join":
                    race.join([fate[candidate].entry])
                elif what == "connected":
                    race.connected(candidate)
                elif what == "verified":
                    race.verified(candidate, now)
                elif what == "entered":
                    race.entered(candidate)
                else:
                    race.failed(candidate, now)
            for decision in race.step(now):
                one = fate[decision.candidate]
                self.trace.append((now, decision.act.value, decision.candidate))
                if decision.act is Act.DROP:
                    tries[decision.candidate] += 1
                    continue
                knocks = decision.act is Act.KNOCK
                what, takes = (one.knock, one.knock_s) if knocks else (one.enter, one.enter_s)
                if knocks and one.connect_s is not None and (what == "silent" or one.connect_s < takes):
                    at(now + one.connect_s, "connected", decision.candidate)
                if what != "silent":
                    good = "verified" if knocks else "entered"
                    at(now + takes, good if what == "good" else "failed", decision.candidate)
            self.steps += 1
            assert self.steps < 100 + 20 * len(self.ways), "it goes round in circles"
            after = min([race.wake, *(event[0] for event in events[:1])])
            if race.over:
                break
            assert after > now or (events and events[0][0] <= now), "it wants to be woken in the past"
            now = max(after, now)
        self.ended_s = now
        return race.winner

    def times(self, what: str) -> dict[Candidate, float]:
        """When that happened to each candidate."""
        return {candidate: when for when, did, candidate in self.trace if did == what}


def _yields(course: Course, step: int, flying: set[Candidate], began: dict[Candidate, float]) -> bool:
    """Whether this drop makes room for another port and way, and the dropped one waits for a second turn."""
    when, _, candidate = course.trace[step]
    over = any(what == "entered" for _, what, _ in course.trace[:step]) or when >= LIMIT_S
    if over or when - began[candidate] >= OVERDUE_S - 1e-9:
        return False
    assert len(flying) == MOST
    older = any(one.path == candidate.path and began[one] <= began[candidate] for one in flying - {candidate})
    assert when - began[candidate] >= STAGGER_S * (1 if older else ROOM) - 1e-9, "it was given too little time"
    assert any(began[one] <= began[candidate] for one in flying - {candidate}), "the oldest keeps its place"
    return True


def judge(course: Course, winner: Candidate | None) -> None:
    """Raises AssertionError if a rule was broken."""
    ways = {way.entry.candidate: way for way in course.ways}
    assert course.ended_s <= LIMIT_S
    flying: set[Candidate] = set()
    entering: set[Candidate] = set()
    began: dict[Candidate, float] = {}
    verified: set[Candidate] = set()
    tried: set[Candidate] = set()
    troubled: set[Candidate] = set()
    last_start = last_failure = -1.0
    linked: set[Candidate] = set()
    yielded: set[Candidate] = set()
    for step, (when, what, candidate) in enumerate(course.trace):
        if what == "connected":
            linked.add(candidate)
        elif what == "knock":
            assert candidate not in tried, "nobody starts twice"
            assert when >= ways[candidate].joins_s
            overdue = {one for one in flying if when - began[one] >= OVERDUE_S - 1e-9}
            troubles = Counter(one.machine for one in overdue | troubled)
            levels = {one: way.entry.level + troubles[one.machine] // 2 for one, way in ways.items()}
            assert all(levels[one] >= levels[candidate] for one in flying - overdue), "a lower level has the first word"
            entry = ways[candidate].entry
            favourite = entry.favourite and not entry.wait_s
            others = {one.machine for one in flying if began[one] == when}
            together = when == last_start and not favourite and candidate.machine not in others
            in_turn = not flying or last_failure >= last_start or when - last_start >= STAGGER_S - 1e-9
            assert in_turn or together, "a start too early"
            tried.add(candidate)
            flying.add(candidate)
            began[candidate] = last_start = when
        elif what == "verified":
            flying.remove(candidate)
            verified.add(candidate)
            if when - began[candidate] >= OVERDUE_S - 1e-9:
                troubled.add(candidate)
        elif what == "enter":
            assert not entering, "one at a time"
            assert candidate in verified
            entering.add(candidate)
            flying.add(candidate)
            began[candidate] = when
        elif what == "drop" and _yields(course, step, flying, began):
            assert candidate not in linked | yielded | entering
            yielded.add(candidate)
            troubled.add(candidate)
            flying.remove(candidate)
            tried.remove(candidate)
        elif what == "entered":
            assert candidate == winner
            flying.remove(candidate)
            entering.clear()
        else:  # failed, or dropped
            if what == "drop" and winner is None and when < LIMIT_S:
                assert when - began[candidate] >= OVERDUE_S - 1e-9, "it was given too little time"
            flying.discard(candidate)
            entering.discard(candidate)
            troubled.add(candidate)
            last_failure = when
        assert len(flying) <= MOST
        waiting = {one for one, way in ways.items() if way.joins_s < when} - tried
        patient = all(when - began[one] <= PATIENCE_S + 1e-9 for one in flying)
        assert patient or not waiting or when >= LIMIT_S, "it was waited for too long"
    assert not flying, "what was started has an end"
    if winner is None and course.ended_s < LIMIT_S:
        assert tried == set(ways), "nobody is left out"
