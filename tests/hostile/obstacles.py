"""What is in the way before the phone starts: filters, forgetful NATs, strangers, real proxies, the radio itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .case import Prepare
from .network import CARRIER, GATEWAYS
from .world import World

__all__ = [
    "air", "all_of", "behind", "forgetful", "hijacker", "no_way_but_the_proxy", "only", "portal", "splits", "without",
]  # fmt: skip


def air(**air: Any) -> Prepare:
    """What the radio is like."""
    return lambda world: world.air["wifi"].change(**air)


def only(*ports: int, tcp: str = "DROP") -> Prepare:
    """Of all TCP ports only these pass; others without a word, or with a refusal."""

    def prepare(world: World) -> None:
        world.carrier.iptables(f"-A FORWARD -p tcp -m multiport --dports {','.join(map(str, ports))} -j ACCEPT")
        world.carrier.iptables("-A FORWARD -p tcp -m multiport --sports 80,443,8080,14000 -j ACCEPT")
        world.carrier.iptables(f"-A FORWARD -p tcp -j {tcp}")

    return prepare


def without(*addresses: str) -> Prepare:
    """Nothing comes to these, and nobody is told."""

    def prepare(world: World) -> None:
        for address in addresses:
            world.carrier.iptables(f"-A FORWARD -d {address} -j DROP")

    return prepare


def forgetful(seconds: int) -> Prepare:
    """A NAT that forgets who was silent for so long, and drops what belongs to nobody."""

    def prepare(world: World) -> None:
        world.carrier.iptables("-t nat -A POSTROUTING -s 10.1.0.0/16 -j MASQUERADE")
        world.carrier.iptables("-A FORWARD -m conntrack --ctstate INVALID -j DROP")
        world.carrier.set(netfilter__nf_conntrack_tcp_loose=0, netfilter__nf_conntrack_tcp_timeout_established=seconds)

    return prepare


def portal(world: World) -> None:
    """Answers whatever is asked of whomever."""
    world.stranger("portal", "8888")
    world.carrier.iptables("-t nat -A PREROUTING -p tcp -i wifi -j REDIRECT --to-ports 8888")


def splits(world: World) -> None:
    """Cuts streams into single bytes."""
    for port in (80, 443, 8080, 14000):
        world.stranger("splitter", str(port), GATEWAYS[0])
    world.carrier.iptables("-t nat -A PREROUTING -p tcp -i wifi -j REDIRECT")


def all_of(*parts: Prepare) -> Prepare:
    """One after the other."""

    def prepare(world: World) -> None:
        for part in parts:
            part(world)

    return prepare


def hijacker(world: World) -> None:
    """Whoever follows the carrier's names comes to its portal."""
    world.stranger("portal", "8888")
    world.carrier.iptables(f"-t nat -A PREROUTING -p tcp -i wifi -d {CARRIER['wifi']} -j REDIRECT --to-ports 8888")


def no_way_but_the_proxy(world: World) -> None:
    """Nobody is passed on."""
    world.carrier.iptables("-A FORWARD -i wifi -j DROP")


def behind(proxy: Callable[..., None], *words: Any, **options: Any) -> Prepare:
    """A real proxy at the carrier."""
    return lambda world: proxy(world.carrier, world.folder, *words, **options)
