"""Finders, as a client has them, on a network that the test names."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from imcore.access_list import key_id
from imcore.points import Point
from imcore.ways.candidate import Candidate
from imcore.ways.dial import Connect, straight
from imcore.ways.finder import Finder
from imcore.ways.memory import Memory
from imcore.ways.network import Network
from imcore.ways.resolve import Resolve
from imcore.ways.ways import Ways
from tests.ways.places import KEYS

__all__ = ["enter", "finder", "found", "no_dns"]


async def no_dns(name: str) -> list[str]:
    raise OSError("no DNS here")


def finder(
    points: Sequence[Point] = (),
    services: Sequence[Point] = (),
    *,
    resolve: Resolve = no_dns,
    memory: Memory | None = None,
    keyed: bool = True,
    network: Callable[[], Network] = lambda: Network("10.0.0.1"),
    through: Callable[[Candidate], Connect] = straight,
) -> Finder:
    keys = {key_id(key): key for key in KEYS} if keyed else {}
    ways = Ways(points, services, keys, memory or Memory(), "phone", None, through, resolve, network)
    return ways.finder("down")


async def enter(candidate: Candidate) -> Candidate:
    return candidate


async def found(one: Finder, go: Callable[[Candidate], Awaitable[Candidate]] = enter) -> Candidate:
    """Where the way in leads; the finder is closed."""
    try:
        way = await one.find(go, lambda text: None)
        await one.entered(way)
        return way
    finally:
        await one.close()
