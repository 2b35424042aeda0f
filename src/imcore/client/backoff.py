"""How long to wait before the next try: full jitter from the first one on, so that clients never come back in step."""

from __future__ import annotations

import random

__all__ = ["Backoff"]

FIRST_S = 0.5
MOST_S = 20.0
LIVED_S = 10.0
"""A link that lasted so long was a good one: the next break begins from the start."""


class Backoff:
    """The waits of one client."""

    def __init__(self, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random()
        self._first, self._most = FIRST_S, MOST_S
        self._cap = FIRST_S

    def follow(self, first_s: float, most_s: float) -> None:
        """These bounds from now on, instead of ours."""
        if (first_s, most_s) != (self._first, self._most):
            self._first, self._most = first_s, max(first_s, most_s)
            self._cap = min(max(self._cap, self._first), self._most)

    def next(self, least: float = 0.0) -> float:
        """Seconds to wait: at least what the other side asked for, and a random part of a cap that doubles."""
        wait = least + self._rng.uniform(0, self._cap)
        self._cap = min(self._cap * 2, self._most)
        return wait

    def lived(self, seconds: float) -> None:
        """A link lasted so long."""
        if seconds >= LIVED_S:
            self.served()

    def served(self) -> None:
        """A link did all that it was there for, however short it was: the next break begins from the start."""
        self._cap = self._first
