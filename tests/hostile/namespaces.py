"""Hosts of the lab: network namespaces with cables between them, made for one case and removed with it. Needs root."""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import IO, Any, Self

__all__ = ["Host", "cable", "inside", "missing"]

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count(1)


def missing() -> str:
    """What this machine lacks for the lab; "" = nothing."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not os.path.exists("/dev/net/tun"):
        return "there is no /dev/net/tun"
    lacking = [program for program in ("ip", "iptables") if shutil.which(program) is None]
    if lacking:
        return f"{' and '.join(lacking)} not found: apt-get install iproute2 iptables"
    made = subprocess.run(["ip", "netns", "add", f"imlab-{os.getpid()}-0"], capture_output=True, text=True)
    if made.returncode:
        return f"network namespaces can't be made: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", f"imlab-{os.getpid()}-0"], check=True)
    return ""


def run(*words: str) -> None:
    """A command that has to succeed; what it says is in the error."""
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")


class Host:
    """A namespace: `with Host("client") as client: client.start("python", …)`. What was started in it ends with it."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.name = f"imlab-{os.getpid()}-{next(_numbers)}-{role}"[:63]
        self._processes: list[subprocess.Popen[Any]] = []

    def __enter__(self) -> Self:
        run("ip", "netns", "add", self.name)
        self.ip("link", "set", "lo", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            self.end(process)
        run("ip", "netns", "del", self.name)

    def ip(self, *words: str) -> None:
        """`ip …` in this host."""
        run("ip", "-n", self.name, *words)

    def iptables(self, rule: str) -> None:
        """`iptables …` in this host."""
        run("ip", "netns", "exec", self.name, "iptables", "-w", *rule.split())

    def set(self, **values: int | str) -> None:
        """Kernel settings below `net.`, with `__` for a dot."""
        for name, value in values.items():
            run("ip", "netns", "exec", self.name, "sysctl", "-qw", f"net.{name.replace('__', '.')}={value}")

    def route(self) -> None:
        """Pass on what is for others."""
        self.set(ipv4__ip_forward=1)

    def start(
        self, *words: str, env: Mapping[str, str] | None = None, log: IO[Any] | None = None, **options: Any
    ) -> subprocess.Popen[Any]:
        """A program in this host; it is killed when the host goes."""
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.name, *words],
            env={**os.environ, **(env or {})},
            stderr=log,
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
    """A cable between two hosts with an address at each end, as `10.0.0.1/24`; the names of its ends."""
    number = next(_numbers)
    ends = f"ve{number}a", f"ve{number}b"
    run("ip", "link", "add", ends[0], "netns", one.name, "type", "veth", "peer", "name", ends[1], "netns", other.name)
    for host, end, address in zip((one, other), ends, addresses, strict=True):
        host.ip("addr", "add", address, "dev", end)
        host.ip("link", "set", end, "up")
    return ends
