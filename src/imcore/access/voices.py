"""Who may report how much: so many reports a minute from an address and from a user, and one voice for a device.

Everything here is bounded, whoever asks under how many names.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

__all__ = ["Rate", "Voices", "neighbourhood"]

NAMES_MOST = 100_000
"""Addresses or users whose allowance is kept: beyond it the longest silent one begins anew."""
VOICES_MOST = 300_000
"""Voices heard in one draw: beyond it none more."""


class Rate:
    """An allowance for each name: `burst` at once, `per_minute` on the whole."""

    def __init__(self, per_minute: float, burst: float) -> None:
        self._per_second = per_minute / 60
        self._burst = burst
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._left)

    def allows(self, name: str, now: float) -> bool:
        """Take one of the name's, if there is one. now: seconds, steady."""
        left, at = self._left.pop(name, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_second)
        self._left[name] = (left - 1 if left >= 1 else left), now
        if len(self._left) > NAMES_MOST:
            self._left.popitem(last=False)
        return left >= 1


class Voices:
    """Who has spoken about what, in this draw (`shares`) and the one before; hashes only, which nobody outside can aim
    at."""

    def __init__(self) -> None:
        self._heard: dict[int, set[int]] = {}

    def __len__(self) -> int:
        return sum(len(heard) for heard in self._heard.values())

    def first(self, voice: tuple[str, ...], about: tuple[str, ...], draw: int) -> bool:
        """Whether this voice has not spoken about it in that draw; from now on it has."""
        heard = self._heard.get(draw)
        if heard is None:
            self._heard = {number: old for number, old in self._heard.items() if abs(number - draw) <= 1}
            heard = self._heard[draw] = set()
        said = hash((voice, about))
        if said in heard or len(heard) >= VOICES_MOST:
            return False
        heard.add(said)
        return True


def neighbourhood(address: str) -> str:
    """Who is counted as one: an IPv4 address, or the IPv6 addresses that one customer usually has (a /56)."""
    parsed = ipaddress.ip_address(address)
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((int(parsed) >> 72 << 72, 56)))
