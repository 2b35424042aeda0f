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
from imcore.ways.race import LIMIT_S, MOST, OVERDUE_S, PATIENCE_S, ROOM, STAGGER_S, TRIPS, Act, Entry, Race

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
    """A race over ways, run to its end; `trace` is what happened: (time, what, candidate). most: that are in flight
    before another race of the device, if there is one beside it, has somebody to recommend. favours: when that race
    tells of whom (None: it is over)."""

    ways: list[Way]
    complete_s: float = 0.0
    most: int = MOST
    favours: list[tuple[float, Candidate | None]] = field(default_factory=list)
    trace: list[tuple[float, str, Candidate]] = field(default_factory=list)
    ended_s: float = 0.0
    steps: int = 0

    def run(self) -> Candidate | None:
        """The winner."""
        race = Race(0.0, most=self.most)
        fate = {way.entry.candidate: way for way in self.ways}
        order = count()
        events: list[tuple[float, int, str, Candidate | None, int]] = []
        tries: Counter[Candidate] = Counter()

        def at(when: float, what: str, candidate: Candidate | None) -> None:
            heapq.heappush(events, (when, next(order), what, candidate, tries[candidate] if candidate else 0))

        for one in self.ways:
            at(one.joins_s, "join", one.entry.candidate)
        for favoured_s, whom in self.favours:
            heapq.heappush(events, (favoured_s, next(order), "favoured", whom, 0))
        at(max([self.complete_s, *(one.joins_s for one in self.ways)]), "complete", None)
        now = 0.0
        while not race.over:
            while events and events[0][0] <= now:
                _, _, what, candidate, number = heapq.heappop(events)
                if what == "favoured":
                    race.favour(candidate, now)
                    continue
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
                    race.connected(candidate, fate[candidate].connect_s or 0.0)
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


@dataclass
class Judge:
    """What is known of a course so far, and what may be done next."""

    course: Course
    flying: set[Candidate] = field(default_factory=set)
    entering: set[Candidate] = field(default_factory=set)
    began: dict[Candidate, float] = field(default_factory=dict)
    verified: set[Candidate] = field(default_factory=set)
    tried: set[Candidate] = field(default_factory=set)
    troubled: set[Candidate] = field(default_factory=set)
    overdue: set[Candidate] = field(default_factory=set)
    linked: dict[Candidate, float] = field(default_factory=dict)
    trip: float = 0.0
    """What connecting took the fastest; 0 = nobody was connected yet."""
    most: int = MOST
    favoured: Candidate | None = None
    """Another race has recommended it while it waited, at the time `favoured_s`."""
    favoured_s: float = -1.0
    told: list[tuple[float, Candidate | None]] = field(default_factory=list)
    """What it has yet to hear."""

    def slowness(self, one: Candidate) -> float:
        """How long an answer of this one may take here."""
        return TRIPS * self.linked.get(one, self.trip)

    def hear(self, when: float, ways: dict[Candidate, Way]) -> None:
        """What has the race beside this one told by now? It matters from when the candidate is known, if that waits."""
        for favoured_s, one in list(self.told):
            known_s = favoured_s if one is None else max(favoured_s, ways[one].joins_s)
            if known_s > when:
                continue
            self.told.remove((favoured_s, one))
            if one not in self.tried:
                self.most = MOST
                if one is not None:
                    self.favoured, self.favoured_s = one, known_s

    def look(self, when: float, *, decides: bool) -> None:
        """Who is overdue by now? A race that decides has looked at it; what happens before that comes before."""
        for one in self.flying:
            late = when - self.began[one] - max(OVERDUE_S, self.slowness(one))
            if late > (-1e-9 if decides else 1e-9):
                self.overdue.add(one)

    def yields(self, step: int) -> bool:
        """Whether this drop makes room for another port and way, and the dropped one waits for a second turn."""
        when, _, candidate = self.course.trace[step]
        over = any(what == "entered" for _, what, _ in self.course.trace[:step]) or when >= LIMIT_S
        if over or candidate in self.overdue:
            return False
        assert len(self.flying) == self.most
        rest = self.flying - {candidate}
        older = any(one.path == candidate.path and self.began[one] <= self.began[candidate] for one in rest)
        room = max(STAGGER_S * (1 if older else ROOM), self.slowness(candidate))
        assert when - self.began[candidate] >= room - 1e-9, "it was given too little time"
        assert any(self.began[one] <= self.began[candidate] for one in rest), "the oldest keeps its place"
        return True


