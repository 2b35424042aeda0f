"""What one device knows of ways in, and what its finders have in common: as an application writes it."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Self

from ..access_list import Direction, PublicKeys, public_keys
from ..points import Point, parse_points
from .ahead import Ahead
from .candidate import Candidate
from .dial import Connect, straight
from .finder import Finder
from .memory import Memory
from .network import Network, current
from .proxies import Proxies, chooser
from .resolve import Resolve, system
from .sources import Sources

__all__ = ["Ways"]


class Ways(NamedTuple):
    """What the finders of one device have in common; see `Sources` and `Finder`."""

    points: Sequence[Point]
    access: Sequence[Point]
    keys: PublicKeys
    memory: Memory
    device: str
    tls: ssl.SSLContext | None
    through: Callable[[Candidate], Connect]
    resolve: Resolve
    network: Callable[[], Network]

    @classmethod
    def known(
        cls,
        points: Iterable[str],
        access: Iterable[str],
        keys: Iterable[str],
        memory: Memory | str | os.PathLike[str] | None,
        device: str,
        tls: ssl.SSLContext | None,
        resolve: Resolve = system,
        network: Callable[[], str] = str,
        proxy: str | bool = True,
    ) -> Self:
        """As an application writes them. network: asked for its SSID. proxy: see `proxies.chooser`. Raises
        `ConfigError`."""
        services = list(access)
        named = points if isinstance(points, str) else list(points)
        found = list(parse_points(named)) if named or not services else []
        asked = list(parse_points(services)) if services else []
        kept = memory if isinstance(memory, Memory) else Memory(memory)
        choose = chooser(proxy)
        # What a proxy is told, it looks up: nobody here need know it, and chooser's complaints are heard now.
        theirs = {point.host for point in (*found, *asked) if choose(point) is not None}

        async def look_up(name: str) -> list[str]:
            return [name] if name in theirs else await resolve(name)

        through = straight if proxy is False else Proxies(choose, kept).by
        return cls(
            found,
            asked,
            public_keys(keys),
            kept,
            device,
            tls,
            through,
            look_up,
            lambda: current(network()),
        )

    @property
    def tunnels(self) -> bool:
        """There is no other way, as far as is known before anybody is asked."""
        return bool(self.points) and all(point.tunnels for point in self.points)

    def sources(self) -> Sources:
        """Who knows access points."""
        return Sources(
            self.points, self.access, self.keys, self.memory, through=self.through, resolve=self.resolve, tls=self.tls
        )

    def finder(
        self,
        role: Direction,
        fits: Callable[[Candidate], bool] = lambda candidate: True,
        ahead: Ahead | None = None,
    ) -> Finder:
        """Of ways in this direction that are fit for their use. ahead: by whose connections they are entered."""
        keys = tuple(self.keys.values())
        return Finder(
            role,
            self.sources(),
            self.memory,
            keys,
            through=self.through,
            network=self.network,
            device=self.device,
            tls=self.tls,
            fits=fits,
            ahead=ahead,
        )
