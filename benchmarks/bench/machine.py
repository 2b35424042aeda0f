"""What the bench asks of the machine: which cores, a process's processor time and memory, and what to say about it all.

Linux only: it reads /proc. It changes nothing but its own affinity.
"""

from __future__ import annotations

import os
import platform
import socket
import statistics
import subprocess
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

__all__ = [
    "cores",
    "cpu_seconds",
    "facts",
    "foreign_seconds",
    "free_port",
    "peak",
    "reset_peak",
    "resident",
    "sync_us",
    "waited_seconds",
]

PAGE = os.sysconf("SC_PAGE_SIZE")
TICK = os.sysconf("SC_CLK_TCK")
IDLE = 3, 4
"""Columns of /proc/stat in which a core does nothing: idle, and idle while a disk works."""
CPUCLOCK_SCHED = 2
SOURCES = "src", "benchmarks", "setup.py", "pyproject.toml"


@cache
def cores() -> tuple[int, int]:
    """The server's and the load's, of those that we had at first; the same where there is only one."""
    ours = sorted(os.sched_getaffinity(0))
    return ours[0], ours[1] if len(ours) > 1 else ours[0]


def cpu_seconds(pid: int) -> float:
    """Processor time of a process, all its threads, in nanosecond steps (clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | CPUCLOCK_SCHED)


def foreign_seconds(*pids: int) -> float:
    """Time in which our cores were busy with something else than these processes, since some time ago: another program,
    or another machine on the same hardware (steal). The kernel counts it in ticks of some milliseconds."""
    busy, names = 0, {f"cpu{core}" for core in cores()}
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name in names:
            busy += sum(int(each) for column, each in enumerate(ticks[:8]) if column not in IDLE)
    return busy / TICK - sum(cpu_seconds(pid) for pid in pids)


def waited_seconds(*pids: int) -> float:
    """Time in which threads of these processes could have run, and had no core."""
    waited = 0
    for pid in pids:
        for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with suppress(OSError):  # it has ended
                waited += int(path.read_text().split()[1])
    return waited / 1e9


def resident(pid: int) -> int:
    """Bytes of memory that the process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def peak(pid: int) -> int:
    """The most that it held since `reset_peak`, bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no VmHWM of process {pid}")


def reset_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def sync_us(folder: Path, times: int = 100) -> float:
    """The median time in which 4 KiB become durable in a file of this folder, microseconds."""
    path = folder / "sync"
    took = []
    with path.open("wb", buffering=0) as file:
        for _ in range(times):
            file.write(bytes(4096))
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - began)
    path.unlink()
    return statistics.median(took) * 1e6


def facts(folder: Path) -> dict[str, object]:
    """What figures of this machine can be understood by."""
    return {
        "processor": _processor(),
        "cores": len(set(cores())),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * PAGE / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "commit": _commit(),
        "sync_us": round(sync_us(folder)),
        "load_before": round(os.getloadavg()[0], 2),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    """The commit that is checked out, with + behind it if what is measured, or what measures, differs from it."""
    try:
        commit, changed = (
            subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout.strip()
            for words in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--", *SOURCES])
        )
    except (OSError, subprocess.CalledProcessError):
        return "?"
    return commit + "+" * bool(changed)
