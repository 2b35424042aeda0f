"""How the nodes of this process do: plain calls, since whoever wants to know is at hand."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ..ports import Load

__all__ = ["LocalLoads"]

log = logging.getLogger("imcore.bus")


class LocalLoads:
    """Follows `ports.Loads`."""

    def __init__(self) -> None:
        self._watchers: list[Callable[[Load], None]] = []

    def report(self, load: Load) -> None:
        """Tell all who watch. One that fails harms nobody else."""
        for take in self._watchers:
            try:
                take(load)
            except Exception:
                log.exception("a watcher failed on a report of node %s; the next one comes in some seconds", load.node)

    def watch(self, take: Callable[[Load], None]) -> None:
        """Hand `take` what every node reports from now on."""
        self._watchers.append(take)