def judge(course: Course, winner: Candidate | None) -> None:
    """Raises AssertionError if a rule was broken."""
    ways = {way.entry.candidate: way for way in course.ways}
    assert course.ended_s <= LIMIT_S
    seen = Judge(course, most=course.most, told=list(course.favours))
    flying, entering, began, tried, troubled = seen.flying, seen.entering, seen.began, seen.tried, seen.troubled
    last_start = last_failure = learned = slow_at = slow = -1.0
    yielded: set[Candidate] = set()
    for step, (when, what, candidate) in enumerate(course.trace):
        seen.hear(when, ways)
        seen.look(when, decides=what in ("knock", "enter", "drop"))
        if what == "connected":
            seen.linked[candidate] = when - began[candidate]
            learned = when
            if not seen.trip and seen.linked[candidate] > STAGGER_S:
                slow_at, slow = when, began[candidate]
            seen.trip = min(seen.trip or seen.linked[candidate], seen.linked[candidate])
        elif what == "knock":
            assert candidate not in tried, "nobody starts twice"
            assert when >= ways[candidate].joins_s
            overdue = flying & seen.overdue
            troubles = Counter(one.machine for one in overdue | troubled)
            levels = {one: way.entry.level + troubles[one.machine] // 2 for one, way in ways.items()}
            assert all(levels[one] >= levels[candidate] for one in flying - overdue), "a lower level has the first word"
            entry = ways[candidate].entry
            favourite = candidate == seen.favoured or (entry.favourite and not entry.wait_s)
            assert favourite or seen.favoured is None or seen.favoured in tried, "who was recommended is next"
            others = {one.machine for one in flying if began[one] == when}
            together = when == last_start and not favourite and candidate.machine not in others
            in_turn = (
                not flying or max(last_failure, seen.favoured_s) >= last_start or when - last_start >= STAGGER_S - 1e-9
            )
            assert in_turn or together, "a start too early"
            tried.add(candidate)
            flying.add(candidate)
            began[candidate] = last_start = when
            seen.linked.pop(candidate, None)
            seen.overdue.discard(candidate)
        elif what == "verified":
            flying.remove(candidate)
            seen.verified.add(candidate)
            if candidate in seen.overdue:
                troubled.add(candidate)
        elif what == "enter":
            assert not entering, "one at a time"
            assert candidate in seen.verified
            entering.add(candidate)
            flying.add(candidate)
            began[candidate] = when
            seen.overdue.discard(candidate)
        elif (
            what == "drop"
            and when == slow_at
            and began[candidate] > slow
            and not (candidate in seen.linked or candidate in seen.overdue)
        ):
            assert candidate not in entering
            flying.remove(candidate)
            tried.remove(candidate)
        elif what == "drop" and seen.yields(step):
            assert candidate not in yielded | entering
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
                assert candidate in seen.overdue, "it was given too little time"
            flying.discard(candidate)
            entering.discard(candidate)
            troubled.add(candidate)
            last_failure = when
        assert len(flying) <= seen.most
        waiting = {one for one, way in ways.items() if way.joins_s < when} - tried
        patient = all(when - began[one] <= max(PATIENCE_S, 2 * seen.slowness(one)) + 1e-9 for one in flying)
        assert patient or not waiting or when >= LIMIT_S or when == learned, "it was waited for too long"
    assert not flying, "what was started has an end"
    if winner is None and course.ended_s < LIMIT_S:
        assert tried == set(ways), "nobody is left out"
