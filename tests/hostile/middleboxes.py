"""Real proxies at the carrier, with the configuration that a case wants: squid and tinyproxy, which phones are told of,
and nginx and haproxy, which nobody is told of: what goes to port 80 goes through them."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.proxies import setups

from .namespaces import Host, inside
from .network import CARRIER, GATEWAYS
from .programs import find

__all__ = ["PROXY", "Box", "haproxy", "listening", "nginx", "squid", "tinyproxy", "transparent"]

PROXY = f"{CARRIER['wifi']}:3128"
ORIGIN = f"{GATEWAYS[0]}:80"
HERE = 8880
START_S = 20.0

Box = Callable[[Host, Path], object]
"""Starts one at the carrier. Its files go into the folder."""


def squid(lines: str = "http_access allow all") -> Box:
    """lines: its rules of access."""

    def start(carrier: Host, folder: Path) -> None:
        folder.parent.chmod(0o755)
        folder.chmod(0o755)
        name = carrier.name.replace("-", "x")  # which has to be letters and digits
        _run(carrier, folder, "squid", 3128, *setups.squid(folder, name, f"http_port {PROXY}\n{lines}"))

    return start


def tinyproxy(lines: str = "") -> Box:
    """lines: who has to log in, and more."""
    return lambda carrier, folder: _run(
        carrier, folder, "tinyproxy", 3128, *setups.tinyproxy(folder, "0.0.0.0", 3128, lines)
    )


def nginx(lines: str = "", target: str = ORIGIN) -> Box:
    """In front of the gateway's port 80, as it comes. lines: of the location."""

    def start(carrier: Host, folder: Path) -> None:
        _run(carrier, folder, "nginx", HERE, *setups.nginx(folder, str(HERE), target, lines))
        transparent(carrier, HERE)

    return start


def haproxy(lines: str = "", idle_s: int = 50) -> Box:
    """In front of the gateway's port 80. idle_s: when it closes who is silent."""

    def start(carrier: Host, folder: Path) -> None:
        _run(carrier, folder, "haproxy", HERE, *setups.haproxy(folder, f"0.0.0.0:{HERE}", ORIGIN, lines, idle_s))
        transparent(carrier, HERE)

    return start


def transparent(carrier: Host, port: int) -> None:
    """What goes to port 80 comes to this one of the carrier's."""
    carrier.iptables(f"-t nat -A PREROUTING -p tcp -i wifi --dport 80 -j REDIRECT --to-ports {port}")


def listening(host: Host, folder: Path, program: str, where: tuple[str, int], *words: str) -> subprocess.Popen[Any]:
    """A program, when it accepts connections there. What it says goes to the folder."""
    log = folder / f"{program}.log"
    with log.open("a", encoding="utf-8") as said:
        process = host.start(find(program), *words, log=said)
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        with inside(host), socket.socket() as knock:
            if knock.connect_ex(where) == 0:
                return process
        time.sleep(0.05)
    raise RuntimeError(f"{program} does not listen: {log.read_text()[-500:]}")


def _run(carrier: Host, folder: Path, program: str, port: int, text: str, words: list[str]) -> None:
    (folder / "conf").write_text(text)
    listening(carrier, folder, program, (CARRIER["wifi"], port), *words)
