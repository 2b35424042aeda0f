"""What is in the way before the phone starts: filters, forgetful NATs, strangers, real proxies, the radio itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .case import Prepare
from .middleboxes import Box, nginx, transparent
from .network import CARRIER, GATEWAYS, Network
from .world import World

__all__ = [
    "air", "all_of", "behind", "forgetful", "hijacker", "impostor", "merges", "no_way_but_the_proxy", "only", "portal",
    "relayed", "splits", "splits_http", "without",
]  # fmt: skip

PORTS = (80, 443, 8080, 14000)


def air(**air: Any) -> Prepare:
    """What the radio is like."""
    return lambda world: world.air["wifi"].change(**air)


def only(*ports: int, others: str = "DROP") -> Prepare:
    """Of all TCP ports only these pass; others without a word, or with a refusal."""

    def prepare(world: World) -> None:
        world.carrier.iptables(f"-A FORWARD -p tcp -m multiport --dports {','.join(map(str, ports))} -j ACCEPT")
        world.carrier.iptables(f"-A FORWARD -p tcp -m multiport --sports {','.join(map(str, PORTS))} -j ACCEPT")
        world.carrier.iptables(f"-A FORWARD -p tcp -j {others}")

    return prepare


def without(*addresses: str) -> Prepare:
    """Nothing comes to these, and nobody is told."""

    def prepare(world: World) -> None:
        for address in addresses:
            world.carrier.iptables(f"-A FORWARD -d {address} -j DROP")

    return prepare


def forgetful(seconds: int) -> Callable[[Network], None]:
    """A NAT that forgets who was silent for so long, and drops what belongs to nobody."""

    def prepare(network: Network) -> None:
        carrier = network.carrier
        carrier.iptables("-t nat -A POSTROUTING -s 10.1.0.0/16 -j MASQUERADE")
        carrier.iptables("-A FORWARD -m conntrack --ctstate INVALID -j DROP")
        carrier.set(netfilter__nf_conntrack_tcp_loose=0, netfilter__nf_conntrack_tcp_timeout_established=seconds)

    return prepare


def portal(how: str = "page") -> Prepare:
    """Answers whatever is asked of whomever: with its page, or with a 302 that leads to it."""

    def prepare(world: World) -> None:
        world.stranger("portal", "8888", how)
        world.carrier.iptables("-t nat -A PREROUTING -p tcp -i wifi -j REDIRECT --to-ports 8888")

    return prepare


def hijacker(world: World) -> None:
    """Whoever follows the carrier's names comes to its portal."""
    world.stranger("portal", "8888", "page")
    world.carrier.iptables(f"-t nat -A PREROUTING -p tcp -i wifi -d {CARRIER['wifi']} -j REDIRECT --to-ports 8888")


def impostor(world: World) -> None:
    """Whoever follows the carrier's names comes to a gateway that speaks our wire, and has another key."""
    world.impostor()


def splits(world: World) -> None:
    """Cuts streams into single bytes."""
    for port in PORTS:
        world.stranger("splitter", str(port), GATEWAYS[0], str(port))
    world.carrier.iptables("-t nat -A PREROUTING -p tcp -i wifi -j REDIRECT")


def splits_http(world: World) -> None:
    """Cuts streams into single bytes, before nginx and behind it, and nothing but HTTP passes."""
    only(80)(world)
    world.stranger("splitter", "8881", GATEWAYS[0], "80")
    folder = world.folder / "box"
    folder.mkdir()
    nginx(target="127.0.0.1:8881")(world.carrier, folder)
    world.carrier.iptables("-t nat -F PREROUTING")
    world.stranger("splitter", "8882", CARRIER["wifi"], "8880")
    transparent(world.carrier, 8882)


def merges(world: World) -> None:
    """Gathers what comes within 50 ms, and passes it on as one."""
    for port in PORTS:
        world.stranger("merger", str(port), GATEWAYS[0], str(port))
    world.carrier.iptables("-t nat -A PREROUTING -p tcp -i wifi -j REDIRECT")


def relayed(way: str) -> Prepare:
    """Only port 80 passes, through a proxy of a kind that no one would want (`tests.client.http_relays`)."""

    def prepare(world: World) -> None:
        only(80)(world)
        world.stranger("relay", "8880", f"{GATEWAYS[0]}:80", way)
        transparent(world.carrier, 8880)

    return prepare


def no_way_but_the_proxy(world: World) -> None:
    """Nobody is passed on."""
    world.carrier.iptables("-A FORWARD -i wifi -j DROP")


def behind(box: Box) -> Prepare:
    """A real proxy at the carrier."""

    def prepare(world: World) -> None:
        folder = world.folder / "box"
        folder.mkdir()
        box(world.carrier, folder)

    return prepare


def all_of(*parts: Prepare) -> Prepare:
    """One after the other."""

    def prepare(world: World) -> None:
        for part in parts:
            part(world)

    return prepare
