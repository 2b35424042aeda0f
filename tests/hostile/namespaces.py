"""Hosts of the lab: network namespaces with cables between them, made for one case and removed with it. Needs root.

All that a run makes is named after its process, so that two runs never meet, and what a run left that was killed
itself is found by the next one (`sweep`).
"""

from __future__ import annotations

import ctypes
import itertools
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Self

from . import programs

__all__ = ["PREFIX", "Host", "bridge", "cable", "inside", "missing", "scratch", "sweep"]

CLONE_NEWNET = 0x40000000
PREFIX = "imlab-"
SETTINGS = Path("/etc/netns")
"""Where `ip netns exec` finds what a namespace has instead of the files in /etc."""
_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count(1)


def missing() -> str:
    """What this machine lacks for the lab; "" = nothing."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not os.path.exists("/dev/net/tun"):
        return "there is no /dev/net/tun"
    if why := programs.missing(["ip", "iptables"]):
        return why
    try:
        with Host("trial") as one, Host("trial") as other:
            cable(one, other, ("10.0.0.1/24", "10.0.0.2/24"))
            one.iptables("-A FORWARD -m conntrack --ctstate INVALID -j DROP")
            one.iptables("-t nat -A POSTROUTING -j MASQUERADE")
    except RuntimeError as error:
        return f"network namespaces can't be made: {error}"
    return ""


def run(*words: str) -> None:
    """A command that has to succeed; what it says is in the error."""
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")


def scratch() -> Path:
    """A temporary folder that says whose it is."""
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))


def sweep() -> None:
    """Remove what runs left that were killed without a chance to do so."""
    names = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout.split()
    for name in filter(_orphan, names):
        _remove(name)
    for folder in (Path(tempfile.gettempdir()), SETTINGS, Path("/dev/shm")):
        for left in filter(lambda path: _orphan(path.name), folder.glob("imlab*")):
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def _orphan(name: str) -> bool:
    """It is the lab's, and its run is over."""
    of = re.match(r"imlab[-x](\d+)\D", name)
    return of is not None and not os.path.exists(f"/proc/{of[1]}")


def _remove(name: str) -> None:
    """A namespace, and what still runs in it."""
    for process in subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout.split():
        with suppress(ProcessLookupError):
            os.kill(int(process), signal.SIGKILL)
    run("ip", "netns", "del", name)


class Host:
    """A namespace: `with Host("client") as client: client.start("python", …)`. What was started in it ends with it."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.name = f"{PREFIX}{os.getpid()}-{next(_numbers)}-{role}"[:63]
        self.settings = SETTINGS / self.name
        self._processes: list[subprocess.Popen[Any]] = []

    def __enter__(self) -> Self:
        run("ip", "netns", "add", self.name)
        try:
            self.ip("link", "set", "lo", "up")
            if os.path.exists("/proc/sys/net/ipv6"):
                self.set(ipv6__conf__all__disable_ipv6=1)  # what it asks its neighbours would be counted
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            self.end(process)
        _remove(self.name)
        for left in Path("/dev/shm").glob(f"{self.name.replace('-', 'x')}-*"):  # squid is called after its host
            left.unlink(missing_ok=True)
        shutil.rmtree(self.settings, ignore_errors=True)

    @property
    def busy(self) -> bool:
        """Something was started in it."""
        return bool(self._processes)

    def ip(self, *words: str) -> None:
        """`ip …` in this host."""
        run("ip", "-n", self.name, *words)

    def iptables(self, rule: str) -> None:
        """`iptables …` in this host."""
        run("ip", "netns", "exec", self.name, "iptables", "-w", *rule.split())

    def set(self, **values: int | str) -> None:
        """Kernel settings below `net.`, with `__` for a dot."""
        with inside(self):
            for name, value in values.items():
                Path("/proc/sys/net", *name.split("__")).write_text(str(value))

    def route(self) -> None:
        """Pass on what is for others."""
        self.set(ipv4__ip_forward=1)

    def start(
        self, *words: str, env: Mapping[str, str] | None = None, log: IO[Any] | None = None, **options: Any
    ) -> subprocess.Popen[Any]:
        """A program in this host; it is killed when the host goes, and not by a ^C that is meant for the run."""
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.name, *words],
            env={**os.environ, **(env or {})},
            stderr=log,
            start_new_session=True,
            **{"stdout": log, **options},
        )
        self._processes.append(process)
        return process

    @staticmethod
    def end(process: subprocess.Popen[Any]) -> None:
        """Kill it, if it has not ended."""
        process.kill()
        process.wait(10)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()


@contextmanager
def inside(host: Host) -> Iterator[None]:
    """This thread is in the host: what it opens there stays there."""
    with ExitStack() as stack:
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        stack.callback(os.close, home)
        there = os.open(f"/run/netns/{host.name}", os.O_RDONLY)
        stack.callback(os.close, there)
        _enter(there)
        stack.callback(_enter, home)
        yield


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def cable(one: Host, other: Host, addresses: Sequence[str]) -> tuple[str, str]:
    """A cable between two hosts with an address at each end, as `10.0.0.1/24`, or without; the names of its ends."""
    number = next(_numbers)
    ends = f"ve{number}a", f"ve{number}b"
    run("ip", "link", "add", ends[0], "netns", one.name, "type", "veth", "peer", "name", ends[1], "netns", other.name)
    for host, end, address in zip((one, other), ends, addresses, strict=True):
        if address:
            host.ip("addr", "add", address, "dev", end)
        host.ip("link", "set", end, "up")
    return ends


def bridge(host: Host, ends: Sequence[str]) -> None:
    """These cables of a host lead to each other."""
    host.ip("link", "add", "street", "type", "bridge")
    for end in ends:
        host.ip("link", "set", end, "master", "street")
    host.ip("link", "set", "street", "up")
