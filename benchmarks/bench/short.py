"""Row short: what goes up on connections of its own: connect, HELLO and message in one segment, WELCOME and ACK, go."""

from __future__ import annotations

import json
import socket
import struct
from functools import partial

from imcore._codec import HELLO, MSG, encode
from imcore.messages import Hello, pack

from ..peers.base import TEXT, Peer
from ..peers.frames import HEADER, Imcore
from .figures import Sample, at_least
from .links import FLIGHT
from .plan import US, Column, Contender, Plan, RowResult, run_case
from .running import Load, Server, number, sample, string, talk

__all__ = ["row"]

COLUMNS = [
    Column("links_per_s", "connections a second"),
    Column("links_per_cpu_s", "per server CPU second"),
    Column("p50_us", "p50, ms", US, 2),
    Column("p99_us", "p99, ms", US, 2),
]
MOST_PER_S = 20_000
"""Messages that are made for each second: none is sent twice."""


def _segment(user: str, id: int) -> bytes:
    hello = Hello(token=user, device="d", role="up", client="bench")
    body = json.dumps({"to": f"r{id:06}", "text": "x" * TEXT}, separators=(",", ":")).encode()
    return encode(HELLO, 0, "", pack(hello)) + encode(MSG, id, "chat", body)


def _welcome_size(port: int) -> int:
    """Bytes of a WELCOME, and of one whose numbers have grown a little as well."""
    with socket.create_connection(("127.0.0.1", port), 5) as link:
        link.sendall(encode(HELLO, 0, "", pack(Hello(token="u000000", device="x", role="up", client="bench"))))
        head = link.recv(HEADER, socket.MSG_WAITALL)
        (length,) = struct.unpack_from(">I", head, 4)
        return HEADER + int(length)


def _sending(peer: Peer, users: int, seconds: float) -> Sample:
    """Connections a second, each with a message of its own and its ACK. Raises `Failed`."""
    with Server(peer, "apart") as server:
        wait = _welcome_size(server.port) + HEADER + 8  # the ACK carries the newest number in the inbox
        count = int(MOST_PER_S * seconds)
        segments = (string(_segment(f"u{n % users:06}", n // users + 1)) for n in range(count))
        data = number(count) + number(wait) + b"".join(segments)
        with Load("accept", "127.0.0.1", server.port, FLIGHT, seconds) as load:
            return sample(talk(load, data, server), "links")


def row(plan: Plan) -> RowResult:
    """The row."""
    contenders: list[Contender] = [("imcore", partial(_sending, Imcore(), plan.sizes.users, plan.seconds))]
    case = run_case(plan, f"{plan.sizes.users:,} users in turn, {FLIGHT} at once", contenders, COLUMNS)
    verdicts = [at_least("connections a second on one core", 5_000, case.figure("imcore", "links_per_s"))]
    notes = ["The ACK comes when the message is on disk (embedded engine); the chat service pushes it to its receiver."]
    return RowResult("short", "short connections up, each with a durable message", [case], verdicts, notes)
