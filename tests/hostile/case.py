"""What a case is: one phone's minute on one network. It runs nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .network import GATEWAYS
from .phone import Phone
from .world import NAME, World

__all__ = ["POINTS", "Break", "Case", "Prepare"]

POINTS = [NAME, *GATEWAYS]
"""What every phone of ours was built with: a name and three addresses, without ports: all that are known to pass."""

Prepare = Callable[[World], None]


@dataclass(frozen=True)
class Break:
    """Something that happens to a phone that talks. after_s: its start. seconds: of no way at all from then on, of
    which no client can be blamed. heals: it ends something, and is no break itself."""

    after_s: float
    what: Callable[[World, Phone], None]
    seconds: float = 0.0
    heals: bool = False


@dataclass(frozen=True)
class Case:
    """name: short. network: what it does, as the table says it. row: of which kind it is (docs/hostile-networks.md)."""

    row: int
    name: str
    network: str
    prepare: Prepare = lambda world: None
    breaks: Sequence[Break] = ()
    open_way: str = f"tcp://{GATEWAYS[0]}:80"
    """The best point that is open, alone, for how long it takes at best; "" = there is none at first."""
    passes: tuple[str, ...] = ()
    """Ports and ways that pass where others are dropped without a word, as `tls:443`; none = nothing is dropped."""
    luck: bool = False
    """What the first message takes is also luck: packets are lost."""
    every_s: float = 0.25
    """How often the phone says something."""
    at_once: int = 1
    size: int = 0
    """And so many messages then, of so many bytes at least."""
    crowd: int = 0
    """Other clients of ours in the phone's process."""
    several: bool = False
    """Three gateways on machines of their own, over one Redis. Others have one machine in any case."""
    proxied: str = ""
    """The URL of the carrier's proxy, where the phone's environment names it."""
    dns: str | None = ",".join(GATEWAYS)
    """What the carrier's name server says, "" = that there is no such name, None = nothing."""
    dns_delay_s: float = 0.0
    seconds: float = 60.0
    idle_s: float = 0.0
    """And so long of silence after it, with nothing to say on either side, and then a word."""
    nat_s: float = 0.0
    """The phone has been here before, and has found out that the network forgets after so long."""
    needs: tuple[str, ...] = ()
    """Programs from Debian that are in the way."""
    names: tuple[str, ...] = ()
    """What ours has to name as the obstacle, while there is no way at all."""
    others: bool = True
    """Others are tried there too."""

    @property
    def programs(self) -> set[str]:
        """All that the case runs of Debian's."""
        return {*self.needs, *(["redis-server"] if self.several else [])}
