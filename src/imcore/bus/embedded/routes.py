"""Which links stand, in the memory of the one process that there is."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..ports import Route, Uplink, seen

__all__ = ["MemoryRoutes"]


class MemoryRoutes:
    """Follows `ports.Routes`."""

    def __init__(self) -> None:
        self._users: dict[str, Route | tuple[Route, ...]] = {}  # most users have one
        self._nodes: dict[str, Callable[[Route, Route], None]] = {}
        self._last = 0
        self._told: set[tuple[str, str]] = set()  # devices that the service knows to be on
        self.put: Callable[[Uplink], None] | None = None
        """Takes messages for the service, once it serves `@presence`."""

    def attach(self, node: str, superseded: Callable[[Route, Route], None]) -> None:
        """This node's gateway is told when a route of its own has fallen, and to which newer one."""
        self._nodes[node] = superseded

    def order(self) -> int:
        """Microseconds since 1970, or one more than the last one where that is not more."""
        self._last = max(self._last + 1, time.time_ns() // 1000)
        return self._last

    async def claim(self, route: Route) -> Route | None:
        """Stand, unless a newer rival does: then that one is returned."""
        standing = self._of(route.user)
        if not standing:
            self._users[route.user] = route
            return None
        rivals = [other for other in standing if other.rivals(route)]
        for other in rivals:
            if other.newer(route):
                return other
        self._put(route.user, *(other for other in standing if other not in rivals and other != route), route)
        for other in rivals:
            if (tell := self._nodes.get(other.node)) is not None:
                tell(other, route)
        return None

    def release(self, route: Route) -> None:
        """The link is over."""
        standing = self._of(route.user)
        if route in standing:
            self._put(route.user, *(other for other in standing if other != route))

    async def online(self, user: str) -> list[Route]:
        """What stands of the user's now."""
        return list(self._of(user))

    @property
    def presence_wanted(self) -> bool:
        """The service has a handler for it."""
        return self.put is not None

    def presence(self, route: Route) -> None:
        """Tell the service if it does not know. What it was told is forgotten with the process."""
        place = route.user, route.device
        standing = [each for each in self._of(route.user) if each.device == route.device and each.way != "up"]
        if self.put is None or bool(standing) == (place in self._told):
            return
        if standing:
            self._told.add(place)
        else:
            self._told.remove(place)
        self.put(seen(standing[0] if standing else route, bool(standing), self.order(), time.time_ns() // 1_000_000))

    def connected(self, user: str, device: str) -> bool:
        """Whether a link of the device stands."""
        return any(route.device == device for route in self._of(user))

    def _of(self, user: str) -> tuple[Route, ...]:
        standing = self._users.get(user, ())
        return standing if isinstance(standing, tuple) else (standing,)

    def _put(self, user: str, *routes: Route) -> None:
        if routes:
            self._users[user] = routes if len(routes) > 1 else routes[0]
        else:
            del self._users[user]
