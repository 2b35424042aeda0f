"""Who comes and goes, told to the service as messages of the route `@presence`, if it has a handler for it.

A device that comes back within a few seconds was never away: its going is told only when it has stayed away, and in a
steady trickle however many go at once. The engine knows what was told, so a device that changes its node is no news.
"""

from __future__ import annotations

import asyncio
from collections import deque

from ..bus.ports import Route, Routes

__all__ = ["Presence"]

AWAY_S = 5.0
"""How long a device has to be away until that is told, seconds."""
STEP_S = 0.1
STEP = 100
"""Devices that one step looks at."""


class Presence:
    """Of one gateway's links, but for those that only send."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._gone: deque[tuple[float, Route]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def came(self, route: Route) -> None:
        """A link is welcomed."""
        if route.way != "up" and self._routes.presence_wanted:
            self._routes.presence(route)

    def went(self, route: Route) -> None:
        """A link is over."""
        if route.way != "up" and self._routes.presence_wanted:
            loop = asyncio.get_running_loop()
            self._gone.append((loop.time() + AWAY_S, route))
            if self._timer is None:
                self._timer = loop.call_later(AWAY_S, self._step)

    def close(self) -> None:
        """Nothing more is told."""
        if self._timer is not None:
            self._timer.cancel()
        self._gone.clear()

    def _step(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(STEP):
            if not self._gone or self._gone[0][0] > loop.time():
                break
            self._routes.presence(self._gone.popleft()[1])
        wait = max(STEP_S, self._gone[0][0] - loop.time()) if self._gone else 0.0
        self._timer = loop.call_later(wait, self._step) if self._gone else None
