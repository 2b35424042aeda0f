"""In which order a caller should try the points: by line, by load, then by what the callers' races measured.

A point that is full, or that most callers of the same kind fail to reach, comes behind all others, whatever its line.
Points that are about as fast share the callers, and one share in four begins with a point that nobody has measured
lately, while there is one: what is never tried is never measured.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from ..access_list import MULTI_LINE, AccessPoint, Direction, Port
from .carriers import Origin
from .figures import Figures, Key
from .levels import FULL, Levels
from .settings import Point
from .shares import drawn

__all__ = ["EXPLORE", "Ranking"]

EXPLORE = 4
"""One share in so many begins with a point that has no fresh figures."""
ALIKE = math.log(1.25)
"""Points whose times differ by less share the callers."""
BUSY = 3
"""From this level on a point is not tried for curiosity."""

TRIALS_MOST = 10_000
"""Kinds of callers for whom it is remembered what they try in this draw."""

OWN, MULTI, OTHER = range(3)


class _Standing(NamedTuple):
    """A point for one kind of callers."""

    listed: AccessPoint
    behind: bool
    line: int
    pace: float
    far: bool
    known: bool

    def place(self, share: int) -> tuple[bool, int, int, float, bool, bytes]:
        mixed = hashlib.blake2b(f"{share} {self.listed.name}".encode(), digest_size=4).digest()
        return self.behind, self.line, self.listed.level, self.pace, self.far, mixed


class Ranking:
    """points: all there are. levels and figures: what is known of them, which others feed."""

    def __init__(self, points: Sequence[Point], levels: Levels, figures: Figures) -> None:
        roles: tuple[Direction, ...] = ("up", "down", "media")
        self._levels = levels
        self._figures = figures
        self._draw = 0
        self._trials: dict[tuple[Origin, Direction, int], str] = {}
        self._points = {role: [(p, p.listed()) for p in points if role in p.roles] for role in roles}
        self._ways = {
            (role, listed.name, port.port, way)
            for role, both in self._points.items()
            for _, listed in both
            for port in listed.ports
            for way in port.ways
        }

    def knows(self, role: Direction, point: str, port: int, way: str) -> bool:
        """Whether there is such a way in: nothing is kept about others."""
        return (role, point, port, way) in self._ways

    def order(
        self, origin: Origin, role: Direction, now: float, share: int, *, explore: bool = True
    ) -> list[AccessPoint]:
        """All points that may be given, the best first, each with the best of its ports and ways first. now: seconds
        since 1970. share: of the caller. explore: in some shares one point is put to the test."""
        given = self._given(role, silent=False) or self._given(role, silent=True)
        standing = [self._standing(point, listed, level, origin, role, now) for point, listed, level in given]
        ordered = sorted(standing, key=lambda each: each.place(share))
        if explore and ordered and share % EXPLORE == 0:
            self._explore(ordered, origin, role, share, drawn(now))
        return [each.listed for each in ordered]

    def _given(self, role: Direction, *, silent: bool) -> list[tuple[Point, AccessPoint, int]]:
        """If all are silent, then it is the reports that are lost, not the nodes."""
        return [
            (point, listed, level)
            for point, listed in self._points[role]
            if (level := self._levels.of(point.nodes, silent=silent)) is not None
        ]

    def _standing(
        self, point: Point, listed: AccessPoint, level: int, origin: Origin, role: Direction, now: float
    ) -> _Standing:
        whole = Key(*origin, role, listed.name, 0, "")
        best, known = self._figures.speed(whole, now)
        ports: list[tuple[float, Port]] = []
        for port in listed.ports:
            ways: list[tuple[float, str]] = []
            for way in port.ways:
                speed, _ = self._figures.speed(whole._replace(port=port.port, way=way), now)
                ways.append((_pace(speed), way))
            ways.sort(key=lambda pair: pair[0])
            ports.append((ways[0][0], Port(port.port, [way for _, way in ways])))
        ports.sort(key=lambda pair: pair[0])
        return _Standing(
            msgspec.structs.replace(listed, level=level, ports=[port for _, port in ports]),
            behind=level >= FULL or best == math.inf,
            line=OWN if point.carrier == origin.carrier != "" else MULTI if point.carrier == MULTI_LINE else OTHER,
            pace=_pace(best),
            far=bool(origin.region) and point.region != origin.region,
            known=known,
        )

    def _explore(self, ordered: list[_Standing], origin: Origin, role: Direction, share: int, draw: int) -> None:
        """One that is not known goes to the front, and stays there for the draw: if it left when a few have spoken, who
        speaks most often would have the word."""
        if draw != self._draw or len(self._trials) >= TRIALS_MOST:
            self._draw = draw
            self._trials.clear()
        kind = origin, role, share
        if kind not in self._trials:
            unknown = sorted(each.listed.name for each in self._tryable(ordered) if not each.known)
            self._trials[kind] = unknown[(draw + share // EXPLORE) % len(unknown)] if unknown else ""
        for each in self._tryable(ordered):
            if each.listed.name == self._trials[kind]:
                ordered.remove(each)
                ordered.insert(0, each)
                return

    def _tryable(self, ordered: list[_Standing]) -> list[_Standing]:
        """Nobody is sent to a busy point out of curiosity, nor over a foreign line if there is another."""
        line = max(ordered[0].line, MULTI) if any(each.line < OTHER for each in ordered) else OTHER
        return [each for each in ordered if each.listed.level < BUSY and each.line <= line]


def _pace(speed: float | None) -> float:
    """Times that are alike are the same. Who is not known comes behind who is, and before who fails."""
    if speed is None:
        return 1e6
    return math.inf if speed == math.inf else math.floor(math.log(speed) / ALIKE)
