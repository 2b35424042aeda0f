"""One way to try: a point, at one of its addresses, by a proxy or without. What is tried, measured and remembered."""

from __future__ import annotations

import msgspec

from ..points import Point

__all__ = ["Candidate", "Listed"]


class Candidate(msgspec.Struct, frozen=True, omit_defaults=True):
    """A point, port and way, perhaps by a proxy. `str()` is its name in files and in what a person is told."""

    point: Point
    """Its host is the name that a certificate is held against, and that a proxy is told."""
    address: str = ""
    """The IP address to dial; "" = the host says it all: an address itself, or a name that a proxy resolves."""
    proxy: str = ""
    """Its URL; "" = none."""

    @property
    def machine(self) -> str:
        """Where it leads; what fails at one machine says little of another."""
        return self.address or self.point.host

    @property
    def path(self) -> str:
        """How it leads there: what a network lets pass at one machine it lets pass at others."""
        return f"{self.point.scheme}:{self.point.port} {self.proxy}"

    def __str__(self) -> str:
        at = f" at {self.address}" if self.address and self.address != self.point.host else ""
        return f"{self.point}{at}{f' by {self.proxy}' if self.proxy else ''}"


class Listed(msgspec.Struct, frozen=True):
    """A candidate, and what its source says of it."""

    candidate: Candidate
    name: str = ""
    """The access service's name for the point, by which it takes reports; "" = it is not from there."""
    level: int = 0
    """How loaded the machine behind it is, 0 to 4: lower levels first."""
    turn: int = 0
    """Which of its machine's ports and ways it is, from 0: each machine's first comes before any one's second."""
