"""How long connections may be silent on each carrier's networks, as its devices found out: where the next ones begin.

A device has one voice a day, and only with a report that counts (`hearing`). The figure is a low one, which three of
four devices are above; who begins too high or too low by it has tried one silence in vain, and no more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from .carriers import Origin
from .figures import STEP, Figures, Key, Row
from .voices import Voices

__all__ = ["Stills"]

DAY_S = 86_400.0
QUANTILE = 0.25
ROLE = "still"
"""In the key of such a figure, in the place of a direction."""


class Stills:
    """`figures` are what was found, in seconds."""

    def __init__(self) -> None:
        self.figures = Figures(DAY_S, QUANTILE)
        self._voices = Voices()

    def hear(self, voice: tuple[str, ...], origin: Origin, seconds: int, now: float) -> None:
        """A device's word. now: seconds since 1970."""
        if origin.carrier and self._voices.first(voice, (ROLE,), int(now // DAY_S)):
            self.figures.add(_key(origin), float(seconds), now)

    def of(self, origin: Origin, now: float) -> int:
        """For callers of this carrier, seconds; 0 = too few have said anything."""
        if not origin.carrier:
            return 0
        seconds, own = self.figures.speed(_key(origin), now)
        return int(seconds / math.sqrt(STEP)) if own and seconds is not None else 0

    def restore(self, rows: Iterable[Row], now: float) -> None:
        """What an earlier process left, among others' figures."""
        self.figures.restore((row for row in rows if row.key.role == ROLE), now)


def _key(origin: Origin) -> Key:
    return Key(*origin, ROLE, "", 0, "")
