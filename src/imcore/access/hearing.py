"""Whose word about what counts: the way from a report to the figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ..access_list import Report
from .carriers import Origin
from .figures import Figures, Key
from .ranking import Ranking
from .shares import Shares, drawn
from .stills import Stills
from .voices import Voices

__all__ = ["Hearing"]


class Hearing:
    """figures, stills: what is measured goes there. shares: who was sent where. counters: what became of what was
    reported."""

    def __init__(self, figures: Figures, stills: Stills, shares: Shares, counters: Counter[str]) -> None:
        self._figures = figures
        self._stills = stills
        self._shares = shares
        self._counters = counters
        self._voices = Voices()

    def hear(
        self, ranking: Ranking, voice: tuple[str, ...], near: str, origin: Origin, report: Report, now: float
    ) -> None:
        """A device's report. ranking: which ways in there are. voice: who it counts as. near: its neighbourhood. now:
        seconds since 1970."""
        by_point: dict[str, dict[tuple[int, str], float | None]] = {}
        for measured in report.measured:
            if ranking.knows(report.role, measured.point, measured.port, measured.way):
                took = measured.whole_ms if measured.outcome == "OK" else None
                by_point.setdefault(measured.point, {}).setdefault((measured.port, measured.way), took)
            else:
                self._counters["reports_about_nothing"] += 1
        for point, ways in by_point.items():
            # What was sent in the draw before may have been tried in this one.
            asked = [
                draw
                for draw in (drawn(now), drawn(now) - 1)
                if self._shares.were_sent(draw, origin, report.role, near, point)
            ]
            if not asked:
                self._counters["reports_unasked"] += 1
            elif not any(self._voices.first(voice, (report.role, point), draw) for draw in asked):
                self._counters["reports_repeated"] += 1
            else:
                self._counters["reports"] += 1
                self._add(Key(*origin, report.role, point, 0, ""), ways, now)
                if report.still_s:
                    self._stills.hear(voice, origin, report.still_s, now)

    def _add(self, key: Key, ways: Mapping[tuple[int, str], float | None], now: float) -> None:
        """One voice about a point, by its best way, and about each of its ways."""
        worked = [took for took in ways.values() if took is not None]
        self._figures.add(key, min(worked, default=None), now)
        for (port, way), took in ways.items():
            self._figures.add(key._replace(port=port, way=way), took, now)
