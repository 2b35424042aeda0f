"""Whose customer a caller is, and where: from the address that its network shows to the world.

A table of the configuration decides, then databases in MaxMind's format. A header that names the address is believed
only from proxies that the configuration names.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import maxminddb

from ..errors import ConfigError
from .settings import Carrier, Network

__all__ = ["NOWHERE", "Origin", "Origins", "Prefixes", "exit_address"]

REMEMBERED = 65_536
"""Addresses whose origin is not looked up again."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Origin(NamedTuple):
    """Where callers come from who are treated alike. "" = not known."""

    carrier: str
    region: str


NOWHERE = Origin("", "")


class Prefixes:
    """A set of prefixes, each with what belongs to it: the longest that fits decides."""

    def __init__(self, entries: Iterable[tuple[str, Any]]) -> None:
        self._tables: dict[int, dict[int, dict[int, Any]]] = {4: {}, 6: {}}  # by version, length and bits
        for text, value in entries:
            network = ipaddress.ip_network(text)
            bits = int(network.network_address) >> (network.max_prefixlen - network.prefixlen)
            self._tables[network.version].setdefault(network.prefixlen, {}).setdefault(bits, value)
        for version, tables in self._tables.items():
            self._tables[version] = dict(sorted(tables.items(), reverse=True))

    def find(self, address: Address) -> Any:
        """What belongs to the longest prefix of the address, or None."""
        number = int(address)
        for length, table in self._tables[address.version].items():
            found = table.get(number >> (address.max_prefixlen - length))
            if found is not None:
                return found
        return None


class Origins:
    """Looks callers up. Raises `ConfigError` for a database that can't be read; `close` lets go of them."""

    def __init__(self, networks: Sequence[Network], databases: Sequence[str], carriers: Sequence[Carrier]) -> None:
        self._table = Prefixes((prefix, network) for network in networks for prefix in network.prefixes)
        self._numbers = {number: carrier.name for carrier in carriers for number in carrier.numbers}
        self._parts = [(part.casefold(), carrier.name) for carrier in carriers for part in carrier.organisations]
        self._databases: list[maxminddb.Reader] = []
        for path in databases:
            try:
                self._databases.append(maxminddb.open_database(path))
            except (OSError, ValueError, maxminddb.InvalidDatabaseError) as error:
                self.close()
                raise ConfigError(f"access.databases: expected a file in MaxMind's format: {path}: {error}") from None
        self.of = lru_cache(REMEMBERED)(self._of)

    def close(self) -> None:
        """Let go of the files."""
        for database in self._databases:
            database.close()

    def _of(self, address: str) -> Origin:
        """The origin of an IP address in its usual form."""
        parsed = ipaddress.ip_address(address)
        network: Network | None = self._table.find(parsed)
        carrier, region = (network.carrier, network.region) if network is not None else NOWHERE
        for database in self._databases:
            if carrier and region:
                break
            record = _record(database, parsed)
            carrier = carrier or self._carrier(record)
            region = region or _region(record)
        return Origin(carrier, region)

    def _carrier(self, record: Mapping[str, Any]) -> str:
        """By number, then by name; else as the database has it."""
        number = record.get("autonomous_system_number")
        if number in self._numbers:
            return self._numbers[number]
        names = [record.get(key) for key in ("isp", "autonomous_system_organization", "organization")]
        said = [name.casefold() for name in names if isinstance(name, str)]
        for part, carrier in self._parts:
            if any(part in name for name in said):
                return carrier
        return f"AS{number}" if isinstance(number, int) else ""


def exit_address(peer: str, forwarded: Sequence[str], proxies: Prefixes) -> str:
    """The address that a caller's network shows to the world.

    peer: of the connection. forwarded: the values of X-Forwarded-For, in their order. Each proxy adds at the end who
    connected to it; so what one of ours (proxies) added is true, and whatever is left of the first stranger may be
    made up.
    """
    address = _plain(peer)
    hops = [hop for value in forwarded for hop in value.split(",")]
    while hops and address is not None and proxies.find(address):
        hop = _plain(hops.pop())
        if hop is None:
            break  # one of ours would not have said so
        address = hop
    return str(address) if address is not None else "0.0.0.0"  # noqa: S104 - nobody's address, for a peer without one


def _plain(text: str) -> Address | None:
    """An address as it stands in headers: perhaps in brackets, with a port, or an IPv4 one in IPv6's clothes."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _record(database: maxminddb.Reader, address: Address) -> Mapping[str, Any]:
    if address.version == 6 and database.metadata().ip_version == 4:
        return {}
    try:
        record = database.get(address)
    except maxminddb.InvalidDatabaseError:
        return {}  # a damaged place in the file: as if it were not there
    return record if isinstance(record, dict) else {}


def _region(record: Mapping[str, Any]) -> str:
    """`CN-GD`, or `CN` where the database has no more."""
    country = record.get("country")
    code = country.get("iso_code") if isinstance(country, dict) else None
    if not isinstance(code, str):
        return ""
    parts = record.get("subdivisions")
    part = parts[0].get("iso_code") if isinstance(parts, list) and parts and isinstance(parts[0], dict) else None
    return f"{code}-{part}" if isinstance(part, str) else code
