"""Row floods: what the heartbeat of an honest link notices of those who only mean to keep the gateway busy, and what
each of their connections costs in memory."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial

from ..peers.frames import Imcore
from .figures import Sample, at_most, figure, ratio
from .links import BEAT_US, PROBE
from .machine import resident
from .plan import WAITS, Column, Contender, Plan, RowResult, run_case
from .running import Failed, Load, Server, lasting, number, string

__all__ = ["row"]

QUIET = "imcore, no flood"
Flood = Callable[[Server, int, float], AbstractContextManager[None]]
"""From a server, how many connections, and for how long: one that runs while it is entered."""
BYTES_MOST = 16 * 1024
SLOW = {
    "slow heads": ["-H", "-i", "1", "-t", "GET"],
    "slow bodies": ["-B", "-i", "1", "-s", "65536", "-f", "application/octet-stream"],
    "slow reads": ["-X", "-k", "10", "-w", "10", "-y", "20", "-n", "1", "-z", "5"],
}
"""slowhttptest's modes (its -c, -r, -l and -u come from the plan)."""
COLUMNS = [
    *WAITS,
    Column("connections", "connections of the flood"),
    Column("bytes_a_connection", "bytes of memory for each"),
]


@contextmanager
def _nothing(server: Server, count: int, seconds: float) -> Iterator[None]:
    yield


@contextmanager
def _silent(server: Server, count: int, seconds: float) -> Iterator[None]:
    """Connections on which nothing ever comes."""
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 5))
        yield


@contextmanager
def _random(server: Server, count: int, seconds: float) -> Iterator[None]:
    """One connection after another that says 4 KiB of chance, half of them behind a byte that frames begin with."""
    over = threading.Event()

    def flood() -> None:
        begins = b"\xa1\x01", b""
        at = 0
        while not over.is_set():
            at += 1
            with suppress(OSError), socket.create_connection(("127.0.0.1", server.port), 5) as sock:
                sock.settimeout(0.2)
                sock.sendall(begins[at % 2] + os.urandom(4096))
                sock.recv(1)

    threads = [threading.Thread(target=flood) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


@contextmanager
def _slow(mode: list[str], server: Server, count: int, seconds: float) -> Iterator[None]:
    """slowhttptest. A gateway lets a head that does not come go after 10 s: all is over before. Raises `Failed`."""
    path = "/im" if "-B" in mode else "/im/probe?n=bench"
    command = ["slowhttptest", *mode, "-c", str(count), "-r", str(count), "-l", str(int(seconds) + 30), "-p", "30",
               "-v", "0", "-u", f"http://127.0.0.1:{server.port}{path}"]  # fmt: skip
    with lasting(command):
        time.sleep(1.5)  # it makes its connections in one
        yield


def _flooded(flood: Flood, count: int, seconds: float) -> Sample:
    """Heartbeats of a link beside a flood. Raises `Failed`."""
    peer = Imcore()
    hello, beat = peer.hello("apart", PROBE), peer.beat()
    with Server(peer, "apart") as server:
        time.sleep(0.5)
        before = resident(server.pid)
        with (
            flood(server, count, seconds),
            Load("probe", "127.0.0.1", server.port, BEAT_US, seconds, beat.answer) as probe,
        ):
            probe.tell(string(hello.data) + number(hello.wait) + string(beat.data))
            found = {key: float(value) for key, value in json.loads(probe.hear()).items()}
            grown = resident(server.pid) - before
    if found["unanswered"]:
        raise Failed(f"{found['unanswered']:.0f} of {found['heartbeats']:.0f} heartbeats were not answered within 2 s")
    if count:
        found |= {"connections": float(count), "bytes_a_connection": max(grown, 0) / count}
    return found


def row(plan: Plan) -> RowResult:
    """The row."""
    count, seconds = plan.sizes.flood, plan.seconds
    contenders: list[Contender] = [
        (QUIET, partial(_flooded, _nothing, 0, seconds)),
        (f"imcore, {2 * count:,} silent connections", partial(_flooded, _silent, 2 * count, seconds)),
        ("imcore, random bytes", partial(_flooded, _random, 0, seconds)),
    ]
    if shutil.which("slowhttptest") is not None:
        contenders += [
            (f"imcore, {name}", partial(_flooded, partial(_slow, mode), count, seconds)) for name, mode in SLOW.items()
        ]
    else:
        plan.left_out["slowhttptest"] = "it is not installed: apt-get install slowhttptest"
    case = run_case(plan, "floods", contenders, COLUMNS)
    verdicts = []
    for name, _ in contenders[1:]:
        times = ratio(case.samples[name], case.samples[QUIET], "p99_us")
        verdicts.append(at_most(f"{name}: p99 of honest links, times that without", 2, times))
        if "random" not in name:
            bytes_each = [each["bytes_a_connection"] for each in case.samples[name] if each is not None]
            verdicts.append(at_most(f"{name}: bytes for each connection", BYTES_MOST, figure(bytes_each)))
    notes = ["The heartbeats are those of row 8. Floods run on the load's core; the probe goes before them there."]
    return RowResult("floods", "those who only keep it busy", [case], verdicts, notes)
