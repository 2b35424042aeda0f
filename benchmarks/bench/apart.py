"""Row split: how long a send waits for its ACK while rooms are at full load: up and down in one process, and apart."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from imcore._codec import HELLO, MSG, encode
from imcore.messages import Hello, pack
from tests import redis_server
from tests.redis_server import RedisServer

from ..peers.base import TEXT
from ..peers.frames import HEADER, Imcore
from .figures import Sample, at_most
from .machine import cores
from .plan import US, Column, Contender, Plan, RowResult, run_case
from .programs import REPOSITORY
from .running import Failed, Load, blob, pinned, shared

__all__ = ["row"]

WINDOW = 100
EVERY_S = 0.005
"""Between two sends."""
ALL = '"downlink", "uplink", "service"'
COLUMNS = [
    Column("p50_us", "ACK, p50, ms", US, 2),
    Column("p99_us", "p99, ms", US, 2),
    Column("max_us", "worst, ms", US, 2),
    Column("acks", "sends"),
    Column("messages_per_s", "room messages delivered a second"),
]


@contextmanager
def _serving(folder: Path, name: str, roles: str, url: str, core: int) -> Iterator[int]:
    """A process with these roles on this core; its port, 0 if it has none. Raises `Failed`."""
    file = folder / f"{name}.toml"
    file.write_text(
        f'[node]\nname = "{name}"\ndata = "{name}"\nroles = [{roles}]\n[[listen]]\naddress = "127.0.0.1:0"\n'
        f'[bus]\nengine = "redis"\nurl = "{url}"\n'
    )
    command = [sys.executable, "-m", "imcore", "serve", "--anonymous", "--config", str(file)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=REPOSITORY, preexec_fn=pinned(core)
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise Failed(f"{name} did not start")
        yield int(line.rpartition(":")[2]) if "listening" in line else 0
    finally:
        process.kill()
        process.communicate()


def _sends(port: int, seconds: float) -> Sample:
    """Durable messages over a link up, one after another: how long each waited for its ACK. Raises `Failed`."""
    took: list[float] = []
    body = json.dumps({"to": "nobody", "text": "x" * TEXT}).encode()
    with socket.create_connection(("127.0.0.1", port), 5) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.sendall(encode(HELLO, 0, "", pack(Hello(token="prober", device="d", role="up", client="bench"))))
        _frame(link)
        end, id = time.perf_counter() + seconds, 0
        while (began := time.perf_counter()) < end:
            id += 1
            link.sendall(encode(MSG, id, "chat", body))
            flags, answered = _frame(link)
            if flags or answered != id:
                raise Failed(f"message {id} was not confirmed")
            took.append(time.perf_counter() - began)
            time.sleep(max(0.0, EVERY_S - took[-1]))
    took.sort()
    part = {"p50_us": took[len(took) // 2], "p99_us": took[len(took) * 99 // 100], "max_us": took[-1]}
    return {**{name: value * 1e6 for name, value in part.items()}, "acks": float(len(took))}


def _frame(link: socket.socket) -> tuple[int, int]:
    """Flags and id of the next frame."""
    _, _, flags, _, length, id = struct.unpack(">BBBBIQ", link.recv(HEADER, socket.MSG_WAITALL))
    if length:
        link.recv(length, socket.MSG_WAITALL)
    return flags, id


def _measured(apart: bool, flooded: bool, members: int, seconds: float) -> Sample:
    """One run. Raises `Failed`."""
    busy, other = cores()
    server = RedisServer()
    try:
        os.sched_setaffinity(server.pid, {other})
        with shared("split") as folder:
            if not apart:
                with _serving(folder, "all", ALL, server.url, busy) as port:
                    return _flooded(port, port, members, seconds) if flooded else _sends(port, seconds)
            with (
                _serving(folder, "service", '"service"', server.url, other),
                _serving(folder, "down", '"downlink", "uplink"', server.url, busy) as down,
                _serving(folder, "up", '"uplink"', server.url, other) as up,
            ):
                return _flooded(up, down, members, seconds) if flooded else _sends(up, seconds)
    finally:
        server.close()


def _flooded(up: int, down: int, members: int, seconds: float) -> Sample:
    peer = Imcore()
    words = ("fanout", "127.0.0.1", down, members, seconds + 1, WINDOW, peer.answer_size("fanout"), 0)
    with Load("wireload", *words) as load:
        os.setpriority(os.PRIO_PROCESS, load.process.pid, 10)  # who hears is another machine's work
        load.tell(blob(peer, "fanout", members))
        while load.hear() != "begin":
            pass
        found = _sends(up, seconds)
        while load.hear() != "end":
            pass
        return {**found, "messages_per_s": float(json.loads(load.hear())["messages_per_s"])}


def row(plan: Plan) -> RowResult:
    """The row."""
    if redis_server.missing is not None:
        plan.left_out["redis-server"] = redis_server.missing
    contenders: list[Contender] = [
        (f"{'apart' if apart else 'one process'}, {'flooded' if flooded else 'idle'}", run)
        for apart in (False, True)
        for flooded in (False, True)
        for run in [partial(_measured, apart, flooded, plan.sizes.members, plan.seconds)]
        if redis_server.missing is None
    ]
    case = run_case(plan, f"a room of {plan.sizes.members:,}, window {WINDOW}", contenders, COLUMNS)
    waits = case.ratio("apart, idle", "p99_us", ours="apart, flooded")
    verdicts = [at_most("apart: p99 of a send's ACK, flooded ÷ idle", 2, waits)]
    notes = [
        "Every process is on Redis. In one process, rooms and sends share a core. Apart, the gateway of the room has "
        "its own; the gateway for what goes up, the service, Redis and the load share the other one, the load with "
        "less of it (nice 10): its listeners stand for other machines."
    ]
    return RowResult("split", "a send's ACK while rooms are at full load", [case], verdicts, notes)
