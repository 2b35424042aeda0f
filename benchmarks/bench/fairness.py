"""Row fair: what everybody else's heartbeat notices of links that say things as often as the gateway takes them."""

from __future__ import annotations

from functools import partial

from imcore._codec import MSG, PING, ROOM, encode

from ..peers.base import PAYLOAD
from ..peers.frames import Imcore
from .figures import Sample, at_most, figure
from .links import beating
from .plan import WAITS, Column, Contender, Plan, RowResult, run_case
from .running import Load, Server, number, string

__all__ = ["row"]

FLOODERS = 4
COLUMNS = [
    *WAITS,
    Column("messages_per_s", "frames of the flood a second"),
    Column("busy", "share of the server's core", 1, 2),
]


def _flooded(frame: bytes, seconds: float) -> Sample:
    """Heartbeats of a link beside the flooders. Raises `Failed`."""
    peer = Imcore()
    data = string(frame)
    for i in range(FLOODERS):
        hello = peer.hello("echo", i)
        data += string(hello.data) + number(hello.wait)
    with (
        Server(peer, "echo") as server,
        Load("flood", "127.0.0.1", server.port, FLOODERS, seconds + 1) as load,
    ):
        return beating(peer, load, data, server, seconds)


def row(plan: Plan) -> RowResult:
    """The row."""
    peer = Imcore()
    floods = {
        "heartbeats": encode(PING, 7),
        "messages to a room of its own": encode(MSG, 0, peer.room("echo", 0), PAYLOAD, ROOM),
        "durable messages": encode(MSG, 1, "chat", b'{"to":"nobody","text":"%s"}' % PAYLOAD.hex().encode()),
    }
    contenders: list[Contender] = [
        (f"imcore, {name}", partial(_flooded, frame, plan.seconds)) for name, frame in floods.items()
    ]
    case = run_case(plan, f"{FLOODERS} links flood", contenders, COLUMNS)
    verdicts = []
    for name, _ in contenders:
        p99 = [each["p99_us"] / 1000 for each in case.samples[name] if each is not None]
        verdicts.append(at_most(f"{name}: others' p99, ms", 5, figure(p99)))
    notes = [
        "A flooding link has 16 KiB of each turn of the loop, and what it sent beyond that waits in the kernel. "
        "The heartbeats are those of row 8."
    ]
    return RowResult("fair", "links that flood", [case], verdicts, notes)
