"""How fast a transfer may go while people talk: it gives way when the messages' round trip rises. Sans-I/O.

What a transfer puts into a queue on the way, each message waits for. So as soon as a round trip is well above the best
one, the transfer slows down to a half of what it does, and speeds up again a little at a time, as LEDBAT does
(RFC 6817). Without round trips, because there is no link, nothing is held back.
"""

from __future__ import annotations

from math import inf

__all__ = ["Yielding"]

ROOM_S = 0.05
"""How much longer than the best a round trip may take, seconds; or half of the best, if that is more."""
LEAST = 16 * 1024
"""Bytes a second that a transfer gets, whatever else goes on."""
DOWN = 0.5
UP = 1.25
BURST_S = 0.1
FORGET = 60
"""Round trips after which the best one is looked for anew: the network may be another one."""


class Yielding:
    """Of all transfers of one client. Times are seconds, on any clock that only goes forward."""

    def __init__(self, now: float) -> None:
        self.rate = inf
        """Bytes a second that are allowed."""
        self._moved = 0  # since the last round trip
        self._since = now
        self._best = inf
        self._next_best = inf
        self._last = 0.0
        self._seen = 0
        self._have = 0.0
        self._at = now

    @property
    def most_s(self) -> float:
        """A round trip that is longer says that something stands in a queue, seconds."""
        return self._best + max(ROOM_S, self._best / 2)

    def round_trip(self, took: float, now: float) -> None:
        """One was measured."""
        self._next_best = min(self._next_best, took)
        self._best = min(self._best, took)
        self._seen += 1
        if self._seen % FORGET == 0:
            self._best, self._next_best = self._next_best, inf
        speed = self._moved / max(now - self._since, 1e-3)
        self._moved, self._since = 0, now
        drains, self._last = took < self._last, took
        if took > self.most_s:
            if speed and not drains:  # else the last step was enough, and the queue only takes its time
                self.rate = max(LEAST, min(self.rate, speed) * DOWN)
        elif self.rate < inf:
            self.rate *= UP
            if self.rate > 4 * max(speed, LEAST):  # it is not this that holds it back
                self.rate = inf

    def take(self, size: int, now: float) -> float:
        """So many bytes go; returns how long to wait before the next ones, seconds."""
        self._moved += size
        if self.rate == inf:
            self._have, self._at = 0.0, now
            return 0.0
        self._have = min(self.rate * BURST_S, self._have + (now - self._at) * self.rate) - size
        self._at = now
        return max(0.0, -self._have / self.rate)
