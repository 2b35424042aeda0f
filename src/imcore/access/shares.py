"""Callers in sixteen shares, drawn anew every minute: each is sent to a point that its callers can't choose.

Only what a caller says about that point counts. Whoever could choose what to speak about would outvote, on all points
that few are sent to, the honest who are sent elsewhere; drawn like this, one liar in ten is one in ten everywhere.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from ..access_list import Direction
from .carriers import Origin

__all__ = ["SHARES", "TRIAL_S", "Shares", "drawn"]

SHARES = 16
TRIAL_S = 60.0
"""Between two draws, seconds."""
HEADS_MOST = 100_000
"""Kinds of callers for whom it is remembered where they were sent."""


class Shares:
    """secret: that nobody outside knows; copies of the service with the same one draw alike."""

    def __init__(self, secret: bytes) -> None:
        self._secret = hashlib.blake2b(secret, digest_size=32).digest()
        self._heads: OrderedDict[tuple[int, Origin, Direction, int], set[str]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._heads)

    def of(self, near: str, draw: int) -> int:
        """The share of callers who are counted as one (`voices.neighbourhood`)."""
        return hashlib.blake2b(f"{draw} {near}".encode(), key=self._secret, digest_size=1).digest()[0] % SHARES

    def sent(self, draw: int, origin: Origin, role: Direction, share: int, point: str) -> None:
        """A list that begins with this point goes to the callers of that share."""
        self._heads.setdefault((draw, origin, role, share), set()).add(point)
        if len(self._heads) > HEADS_MOST:
            self._heads.popitem(last=False)

    def were_sent(self, draw: int, origin: Origin, role: Direction, near: str, point: str) -> bool:
        """Whether a list that began with this point went to these callers' share in that draw."""
        return point in self._heads.get((draw, origin, role, self.of(near, draw)), ())


def drawn(now: float) -> int:
    """The number of the draw that holds. now: seconds since 1970."""
    return int(now // TRIAL_S)
