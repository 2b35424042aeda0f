"""Finds out how long this network lets a connection be still, on a spare one: never on the link in use.

The spare connection goes the way of the link, asks the gateway to be silent for a while and then to speak (wire:
`/im/still`), and waits. It says no HELLO, so it takes over from nobody. What it tells counts only if the link in use
lived meanwhile and lives now: else it is the network that failed, and not the silence.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from ..ways.candidate import Candidate
from ..ways.memory import Memory
from ..ways.still import Still
from .exchange import ExchangeLink
from .link import ClientLink

__all__ = ["Spare"]

_log = logging.getLogger(__name__)

SETTLE_S = 30.0
"""How long a link has lived before anything is tried beside it, seconds: many are gone by then."""
LATER_S = 3600.0
"""After so long it is looked whether there is something to try, seconds, if nothing was, or nothing was learned."""


class Spare:
    """memory: what is known of each network. still: tries a silence (`Finder.still`). way: the candidate that the link
    goes by. start_s: what holds for others like us, 0 = nobody knows."""

    def __init__(
        self,
        memory: Memory,
        still: Callable[[Candidate, float], Awaitable[tuple[bool | None, float]]],
        way: Callable[[], Candidate | None],
        start_s: Callable[[], float],
    ) -> None:
        self._memory = memory
        self._still = still
        self._way = way
        self._start_s = start_s
        self._link: ClientLink | None = None
        self._anew = asyncio.Event()

    def known(self) -> Still:
        """What is known of the network and the way in use."""
        way = self._way()
        return self._memory.still(way.proxy if way is not None else "")

    def begin(self, link: ClientLink | None) -> None:
        """This link is in use from here on; None: there is none, or it is not to be relied on."""
        self._link = link
        self._anew.set()

    def died(self, silence_s: float) -> None:
        """The link in use did not survive a silence."""
        way = self._way()
        if way is not None:
            self._learn(way, self._memory.still(way.proxy).died(silence_s, time.time()))

    async def run(self) -> None:
        """For as long as the client lives."""
        while True:
            self._anew.clear()
            link = self._link
            wait_s = None
            if link is not None and not isinstance(link, ExchangeLink) and link.open:
                if not await self._passes(SETTLE_S):
                    continue
                while link.beat is not None and await self._try(link, link.beat.bounds):
                    pass  # the next one while the radio is awake
                wait_s = LATER_S
            await self._passes(wait_s)

    async def _passes(self, seconds: float | None) -> bool:
        """Whether so long passes with nothing new; None = it never does."""
        try:
            async with asyncio.timeout(seconds):
                await self._anew.wait()
        except TimeoutError:
            return True
        return False

    async def _try(self, link: ClientLink, bounds: tuple[float, float]) -> bool:
        """One silence. Whether something was learned."""
        way, place = self._way(), self._memory.place
        if way is None:
            return False
        seconds = self._memory.still(way.proxy).next_s(*bounds, time.time(), self._start_s())
        if seconds is None:
            return False
        trying = asyncio.ensure_future(self._still(way, seconds))
        anew = asyncio.ensure_future(self._anew.wait())
        try:
            await asyncio.wait([trying, anew], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (trying, anew):
                each.cancel()
            await asyncio.wait([trying, anew])
        if self._anew.is_set() or trying.cancelled():
            return False
        held, silence_s = trying.result()
        if held is None:
            return False
        if not held and silence_s < self._memory.still(way.proxy).holds_s:
            return False  # somebody closed it: the network stands more than that
        if not held and not await link.sound():
            return False
        if self._anew.is_set() or place != self._memory.place:
            return False
        before = self._memory.still(way.proxy)
        now = before.held(seconds) if held else before.broke(min(seconds, silence_s), time.time())
        self._learn(way, now)
        if link.beat is not None:
            link.beat.follow(now)
        await self._memory.save()
        return True

    def _learn(self, way: Candidate, now: Still) -> None:
        self._memory.keep_still(way.proxy, now)
        _log.debug("a connection may be still for %.0f s here (%.0f s: no)", now.holds_s, now.breaks_s)
