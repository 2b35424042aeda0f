"""Which network this device is on, as far as that can be told without asking anybody. It sends nothing.

A network is known by the address of its gateway, the prefix of its addresses, and its SSID where the application knows
it. Two homes with routers of one kind are then one network: what won in one is tried first in the other, and no more.
"""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

import msgspec

__all__ = ["Network", "current"]

_PROC = Path("/proc/net")
_UP, _GATEWAY = 0x1, 0x2  # RTF_UP, RTF_GATEWAY of linux/route.h
_NOWHERE = ("192.0.2.1", 9)  # of TEST-NET-1 (RFC 5737): a route to it is looked up, nothing is sent


class Network(msgspec.Struct, frozen=True):
    """`str()` is its name in files. Empty fields are what could not be told."""

    gateway: str = ""
    prefix: str = ""
    ssid: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, [self.gateway, self.prefix, self.ssid])) or "unknown"


def current(ssid: str = "", tables: Path = _PROC) -> Network:
    """The network of now. tables: the kernel's routing tables, where it has them as files (Linux)."""
    try:
        gateway, prefix = _from_tables((tables / "route").read_text())
    except (OSError, ValueError, IndexError):
        gateway, prefix = "", ""
    return Network(gateway, prefix or _local_prefix(), ssid)


def _from_tables(text: str) -> tuple[str, str]:
    """The gateway of the default route with the lowest metric, and the prefix that leads to it. Raises ValueError or
    IndexError for what is no such table."""
    routes = [line.split() for line in text.splitlines()[1:]]
    live = [route for route in routes if int(route[3], 16) & _UP]
    ways_out = [route for route in live if int(route[3], 16) & _GATEWAY and route[1] == route[7] == "00000000"]
    if not ways_out:
        return "", ""
    best = min(ways_out, key=lambda route: int(route[6]))
    gateway = _address(best[2])
    for route in live:
        mask = _address(route[7])
        if route[0] == best[0] and not int(route[3], 16) & _GATEWAY and mask != "0.0.0.0":  # noqa: S104  # a netmask
            network = ipaddress.ip_network(f"{_address(route[1])}/{mask}")
            if ipaddress.ip_address(gateway) in network:
                return gateway, str(network)
    return gateway, ""


def _address(word: str) -> str:
    """The kernel prints the four bytes as one number of this machine's byte order."""
    return socket.inet_ntoa(int(word, 16).to_bytes(4, "little"))


def _local_prefix() -> str:
    """The first three bytes of the address that packets would leave from."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(_NOWHERE)
        except OSError:
            return ""
        return str(ipaddress.ip_network(f"{sock.getsockname()[0]}/24", strict=False))
