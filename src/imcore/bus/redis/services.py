"""Who serves which routes, as Redis has it: gateways refuse what nobody serves, services share the shards by it.

A route stays known for a day after its last service was seen, so that business may be away for a while.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from ...messages import Refusal
from ..checks import objection
from ..ports import Check, Uplink
from .pipe import Pipe

__all__ = ["Services"]

HOME = 0
"""The shard that keeps the list."""
RETRY_MS = 1000
SERVE_MS = 5000
"""How long a service counts as alive after it last said so."""


class Services:
    """What this process serves, and what others do."""

    def __init__(self, pipe: Pipe) -> None:
        self.mine: Mapping[str, Check | None] | None = None
        """None: nothing is consumed here."""
        self._pipe = pipe
        self._others: dict[str, tuple[bool, frozenset[str]]] = {}  # alive, and its routes
        self._known: frozenset[str] = frozenset()

    def tell(self) -> None:
        """Say what is served here, and hear of the others."""
        routes = b"" if self.mine is None else msgspec.msgpack.encode(sorted(self.mine))
        self._pipe.do(HOME, b"serve", (SERVE_MS, routes), self.told)

    def told(self, result: Any) -> None:
        """`serve` has answered."""
        if isinstance(result, Exception):
            return
        now, *found = result
        others = {}
        for client, until, routes in found:
            others[client.decode()] = (until > now, frozenset(msgspec.msgpack.decode(routes, type=list[str])))
        others.pop(self._pipe.client, None)
        self._others = others
        self._known = frozenset().union(*(routes for _, routes in others.values()))

    def objection(self, message: Uplink) -> Refusal | None:
        """Why it can't be taken: nobody serves its route, or the service here objects to it."""
        mine, route = self.mine, message.route
        if mine is not None and route in mine:
            check = mine[route]
            return objection(check, message, "bad_frame") if check is not None else None
        if route in self._known:
            return None
        known = sorted(self._known.union(mine or ()))
        # As long as there was never a service, one may be on its way: nothing is refused for good.
        return Refusal(
            "no_route", f"no service {route!r}; known: {', '.join(known) or 'none'}", None if known else RETRY_MS
        )

    def serves(self, route: str) -> bool:
        """Somebody does."""
        return route in self._known or (self.mine is not None and route in self.mine)

    def share(self, shards: int) -> int:
        """How many shards this process may hold: as many as the others, and none while somebody serves more routes."""
        if not self.mine:
            return 0
        alive = [routes for up, routes in self._others.values() if up and routes]
        here = frozenset(self.mine)
        if any(routes > here for routes in alive):
            return 0
        equals = sum(not routes < here for routes in alive)
        return math.ceil(shards / (1 + equals))
