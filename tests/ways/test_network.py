"""The network is read from the kernel's tables; where there are none, from the address that packets leave from."""

from __future__ import annotations

from pathlib import Path

import pytest

from imcore.ways.network import Network, current

HEAD = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
WIFI = HEAD + (
    "wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n"
    "eth0\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
    "eth0\t0000000A\t00000000\t0001\t0\t0\t100\t0000FFFF\t0\t0\t0\n"
    "wlan0\t0001A8C0\t00000000\t0001\t0\t0\t600\t00FFFFFF\t0\t0\t0\n"
)


def read(folder: Path, table: str, ssid: str = "") -> Network:
    (folder / "route").write_text(table)
    return current(ssid, folder)


def test_the_gateway_with_the_lowest_metric_and_the_prefix_that_leads_to_it(tmp_path: Path) -> None:
    assert read(tmp_path, WIFI, "cafe") == Network("10.0.0.1", "10.0.0.0/16", "cafe")


def test_a_device_on_another_network_is_somewhere_else(tmp_path: Path) -> None:
    away = "\n".join(line for line in WIFI.splitlines() if not line.startswith("eth0"))
    assert str(read(tmp_path, away)) == "192.168.1.1 192.168.1.0/24"


@pytest.mark.parametrize("table", ["", HEAD, "nonsense\nmore nonsense\n", HEAD + "eth0\tzz\n"])
def test_tables_that_say_nothing_leave_the_gateway_open(tmp_path: Path, table: str) -> None:
    network = read(tmp_path, table)
    assert network.gateway == ""
    assert str(network)


def test_this_machine_is_on_a_network_that_stays_the_same() -> None:
    assert current() == current()
