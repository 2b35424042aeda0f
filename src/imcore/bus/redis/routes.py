"""Which links stand, in Redis: one hash for each user, compared and changed in one step.

A route counts as long as its node lives (`push`). What this node holds is put back when a shard was wiped, and a little
of it all the time, so that nothing stays forgotten.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

import msgspec

from ...errors import EngineError
from ..ports import PRESENCE, Route, seen
from .pipe import Pipe
from .push import RedisPush
from .services import Services

__all__ = ["RedisRoutes"]

AGAIN_S = 28_800
"""In such a time every route is claimed once more, a few in each second: they expire after a day and an hour."""
UNSEEN_MS = 60_000
"""So long after it was last seen to be on a device is looked at again."""
UNSEEN = 50
"""Devices of one shard that are looked at again in a second."""
MOST = 5000
"""Routes that one second puts back."""


class RedisRoutes:
    """Follows `ports.Routes`."""

    def __init__(self, pipe: Pipe, push: RedisPush, services: Services) -> None:
        self._pipe = pipe
        self._services = services
        self._push = push
        self._nodes: dict[str, Callable[[Route, Route], None]] = {}
        self._held: list[dict[tuple[str, int], Route]] = [{} for _ in range(pipe.keys.shards)]
        self._wiped: dict[int, Iterator[Route]] = {}
        self._round: Iterator[Route] = iter(())
        self._last = 0
        push.wiped = self._forgotten
        push.fallen = self._fallen

    def attach(self, node: str, superseded: Callable[[Route, Route], None]) -> None:
        """This node's gateway is told when a route of its own has fallen, and to which newer one."""
        self._nodes[node] = superseded
        self._push.lives(node)

    def order(self) -> int:
        """Microseconds since 1970, or one more than the last one where that is not more."""
        self._last = max(self._last + 1, time.time_ns() // 1000)
        return self._last

    async def claim(self, route: Route) -> Route | None:
        """Stand, unless a newer rival does: then that one is returned. Raises `EngineError`."""
        shard = self._pipe.keys.shard(route.user)
        held, name = self._held[shard], (route.user, route.order)
        field, value, *fallen = await self._claim(shard, route)
        if field:
            held.pop(name, None)
            return _route(route.user, field, value)
        held[name] = route
        for old, kept in zip(fallen[::2], fallen[1::2], strict=True):
            self._tell(_route(route.user, old, kept), route)
        return None

    def release(self, route: Route) -> None:
        """The link is over."""
        shard = self._pipe.keys.shard(route.user)
        self._held[shard].pop((route.user, route.order), None)
        self._pipe.do(shard, b"release", (route.user, self._field(route)))

    async def online(self, user: str) -> list[Route]:
        """What stands of the user's now. Raises `EngineError`."""
        found = await self._pipe.ask(self._pipe.keys.shard(user), b"online", user)
        return [_route(user, field, value) for field, value in zip(found[::2], found[1::2], strict=True)]

    @property
    def presence_wanted(self) -> bool:
        """Some service has a handler for it."""
        return self._services.serves(PRESENCE)

    def presence(self, route: Route) -> None:
        """Tell the service if it does not know."""
        if self._pipe.up:
            number, time_ms = self.order(), time.time_ns() // 1_000_000
            on, off = (msgspec.msgpack.encode(seen(route, online, number, time_ms)) for online in (True, False))
            self._pipe.do(self._pipe.keys.shard(route.user), b"presence", (route.user, route.device, on, off))

    def look_for_the_gone(self) -> None:
        """What stood on nodes that died is told as gone, a few devices at a time."""
        for shard in range(self._pipe.keys.shards):
            self._pipe.do(shard, b"unseen", (UNSEEN_MS, UNSEEN), self._unseen)

    def _unseen(self, places: Any) -> None:
        if not isinstance(places, Exception):
            for user, device in places:
                self.presence(Route(user.decode(), device.decode(), "", "", "down", 0))

    def tick(self) -> None:
        """Put back what was wiped, and claim a little of the rest again."""
        most = MOST
        for shard, routes in list(self._wiped.items()):
            most -= self._again(islice(routes, most))
            if most:
                del self._wiped[shard]
        count = sum(map(len, self._held)) // AGAIN_S + 1
        if not self._again(islice(self._round, min(most, count))):
            self._round = iter([route for held in self._held for route in held.values()])

    def _again(self, routes: Iterator[Route]) -> int:
        count = 0
        for route in routes:
            count += 1
            shard = self._pipe.keys.shard(route.user)
            if (route.user, route.order) in self._held[shard]:
                self._claim(shard, route).add_done_callback(partial(self._reclaimed, route))
        return count

    def _reclaimed(self, route: Route, future: asyncio.Future[Any]) -> None:
        if future.cancelled() or future.exception() is not None:
            return
        field, value, *fallen = future.result()
        if field:
            self._tell(route, _route(route.user, field, value))
        for old, kept in zip(fallen[::2], fallen[1::2], strict=True):
            self._tell(_route(route.user, old, kept), route)

    def _claim(self, shard: int, route: Route) -> asyncio.Future[Any]:
        value = msgspec.msgpack.encode([route.device, route.place, route.client])
        return self._pipe.ask(shard, b"claim", route.user, self._field(route), value)

    def _forgotten(self, shard: int) -> None:
        if self._held[shard]:
            self._wiped[shard] = iter(list(self._held[shard].values()))

    def _fallen(self, user: str, field: bytes, value: bytes, newer_field: bytes, newer_value: bytes) -> None:
        self._tell(_route(user, field, value), _route(user, newer_field, newer_value))

    def _tell(self, route: Route, newer: Route) -> None:
        self._held[self._pipe.keys.shard(route.user)].pop((route.user, route.order), None)
        tell = self._nodes.get(route.node)
        if tell is not None:
            tell(route, newer)

    def _field(self, route: Route) -> str:
        return f"{route.order}:{route.way}:{self._push.life}:{route.node}"


def _route(user: str, field: bytes, value: bytes) -> Route:
    order, way, _, node = field.decode().split(":", 3)
    device, place, client, *_ = msgspec.msgpack.decode(value)  # a newer version may know more of it
    if way not in ("up", "down", "both"):
        raise EngineError(f"a route of {user!r} can't be read: its way is {way!r}")
    return Route(user, device, node, place, way, int(order), client)  # type: ignore[arg-type]  # looked at above
