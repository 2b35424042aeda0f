"""A caller is known by its exit address, and nobody can say that they are somebody else."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from imcore.access.carriers import NOWHERE, Origin, Origins, Prefixes, exit_address
from imcore.access.settings import Carrier, Network
from imcore.errors import ConfigError

OURS = Prefixes([("10.0.0.0/8", True), ("2001:db8:aa::/48", True)])


class TestTheExitAddress:
    @pytest.mark.parametrize(
        ("peer", "forwarded", "address"),
        [
            ("192.0.2.1", [], "192.0.2.1"),
            ("192.0.2.1", ["198.51.100.7"], "192.0.2.1"),  # a stranger says what it likes
            ("10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", ["203.0.113.9, 198.51.100.7"], "198.51.100.7"),  # only the last is our proxy's word
            ("10.0.0.1", ["203.0.113.9", "198.51.100.7, 10.0.0.2"], "198.51.100.7"),  # two of ours, two lines
            ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", [], "10.0.0.1"),
            ("10.0.0.1", ["198.51.100.7, nonsense"], "10.0.0.1"),
            ("10.0.0.1", [""], "10.0.0.1"),
            ("10.0.0.1", ["198.51.100.7:1234"], "198.51.100.7"),
            ("10.0.0.1", ["[2001:db8::7]:1234"], "2001:db8::7"),
            ("10.0.0.1", ["2001:db8::7"], "2001:db8::7"),
            ("::ffff:10.0.0.1", ["::ffff:198.51.100.7"], "198.51.100.7"),
            ("2001:db8:aa::1", ["198.51.100.7"], "198.51.100.7"),
            ("fe80::1%eth0", [], "fe80::1"),
            ("", [], "0.0.0.0"),
        ],
    )
    def test_is_the_first_stranger_from_the_right(self, peer: str, forwarded: list[str], address: str) -> None:
        assert exit_address(peer, forwarded, OURS) == address

    @given(st.ip_addresses().map(str), st.lists(st.text(max_size=30), max_size=4))
    def test_of_a_stranger_is_its_own_whatever_it_says(self, peer: str, forwarded: list[str]) -> None:
        assert exit_address(peer, forwarded, Prefixes([])) == exit_address(peer, [], Prefixes([]))

    @given(st.lists(st.text(max_size=30) | st.ip_addresses().map(str), max_size=4))
    def test_is_always_an_address(self, forwarded: list[str]) -> None:
        ipaddress.ip_address(exit_address("10.0.0.1", forwarded, OURS))


networks = st.builds(
    lambda address, length: ipaddress.ip_network((address, min(length, 32 if address.version == 4 else 128)), False),
    st.ip_addresses(network="192.0.2.0/24") | st.ip_addresses(network="2001:db8::/64"),
    st.integers(0, 128),
)


@given(st.lists(networks, max_size=10), st.ip_addresses(network="192.0.2.0/24") | st.ip_addresses(v=6))
def test_the_longest_prefix_decides(
    known: list[ipaddress.IPv4Network | ipaddress.IPv6Network], address: ipaddress.IPv4Address | ipaddress.IPv6Address
) -> None:
    fitting = [net for net in known if address in net]
    longest = max(fitting, key=lambda net: net.prefixlen, default=None)
    assert Prefixes((str(net), str(net)) for net in known).find(address) == (str(longest) if longest else None)


def write(path: Path, ip_version: int, records: Mapping[str, dict[str, object]]) -> str:
    """A database in MaxMind's format, of these prefixes."""
    writer = MMDBWriter(ip_version=ip_version, database_type="Test", languages=["en"], ipv4_compatible=ip_version == 6)
    for prefix, record in records.items():
        writer.insert_network(IPSet([prefix]), record)
    writer.to_db_file(str(path))
    return str(path)


@pytest.fixture
def databases(tmp_path: Path) -> list[str]:
    asn: dict[str, dict[str, object]] = {
        "192.0.2.0/24": {"autonomous_system_number": 4134, "autonomous_system_organization": "Chinanet"},
        "198.51.100.0/24": {"autonomous_system_number": 64500, "autonomous_system_organization": "Some Unicom Branch"},
        "203.0.113.0/24": {"autonomous_system_number": 64501},
        "2001:db8::/32": {"autonomous_system_number": 4134},
    }
    city: dict[str, dict[str, object]] = {
        "192.0.2.0/25": {"country": {"iso_code": "CN"}, "subdivisions": [{"iso_code": "GD"}]},
        "198.51.100.0/24": {"country": {"iso_code": "CN"}},
        "203.0.113.0/24": {"country": "CN", "subdivisions": "GD"},  # of another form than usual
    }
    return [write(tmp_path / "asn.mmdb", 6, asn), write(tmp_path / "city.mmdb", 4, city)]


CARRIERS = [Carrier(name="telecom", numbers=[4134, 4812]), Carrier(name="unicom", organisations=["UNICOM"])]


class TestOrigins:
    @pytest.mark.parametrize(
        ("address", "origin"),
        [
            ("192.0.2.1", ("telecom", "CN-GD")),
            ("192.0.2.200", ("telecom", "")),
            ("198.51.100.1", ("unicom", "CN")),
            ("203.0.113.1", ("AS64501", "")),
            ("2001:db8::1", ("telecom", "")),
            ("10.0.0.1", NOWHERE),
        ],
    )
    def test_the_databases_say(self, databases: list[str], address: str, origin: tuple[str, str]) -> None:
        origins = Origins([], databases, CARRIERS)
        assert origins.of(address) == origin
        origins.close()

    def test_the_table_comes_before_the_databases(self, databases: list[str]) -> None:
        table = [
            Network(prefixes=["192.0.2.0/24"], carrier="mobile"),
            Network(prefixes=["192.0.2.64/26"], carrier="radio", region="south"),
        ]
        origins = Origins(table, databases, CARRIERS)
        assert origins.of("192.0.2.1") == Origin("mobile", "CN-GD")
        assert origins.of("192.0.2.65") == Origin("radio", "south")
        assert origins.of("198.51.100.1") == Origin("unicom", "CN")
        origins.close()

    def test_millions_of_callers_take_a_bounded_room(self) -> None:
        origins = Origins([Network(prefixes=["0.0.0.0/0"], carrier="telecom")], [], [])
        for number in range(70_000):
            origins.of(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        assert origins.of.cache_info().currsize <= 65_536

    @pytest.mark.parametrize("content", [None, b"", b"not a database"])
    def test_a_file_that_is_no_database_is_named(self, tmp_path: Path, content: bytes | None) -> None:
        path = tmp_path / "broken.mmdb"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"access\.databases: .*broken\.mmdb"):
            Origins([], [str(path)], [])

    def test_a_damaged_database_is_as_if_it_did_not_know(self, databases: list[str], tmp_path: Path) -> None:
        whole = Path(databases[0]).read_bytes()
        marker = whole.rindex(b"\xab\xcd\xefMaxMind.com")
        broken = tmp_path / "damaged.mmdb"
        broken.write_bytes(b"\xff" * (marker // 2) + whole[marker // 2 :])
        origins = Origins([], [str(broken)], CARRIERS)
        for address in ("192.0.2.1", "2001:db8::1", "10.0.0.1"):
            assert isinstance(origins.of(address), Origin)
        origins.close()
