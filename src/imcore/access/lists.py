"""Lists, signed once for all callers of one kind, share and second, however many ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ..access_list import AccessList, Direction, key_id, sign_list
from .carriers import Origin
from .ranking import Ranking
from .settings import Access
from .shares import Shares, drawn
from .stills import Stills

__all__ = ["Lists"]

KINDS_MOST = 4096
"""Kinds and shares of callers whose lists are kept within a second."""


class Lists:
    """keys: that may sign, the first for callers who do not say which they know. clock: seconds since 1970."""

    def __init__(
        self,
        ranking: Ranking,
        stills: Stills,
        shares: Shares,
        settings: Access,
        keys: Sequence[Ed25519PrivateKey],
        clock: Callable[[], float],
    ) -> None:
        self._ranking = ranking
        self._stills = stills
        self._shares = shares
        self._settings = settings
        self._clock = clock
        self._first = keys[0]
        self._keys = {key_id(key.public_key()): key for key in keys}
        self._second = 0
        self._made: dict[tuple[Origin, Direction, int, Ed25519PrivateKey], bytes] = {}

    def signed(self, origin: Origin, role: Direction, near: str, known: Sequence[str]) -> bytes:
        """The list for a caller from there; b"" = no point may be given now. near: its neighbourhood. known: ids
        of keys that it knows, none = it did not say."""
        now = self._clock()
        if int(now) != self._second or len(self._made) >= KINDS_MOST:
            self._second = int(now)
            self._made.clear()
        key = next((key for id, key in self._keys.items() if id in known), self._first) if known else self._first
        share = self._shares.of(near, drawn(now))
        made = self._made.get((origin, role, share, key))
        if made is None:
            made = self._made[origin, role, share, key] = self._sign(origin, role, share, key, now)
        return made

    def _sign(self, origin: Origin, role: Direction, share: int, key: Ed25519PrivateKey, now: float) -> bytes:
        settings = self._settings
        points = self._ranking.order(origin, role, now, share)[: settings.most]
        if not points:
            return b""
        self._shares.sent(drawn(now), origin, role, share, points[0].name)
        made = AccessList(
            role=role,
            iat=int(now),
            exp=int(now) + settings.lifetime_s,
            refresh_s=settings.refresh_s,
            points=points,
            carrier=origin.carrier,
            region=origin.region,
            still_s=self._stills.of(origin, now),
        )
        return sign_list(made, key)
