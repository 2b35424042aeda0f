"""The wall clock, as far as ages can be told by it.

Ages are kept over restarts, so they are those of the wall clock, which somebody may set. Right after a start, and after
a jump, nothing counts as old: whoever is still there gets the time to come and say so.
"""

from __future__ import annotations

import time

__all__ = ["Clock", "now_ms"]

DOUBT_S = 600.0
"""For how long nothing counts as old after a start or a jump, seconds. A device that is alive comes back in less."""
JUMP_MS = 5000
"""So far the wall clock may run off between two ticks: what sets it slowly stays below."""


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Clock:
    """Looked at once a second, for all that comes within it."""

    __slots__ = ("_believed_at", "_steady", "now_ms")

    def __init__(self) -> None:
        self.now_ms = now_ms()
        """As of the last tick, milliseconds since 1970."""
        self._steady = time.monotonic()
        self._believed_at = self._steady + DOUBT_S

    def tick(self) -> None:
        """Look at it."""
        now, steady = now_ms(), time.monotonic()
        if abs(now - self.now_ms - (steady - self._steady) * 1000) > JUMP_MS:
            self._believed_at = steady + DOUBT_S
        self.now_ms, self._steady = now, steady

    def before(self, age_ms: int) -> int:
        """What is from before this time is older than `age_ms`; 0, which is before everything, in doubt."""
        return self.now_ms - age_ms if self._steady >= self._believed_at else 0
