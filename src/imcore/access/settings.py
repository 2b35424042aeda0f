"""What the operator tells the access service: the points, whose networks there are, and who may speak for others."""

from __future__ import annotations

import ipaddress
from typing import Annotated

import msgspec
from msgspec import Meta

from ..access_list import MULTI_LINE, AccessPoint, Direction, Port
from ..errors import ConfigError

__all__ = ["Access", "Carrier", "Name", "Network", "Point"]

WAYS = ("tcp", "tls", "http", "https")

Text = Annotated[str, Meta(max_length=64)]
Word = Annotated[str, Meta(min_length=1, max_length=64)]


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""


class Point(_Section, frozen=True, kw_only=True):
    """`[[access.points]]`"""

    name: Annotated[Word, Meta(description="the point's own, by which reports name it")]
    addresses: Annotated[
        list[Word], Meta(min_length=1, max_length=16, description="its IP addresses, of both families")
    ]
    ways: Annotated[
        list[Word],
        Meta(
            min_length=1,
            max_length=64,
            description='how it is reached, as way:port, such as "tls:443"; the ways are tcp and tls (frames), http '
            "and https (the tunnel)",
        ),
    ]
    host: Annotated[
        str,
        Meta(max_length=255, description="the name in its certificate, and for proxies that refuse IP addresses"),
    ] = ""
    carrier: Annotated[Text, Meta(description='whose line it is on; "*": a line to each of them')] = ""
    region: Annotated[Text, Meta(description="where it is, in the words of the networks or of the databases")] = ""
    roles: Annotated[list[Direction], Meta(min_length=1, description="what it is good for")] = msgspec.field(
        default_factory=lambda: ["up", "down"]
    )
    nodes: Annotated[
        list[Word],
        Meta(
            description="the nodes behind it, by whose reports it is given or not; []: nobody reports, it is always "
            "given"
        ),
    ] = []

    def __post_init__(self) -> None:
        for number, address in enumerate(self.addresses):
            _address(address, f"addresses[{number}]")
        self.listed()

    def listed(self) -> AccessPoint:
        """As devices are told of it."""
        ports: dict[int, list[str]] = {}
        for number, text in enumerate(self.ways):
            way, _, port = text.partition(":")
            if way not in WAYS or not (port.isascii() and port.isdecimal() and 1 <= int(port[:6]) <= 65535):
                raise ConfigError(f"ways[{number}]: expected way:port with one of {', '.join(WAYS)}, got {text!r}")
            ways = ports.setdefault(int(port), [])
            if way not in ways:
                ways.append(way)
        listed = [Port(port, ways) for port, ways in ports.items()]
        addresses = [str(ipaddress.ip_address(address)) for address in self.addresses]
        return AccessPoint(self.name, addresses, listed, self.host, self.carrier, self.region)


class Network(_Section, frozen=True, kw_only=True):
    """`[[access.networks]]`"""

    prefixes: Annotated[
        list[Word], Meta(min_length=1, description="addresses of callers in CIDR form; the longest that fits decides")
    ]
    carrier: Annotated[Text, Meta(description="whose customers they are")] = ""
    region: Annotated[Text, Meta(description='where they are; "": the databases say')] = ""

    def __post_init__(self) -> None:
        _single(self.carrier, "carrier")
        _single(self.region, "region")
        _prefixes(self.prefixes, "prefixes")


class Carrier(_Section, frozen=True, kw_only=True):
    """`[[access.carriers]]`"""

    name: Annotated[Word, Meta(description="what the points and networks call it")]
    numbers: Annotated[
        list[Annotated[int, Meta(ge=1, lt=2**32)]],
        Meta(description="its autonomous systems, as the databases have them"),
    ] = []
    organisations: Annotated[
        list[Word], Meta(description="parts of its names in the databases; upper and lower case are the same")
    ] = []

    def __post_init__(self) -> None:
        _single(self.name, "name")


class Name(_Section, frozen=True, kw_only=True):
    """`[[access.names]]`"""

    name: Annotated[
        str,
        Meta(
            pattern=r"^(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*$",
            description="a name of the gateway's own that the DNS faces answer",
        ),
    ]
    role: Annotated[Direction, Meta(description="whose points it stands for")] = "down"


class Access(_Section, frozen=True, kw_only=True):
    """`[access]`"""

    points: Annotated[
        list[Point], Meta(max_length=1024, description="the ways in; []: the addresses that this node listens on")
    ] = []
    networks: Annotated[list[Network], Meta(description="whose customers are where; before the databases")] = []
    databases: Annotated[
        list[Word], Meta(description="files in MaxMind's format, with autonomous systems, carriers or places")
    ] = []
    carriers: Annotated[list[Carrier], Meta(description="what is called what in the databases")] = []
    proxies: Annotated[
        list[Word],
        Meta(description="addresses in CIDR form whose X-Forwarded-For is believed; all others' is not read"),
    ] = []
    keys: Annotated[
        list[Word],
        Meta(
            description="PEM files with private keys (Ed25519) that sign the lists: a caller gets the first that it "
            "knows; []: the node's key"
        ),
    ] = []
    lifetime_s: Annotated[int, Meta(ge=60, le=7 * 86400, description="how long a list may be used, seconds")] = 3600
    refresh_s: Annotated[int, Meta(ge=10, le=86400, description="how soon to ask for a new one, seconds")] = 300
    most: Annotated[int, Meta(ge=1, le=64, description="points in one list")] = 16
    links_most: Annotated[int, Meta(ge=1, description="links that fill a node")] = 1_000_000
    names: Annotated[list[Name], Meta(description="names that the DNS faces answer; all others are refused")] = []
    ttl_s: Annotated[int, Meta(ge=60, le=600, description="how long a DNS answer may be kept, seconds")] = 60

    def __post_init__(self) -> None:
        names = [point.name for point in self.points]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(f"points: expected names that differ, got {twice[0]!r} twice")
        if self.refresh_s > self.lifetime_s:
            raise ConfigError(f"refresh_s: expected at most lifetime_s ({self.lifetime_s}), got {self.refresh_s}")
        _prefixes(self.proxies, "proxies")


def _single(text: str, key: str) -> None:
    if text == MULTI_LINE:
        raise ConfigError(f'{key}: expected the name of one, got "{MULTI_LINE}", which is all of them')


def _address(text: str, key: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise ConfigError(f"{key}: expected an IP address, got {text!r}") from None


def _prefixes(texts: list[str], key: str) -> None:
    for number, text in enumerate(texts):
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            raise ConfigError(
                f"{key}[{number}]: expected an address or a prefix such as 192.0.2.0/24: {error}"
            ) from None
