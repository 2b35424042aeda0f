"""The nodes of a cluster, as far as they are known: each of them, master or replica, can say where a slot is.

They are asked for all the time: when one is gone it is too late to ask who else there is.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import MovedError

from .connection import Place
from .reader import ask, read_forever

__all__ = ["Nodes"]

FOLLOW_S = 10.0
SLOTS = 16384


class Nodes:
    """pool: its url names a node that stays known: it may be a name that leads to whichever node is there."""

    def __init__(self, pool: ConnectionPool) -> None:
        named = pool.connection_kwargs
        self._home: Place = named.get("host", "localhost"), named.get("port", 6379)
        self._known: set[Place] = set()

    def moved(self, error: MovedError, asked: Place | None) -> Place:
        """Where the slot is, as this one says, which may not know by what name it was reached."""
        place = error.host or (asked or self._home)[0], error.port
        self._known.add(place)
        return place

    def another(self, asked: Place | None) -> Place:
        """Any but this one, which does not answer, or has nothing to say: it may know who has its slots now."""
        return random.choice(sorted({self._home, *self._known} - {asked or self._home}) or [self._home])

    async def follow(self, connect: Callable[[], Awaitable[AbstractConnection]]) -> None:
        """Hear who comes and who goes, until cancelled."""
        await read_forever(connect, self._follow)

    async def learn(self, connection: AbstractConnection) -> None:
        """Ask who there is now. Raises `RedisError`, or `TimeoutError`."""
        slots = await ask(connection, "CLUSTER", "SLOTS")
        here: str = connection.host  # of who says so, who may not know it
        if sum(last - first + 1 for first, last, *_ in slots) == SLOTS:  # who is cut off may know only itself
            self._known = {
                (host.decode() if host else here, port) for _, _, *nodes in slots for host, port, *_ in nodes
            }

    async def _follow(self, connection: AbstractConnection) -> None:
        while True:
            await asyncio.sleep(FOLLOW_S)
            await self.learn(connection)
