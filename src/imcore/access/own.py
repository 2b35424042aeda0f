"""The points of a node that nobody named any for: where it listens itself."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from ..errors import ConfigError
from .settings import Point

__all__ = ["own_points"]


def own_points(node: str, bound: Sequence[tuple[str, bool]]) -> list[Point]:
    """bound: `host:port` of each listener, and whether it takes TLS alone. Raises `ConfigError` where all of them are
    such that no device could use them."""
    ways: dict[str, list[str]] = {}
    for address, tls in bound:
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        if not ipaddress.ip_address(host).is_unspecified:
            ways.setdefault(host, []).extend(f"{way}:{port}" for way in (("tls", "https") if tls else ("tcp", "http")))
    if not ways:
        raise ConfigError(
            f"access.points: expected at least one: {bound[0][0]}, where the node listens, tells no device where to go"
        )
    hosts: dict[tuple[str, ...], list[str]] = {}
    for host, its in ways.items():
        hosts.setdefault(tuple(its), []).append(host)
    return [
        Point(name=node if not number else f"{node}-{number + 1}", addresses=found, ways=list(its), nodes=[node])
        for number, (its, found) in enumerate(hosts.items())
    ]
