"""The pulse: how a node does, told over the bus every few seconds, so that devices are sent to who has room for them.

It looks at the process as a whole, and never at single links.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..bus.ports import Load, Loads

__all__ = ["REPORT_S", "Pulse"]

REPORT_S = 2.0
"""Between two reports, seconds."""
BEAT_S = 0.1
"""Between two looks at how late the loop is, seconds."""

_RESIDENT = Path("/proc/self/statm")
_GROUP_MOST = Path("/sys/fs/cgroup/memory.max")


class Pulse:
    """One node's. links: how many there are now. Whoever owns it runs `beat` for as long as the node lives."""

    def __init__(self, loads: Loads, node: str, links: Callable[[], int]) -> None:
        self._loads = loads
        self._node = node
        self._links = links
        self._memory_most = _memory_most()
        self._draining = False
        self._late_s = 0.0
        self.late_s = 0.0
        """How late the loop was at the last look, seconds."""
        self._begin()

    async def beat(self) -> None:
        """Report now, and then every few seconds, until it is cancelled."""
        loop = asyncio.get_running_loop()
        self.report()
        while True:
            report_at = loop.time() + REPORT_S
            while (now := loop.time()) < report_at:
                await asyncio.sleep(BEAT_S)
                self.late_s = loop.time() - now - BEAT_S
                self._late_s = max(self._late_s, self.late_s)
            self.report()

    def drain(self) -> None:
        """The node is about to stop: say so now, and in what is still to come."""
        self._draining = True
        self.report()

    def report(self) -> None:
        """Say how the node does, measured since it last did."""
        took = max(time.monotonic() - self._since, 1e-3)
        cpu = (time.process_time() - self._cpu) / took
        memory = _resident() / self._memory_most
        self._loads.report(Load(self._node, self._links(), cpu, self._late_s * 1000, memory, self._draining))
        self._begin()

    def _begin(self) -> None:
        self._since = time.monotonic()
        self._cpu = time.process_time()
        self._late_s = 0.0


def _resident() -> int:
    """Bytes of memory that the process holds; 0 where nobody says."""
    with suppress(OSError, ValueError, IndexError):
        return int(_RESIDENT.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _memory_most() -> int:
    """Bytes that it may hold: the machine's, or less where its control group has a limit."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError):  # without a limit the file says "max"
        return min(machine, int(_GROUP_MOST.read_text()))
    return machine
