"""Row split: how long a send waits for its ACK while rooms are at full load: on the link that messages come down on, on
one of its own, and on one that leads to another process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests import redis_server
from tests.redis_server import RedisServer

from ..peers.frames import Imcore
from .device import READS, Device, deaf_members
from .figures import Figure, Sample, at_most
from .machine import cores
from .plan import WAITS, CaseResult, Column, Contender, Plan, RowResult, run_case
from .programs import REPOSITORY
from .running import Failed, Load, blob, pinned, shared

__all__ = ["CASES", "row"]

WINDOW = 100
DEAF = 50
"""Members that read nothing, beside those that read all."""
FEWEST_S = 6.0
"""So long a run lasts at least: the p99 is then of a thousand sends, and behind a flood one may wait for seconds."""
ALL = '"downlink", "uplink", "service"'
CASES = ("one link", "two links, one process", "two links, processes apart")
COLUMNS = [
    *WAITS,
    Column("acks", "sends"),
    Column("messages_per_s", "room messages delivered a second"),
    Column("heard", "of them to the device itself"),
    Column("stalls", "waits of Redis for its disk"),
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


def _measured(case: str, flooded: bool, members: int, seconds: float) -> Sample:
    """One run. Raises `Failed`."""
    busy, other = cores()
    server = RedisServer(folder=_memory())
    try:
        os.sched_setaffinity(server.pid, {other})
        with shared("split") as folder:
            if case != CASES[2]:
                with _serving(folder, "all", ALL, server.url, busy) as port:
                    found = _sent(port, port, case, flooded, members, seconds, other)
            else:
                with (
                    _serving(folder, "service", '"service"', server.url, other),
                    _serving(folder, "down", '"downlink", "uplink"', server.url, busy) as down,
                    _serving(folder, "up", '"uplink"', server.url, other) as up,
                ):
                    found = _sent(up, down, case, flooded, members, seconds, busy)
        return {**found, "stalls": float(server.info("persistence")["aof_delayed_fsync"])}
    finally:
        server.close()


def _memory() -> str | None:
    """Redis's log lies in memory: this row measures who waits for whom, and not a disk."""
    return "/dev/shm" if os.path.isdir("/dev/shm") else None


def _sent(up: int, down: int, case: str, flooded: bool, members: int, seconds: float, hearing: int) -> Sample:
    """hearing: the core of those who hear the room."""
    peer = Imcore()
    room = peer.room("fanout", 0)
    seconds = max(seconds, FEWEST_S) if members > DEAF else seconds
    if not flooded:
        with Device(down, None if case == CASES[0] else up) as device:
            return device.sends(seconds)
    words = ("fanout", "127.0.0.1", down, members, seconds + 2, WINDOW, peer.answer_size("fanout"), 0)
    with Load("wireload", *words) as load:
        os.setpriority(os.PRIO_PROCESS, load.process.pid, 10)  # who hears is another machine's work
        os.sched_setaffinity(load.process.pid, {hearing})
        load.tell(blob(peer, "fanout", members))
        while load.hear() != "begin":
            pass
        with deaf_members(down, room, min(DEAF, members)), Device(down, None if case == CASES[0] else up) as device:
            device.join(room)
            found = device.sends(seconds)
        while load.hear() != "end":
            pass
        return {**found, "messages_per_s": load.result()["messages_per_s"]}


def _grown(case: CaseResult, name: str) -> Figure | None:
    """The p99 under the flood to that without, run by run."""
    return case.ratio(f"{name}, alone", "p99_us", ours=f"{name}, flooded")


def row(plan: Plan) -> RowResult:
    """The row."""
    if redis_server.missing is not None:
        plan.left_out["redis-server"] = redis_server.missing
    members = plan.sizes.members
    contenders: list[Contender] = [
        (
            f"{case}, {'flooded' if flooded else 'alone'}",
            partial(_measured, case, flooded, members, plan.seconds),
        )
        for case in CASES
        for flooded in (False, True)
        if redis_server.missing is None
    ]
    case = run_case(plan, f"a room of {members:,}, window {WINDOW}", contenders, COLUMNS)
    verdicts = [at_most("processes apart: p99 of a send's ACK, flooded ÷ alone", 2, _grown(case, CASES[2]))]
    notes = [
        f"Every process is on Redis. Flooded: {members:,} members of a room are sent as much as their gateway can, the "
        f"device is one more and reads {READS // 1000} kB a second, as on a poor network, and {min(DEAF, members)} "
        "read nothing. Apart, the gateway of the room has one core, with the load, which has less of it (nice 10): its "
        "listeners are other machines' work. The gateway for what goes up, the service and Redis share the other core.",
        *(f"{name}: p99 flooded ÷ alone {value.median:,.2f}" for name in CASES if (value := _grown(case, name))),
    ]
    return RowResult("split", "a send's ACK while rooms are at full load", [case], verdicts, notes)
