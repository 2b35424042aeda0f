"""Row lists: signed lists of access points a second, all from one core; each is asked for and sent whole over HTTP."""

from __future__ import annotations

import socket
from functools import partial

from ..peers.base import Peer
from ..peers.frames import Imcore
from .figures import Sample, at_least
from .plan import US, Column, Contender, Plan, RowResult, run_case
from .running import Failed, Load, Server, number, sample, string, talk

__all__ = ["row"]

POINTS = 16
CALLERS = 50
REQUEST = b"GET /v1/access?role=down HTTP/1.1\r\nHost: im.example.com\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"
SETTINGS = '[node]\nroles = ["downlink", "uplink", "service", "access"]\n' + "".join(
    f'[[access.points]]\nname = "point-{n}"\naddresses = ["192.0.2.{n}", "2001:db8::{n}"]\n'
    f'ways = ["tcp:8080", "tls:443", "http:80", "https:443"]\ncarrier = "carrier-{n % 4}"\nregion = "east"\n'
    for n in range(1, POINTS + 1)
)
COLUMNS = [
    Column("messages_per_s", "lists a second"),
    Column("messages_per_cpu_s", "per server CPU second"),
    Column("cpu_ns", "server CPU a list, µs", 1000, 1),
    Column("p50_us", "p50, ms", US, 2),
    Column("p99_us", "p99, ms", US, 2),
    Column("bytes", "bytes an answer"),
]


def _size(port: int) -> int:
    """Bytes of an answer, head and all: it is the same each time. Raises `Failed`."""
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(REQUEST)
        came = b""
        while b"\r\n\r\n" not in came:
            came += connection.recv(65536)
        head, _, _ = came.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise Failed(f"no list, but {head[:80]!r}")
        [length] = [
            line.partition(b":")[2] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
        ]
        return len(head) + 4 + int(length)


def _lists(peer: Peer, callers: int, seconds: float) -> Sample:
    with Server(peer, "echo") as server:
        size = _size(server.port)
        blob = callers * (string(REQUEST) + number(size)) + callers * string(REQUEST)
        with Load("wireload", "echo", "127.0.0.1", server.port, callers, seconds, 1, size, 0) as load:
            return sample({**talk(load, blob, server), "bytes": size})


def row(plan: Plan) -> RowResult:
    """Row lists."""
    peer = Imcore(settings=SETTINGS)
    callers = min(CALLERS, plan.sizes.members)
    contenders: list[Contender] = [(peer.name, partial(_lists, peer, callers, plan.seconds))]
    case = run_case(plan, f"{callers} connections", contenders, COLUMNS)
    verdicts = [at_least("signed lists a second on one core", 5000, case.figure(peer.name, "messages_per_s"))]
    return RowResult("lists", f"signed lists of {POINTS} access points, asked for over HTTP", [case], verdicts)
