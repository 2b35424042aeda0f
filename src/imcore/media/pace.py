"""A limit on bytes a second, shared by all transfers of one user: whoever takes more waits. It opens no socket."""

from __future__ import annotations

import asyncio

__all__ = ["Pace"]

BURST_S = 0.25
"""How much may go at once, seconds' worth."""
STEP = 64 * 1024
"""Bytes that are worth a turn, or a burst where that is less."""


class Pace:
    """rate: bytes a second, 0 = as fast as it goes."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.users = 0
        """How many transfers share it; whoever keeps it counts."""
        self._burst = max(1, int(rate * BURST_S))
        self._have = float(self._burst)
        self._at = 0.0

    async def take(self, most: int) -> int:
        """How much may go now, `most` bytes at most; waits until it is worth a turn."""
        if not self.rate:
            return most
        loop = asyncio.get_running_loop()
        while True:
            now = loop.time()
            self._have = min(self._burst, self._have + (now - self._at) * self.rate)
            self._at = now
            worth = min(most, STEP, self._burst)
            if self._have >= worth:
                got = min(most, int(self._have))
                self._have -= got
                return got
            await asyncio.sleep((worth - self._have) / self.rate)

    def give_back(self, size: int) -> None:
        """What was taken and not used."""
        if self.rate:
            self._have += size
