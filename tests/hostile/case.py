"""What a case is: one phone's minute on one network. It runs nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .network import GATEWAYS
from .phone import Phone
from .world import World

__all__ = ["POINTS", "Break", "Case", "Prepare"]

POINTS = ["im.test", *GATEWAYS]
"""What every phone was built with: a name and three addresses, without ports: all that are known to pass."""

Prepare = Callable[[World], None]


@dataclass(frozen=True)
class Break:
    """Something that happens to a phone that talks. after_s: its start. seconds: of no way at all, of which no client
    can be blamed."""

    after_s: float
    what: Callable[[World, Phone], None]
    seconds: float = 0.0


@dataclass(frozen=True)
class Case:
    """name: short. network: what it does, as the table says it. open_way: the best point that is open, alone, for how
    long it takes at best; "" = there is none at first. needs: programs from Debian."""

    name: str
    network: str
    prepare: Prepare = lambda world: None
    breaks: Sequence[Break] = ()
    open_way: str = f"tcp://{GATEWAYS[0]}:80"
    every_s: float = 0.25
    """How often the phone says something."""
    proxied: bool = False
    """The phone's environment names the carrier's proxy."""
    dns: str | None = ",".join(GATEWAYS)
    dns_delay_s: float = 0.0
    seconds: float = 60.0
    needs: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    """What the client has to name as the obstacle, while there is no way at all."""
