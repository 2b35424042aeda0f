"""How long a connection may be still before the network forgets it, without a word to either end: a NAT, most often.

Sans-I/O: it is told what survived and what did not, and says which silence to try next. It grows by halves while it
holds; between what held and what broke it takes the middle, until the two are close; then it stays, and looks at what
broke again after some days. Nothing is ever tried on a connection that somebody needs (`client.spare`).
"""

from __future__ import annotations

import math

import msgspec

__all__ = ["AGAIN_S", "CLOSE", "MOST_S", "USUAL_S", "Still"]

USUAL_S = 30.0
"""To begin with, seconds: no NAT that we know forgets sooner."""
MOST_S = 600.0
"""The most that gateways usually allow, seconds."""
GROWTH = 1.5
CLOSE = 1.2
"""What held and what broke need not be closer to each other than this factor."""
AGAIN_S = 3 * 86400.0
"""After so long what broke is tried again, seconds: the network may be another one by now."""


class Still(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of one network. Each method returns what is known afterwards; times are seconds since 1970."""

    holds_s: float = USUAL_S
    """A silence that it survives, as far as is known, seconds."""
    breaks_s: float = 0.0
    """One that it did not survive; 0 = none."""
    again_at: float = 0.0
    """When that is tried again."""
    doubted_s: float = 0.0
    """A link died in a silence that had been seen to hold, for so long: that is tried first; 0 = none did."""
    doubts: int = 0
    """How often that has happened since `breaks_s` was found."""

    def within(self, least_s: float, most_s: float) -> float:
        """How long a link may be silent within a gateway's bounds, seconds."""
        return _bounded(self.holds_s, least_s, most_s)

    def next_s(self, least_s: float, most_s: float, now: float, start_s: float = 0.0) -> float | None:
        """The silence to try next, seconds; None = there is nothing to try now. Where a gateway's least is more than
        what holds, that is tried: links are still for so long. start_s: what holds for others like us, where somebody
        knows; 0 = nobody does."""
        if self.holds_s >= most_s:
            return None
        if self.doubted_s > self.holds_s:
            return _bounded(self.doubted_s, least_s, most_s)
        if not self.breaks_s:
            new = self.holds_s == USUAL_S and start_s > self.holds_s
            return _bounded(start_s if new else self.holds_s * GROWTH, least_s, most_s)
        if self.breaks_s > max(self.holds_s * CLOSE, least_s):
            return _bounded(math.sqrt(self.holds_s * self.breaks_s), least_s, most_s)
        return _bounded(self.breaks_s, least_s, most_s) if now >= self.again_at else None

    def settled(self, most_s: float) -> bool:
        """It was found out, and is not only supposed."""
        return self.holds_s >= most_s or 0 < self.breaks_s <= self.holds_s * CLOSE

    def held(self, seconds: float) -> Still:
        """A spare connection survived this silence."""
        breaks_s = 0.0 if self.breaks_s <= seconds else self.breaks_s
        return Still(max(self.holds_s, seconds), breaks_s, self.again_at, doubts=self.doubts)

    def broke(self, seconds: float, now: float) -> Still:
        """A spare connection did not survive it."""
        holds_s = self.holds_s if seconds > self.holds_s else seconds / GROWTH
        return Still(holds_s, seconds, now + AGAIN_S)

    def died(self, seconds: float, now: float) -> Still:
        """The link in use did not survive it: step back at once. That may have been by chance, so it is tried on a
        spare connection before it is believed; if it happens again although that held, it is believed."""
        if seconds > self.holds_s:
            return self.broke(seconds, now)
        if self.doubts:
            return Still(seconds / 2, seconds, now + AGAIN_S)
        return msgspec.structs.replace(self, holds_s=seconds / 2, doubted_s=self.holds_s, doubts=1)


def _bounded(seconds: float, least_s: float, most_s: float) -> float:
    return min(max(seconds, least_s), most_s)
