"""Which session holds which device, in the memory of the one process that there is."""

from __future__ import annotations

from ..ports import Route

__all__ = ["MemoryRoutes"]


class MemoryRoutes:
    """Who is connected. The newest claim wins, whatever comes later from the one before it."""

    def __init__(self) -> None:
        self._users: dict[str, dict[str, Route]] = {}

    async def claim(self, route: Route) -> Route | None:
        """This session now holds the device; returns the one that held it before."""
        devices = self._users.get(route.user)
        if devices is None:
            devices = self._users[route.user] = {}
        before = devices.get(route.device)
        devices[route.device] = route
        return before

    def release(self, route: Route) -> None:
        """The session ended. Does nothing if another one has claimed the device since."""
        devices = self._users.get(route.user)
        if devices is None:
            return
        held = devices.get(route.device)
        if held is not None and held.session == route.session and held.node == route.node:
            del devices[route.device]
            if not devices:
                del self._users[route.user]

    async def online(self, user: str) -> list[Route]:
        """Where the user's devices are connected now."""
        return list(self._users.get(user, {}).values())

    def connected(self, user: str, device: str) -> bool:
        """Whether a session holds the device."""
        return device in self._users.get(user, ())
