"""Who comes and goes, told to the service as messages of the route `@presence`, if it has a handler for it.

A device that comes back within a few seconds was never away: its going is told only when it has stayed away, and in a
steady trickle however many go at once. The engine knows what was told, so a device that changes its node is no news.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

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
        self._gone: OrderedDict[tuple[str, str], tuple[float, Route]] = OrderedDict()  # those away, by when they went
        self._timer: asyncio.TimerHandle | None = None

    def came(self, route: Route) -> None:
        """A link is welcomed."""
        if route.way != "up" and self._routes.presence_wanted:
            self._gone.pop((route.user, route.device), None)
            self._routes.presence(route)

    def went(self, route: Route) -> None:
        """A link is over."""
        if route.way != "up" and self._routes.presence_wanted:
            loop = asyncio.get_running_loop()
            place = route.user, route.device
            self._gone[place] = loop.time() + AWAY_S, route
            self._gone.move_to_end(place)
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
            if not self._gone or self._due() > loop.time():
                break
            _, (_, route) = self._gone.popitem(last=False)
            self._routes.presence(route)
        self._timer = loop.call_later(max(STEP_S, self._due() - loop.time()), self._step) if self._gone else None

    def _due(self) -> float:
        """When the first of them has been away for long enough."""
        return next(iter(self._gone.values()))[0]
