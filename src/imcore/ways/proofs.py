"""What points have shown to this device, on the network that it is on: who they are, and whether much comes through. It
counts nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .candidate import Candidate

__all__ = ["Proofs"]

PROVEN_S = 600.0
"""For so long, seconds, who has proven himself is taken at his word: entering needs no second proof."""


class Proofs:
    """where: the network that the device is on; it is asked each time. left: called when it is another one."""

    def __init__(self, where: Callable[[], object], left: Callable[[], None]) -> None:
        self._where = where
        self._left = left
        self._place: object = None
        self._given: dict[Candidate, float] = {}
        self._held: dict[Candidate, bool] = {}
        self.looking = asyncio.Lock()
        """Held while it is looked whether one holds."""

    def here(self) -> dict[Candidate, float]:
        """Who has, and when. What comes of a proof that was begun here is written here, too: if the network is another
        one by then, nobody reads it."""
        self._look_around()
        return self._given

    def held(self) -> dict[Candidate, bool]:
        """Whether much comes through by those that were looked at; written as `here` is."""
        self._look_around()
        return self._held

    def holds(self, candidate: Candidate) -> bool:
        """It need not prove itself once more."""
        return asyncio.get_running_loop().time() - self.here().get(candidate, -PROVEN_S) < PROVEN_S

    def lost(self, candidate: Candidate) -> None:
        """It has to."""
        self._given.pop(candidate, None)

    def _look_around(self) -> None:
        place = self._where()
        if place != self._place:
            if self._place is not None:
                self._left()
            self._place, self._given, self._held = place, {}, {}
