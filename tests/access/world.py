"""A small world with three carriers: 200 devices that ask for lists, race, and report; some of them lie.

Its parts are the service's own (levels, ranking, figures, whose word counts); network and time are made up.
The same seed gives the same world.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass, field

from imcore.access.carriers import Origin
from imcore.access.figures import Figures
from imcore.access.hearing import Hearing
from imcore.access.levels import Levels
from imcore.access.ranking import Ranking
from imcore.access.settings import Point
from imcore.access.shares import Shares, drawn
from imcore.access.stills import Stills
from imcore.access_list import MULTI_LINE, AccessPoint, Measured, Report
from imcore.bus.ports import Load

CARRIERS = ("telecom", "unicom", "mobile")
OWN_MS = (40.0, 70.0, 110.0)
"""How far a carrier's three points are from its customers; which of its points is how far is mixed."""
MULTI_MS = (60.0, 90.0)
FOREIGN_MS = 180.0
DEVICES = 200
RACE_S = 30.0
"""How often a device looks for its best way in, on the average."""
STAGGER_MS = 250.0
SPREAD = 0.15
"""Of the times of one point, in logarithms."""
START = 1_800_000_000.0


@dataclass
class Device:
    """One phone."""

    name: str
    origin: Origin
    liar: bool
    next_at: float


@dataclass
class World:
    """devices lie with probability `liars`. From `busy_from` to `busy_to` (seconds) other work fills the machine behind
    the fastest point of the first carrier."""

    liars: float = 0.1
    busy_from: float = math.inf
    busy_to: float = math.inf
    seed: int = 1
    now: float = 0.0
    winners: list[tuple[float, str, str]] = field(default_factory=list)
    """When, of which carrier, and at which point each race was won."""
    levels_seen: list[tuple[float, int]] = field(default_factory=list)
    """Of the point that gets busy."""

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        own = {carrier: self.chance.sample(OWN_MS, 3) for carrier in CARRIERS}
        self.points = [
            Point(
                name=f"{carrier}-{n + 1}",
                addresses=["192.0.2.1"],
                ways=["tls:443"],
                carrier=carrier,
                nodes=[f"{carrier}-{n + 1}"],
            )
            for carrier in CARRIERS
            for n in range(3)
        ]
        self.points += [
            Point(
                name=f"all-{n + 1}",
                addresses=["192.0.2.1"],
                ways=["tls:443"],
                carrier=MULTI_LINE,
                nodes=[f"all-{n + 1}"],
            )
            for n in range(2)
        ]
        self.distance = {
            (carrier, point.name): (
                own[carrier][int(point.name[-1]) - 1]
                if point.carrier == carrier
                else MULTI_MS[int(point.name[-1]) - 1]
                if point.carrier == MULTI_LINE
                else FOREIGN_MS
            )
            for carrier in CARRIERS
            for point in self.points
        }
        self.levels = Levels(1_000_000, lambda: self.now)
        figures = Figures()
        self.ranking = Ranking(self.points, self.levels, figures)
        self.counters: Counter[str] = Counter()
        self.shares = Shares(b"a secret")
        self.hearing = Hearing(figures, Stills(), self.shares, self.counters)
        self.devices = [
            Device(
                f"device-{number}",
                Origin(CARRIERS[number % 3], "east"),
                number < self.liars * DEVICES,
                self.chance.uniform(0, RACE_S),
            )
            for number in range(DEVICES)
        ]

    def best(self, carrier: str, place: int = 0) -> str:
        """The carrier's own point that is in truth the fastest, or the next."""
        return sorted(
            (ms, name) for (of, name), ms in self.distance.items() if of == carrier and name.startswith(carrier)
        )[place][1]

    def first(self, carrier: str) -> str:
        """The point that the carrier's list begins with, where nothing is tried out."""
        now = START + self.now
        return self.ranking.order(Origin(carrier, "east"), "down", now, 1, explore=False)[0].name

    def run(self, until: float) -> None:
        """Let it go on, second by second."""
        while self.now < until:
            self.now += 1
            if self.now % 2 == 0:
                self._nodes_report()
            for device in self.devices:
                if device.next_at <= self.now:
                    device.next_at = self.now + self.chance.uniform(0.5, 1.5) * RACE_S
                    self._lie(device) if device.liar else self._race(device)

    def _nodes_report(self) -> None:
        busy = self.best(CARRIERS[0])
        for point in self.points:
            cpu = (
                0.9
                if point.name == busy and self.busy_from <= self.now < self.busy_to
                else self.chance.uniform(0.1, 0.3)
            )
            self.levels.take(Load(point.name, 0, cpu, 1.0, 0.2))
        self.levels_seen.append((self.now, self.levels.of([busy]) or 0))

    def _race(self, device: Device) -> None:
        """Each point a little after the one before, until one has answered; who has not by then is not measured."""
        order = self._list(device)
        took = [self.distance[device.origin.carrier, p.name] * self.chance.lognormvariate(0, SPREAD) for p in order]
        ends = [number * STAGGER_MS + each for number, each in enumerate(took)]
        done = min(ends)
        self.winners.append((self.now, device.origin.carrier, order[ends.index(done)].name))
        self._report(device, {p.name: ms for p, ms, end in zip(order, took, ends, strict=True) if end <= done})

    def _lie(self, device: Device) -> None:
        """The slowest of the carrier's own is praised, all others are damned."""
        worst = self.best(device.origin.carrier, 2)
        self._list(device)
        self._report(device, {p.name: 2.0 if p.name == worst else None for p in self.points})

    def _report(self, device: Device, took: dict[str, float | None]) -> None:
        measured = [
            Measured(name, 443, "tls", "SILENT" if ms is None else "OK", whole_ms=None if ms is None else round(ms))
            for name, ms in took.items()
        ]
        report = Report(device.name, "down", measured)
        self.hearing.hear(self.ranking, ("user", device.name), device.name, device.origin, report, START + self.now)

    def _list(self, device: Device) -> list[AccessPoint]:
        now = START + self.now
        share = self.shares.of(device.name, drawn(now))
        order = self.ranking.order(device.origin, "down", now, share)
        self.shares.sent(drawn(now), device.origin, "down", share, order[0].name)
        return order
