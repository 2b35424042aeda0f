"""A redis-server of the test's own: on a free port, in a temporary folder, gone with the process that started it."""

from __future__ import annotations

import atexit
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

from tests.others import ENVIRONMENT

__all__ = ["RedisCluster", "RedisServer", "missing", "shared"]

NAMED = os.environ.get("REDIS_SERVER", "")
"""The one that is meant, and no other."""
PROGRAM = shutil.which(NAMED) if NAMED else shutil.which("redis-server") or shutil.which("valkey-server")
START_S = 20.0


def _why_missing(program: str | None, named: str) -> str | None:
    """Why there can't be one, or None."""
    if program is not None:
        return None
    if named:
        return f"REDIS_SERVER is {named!r}: expected a program that is here; set it right, or not at all"
    return "there is no redis-server here: apt-get install redis-server"


missing = _why_missing(PROGRAM, NAMED)


class RedisServer:
    """sync: Redis's appendfsync. more: of its settings. folder: where its own is made. cluster: it is for one, which
    starts it."""

    def __init__(
        self,
        *,
        sync: str = "everysec",
        more: Sequence[str] = (),
        folder: str | None = None,
        cluster: bool = False,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="imcore-redis-", dir=folder))
        self.port = _free_port()
        self._words = [
            "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", "",
            "--appendonly", "yes", "--appendfsync", sync, *more,
        ]  # fmt: skip
        self.url = f"redis://127.0.0.1:{self.port}/0"
        if cluster:
            self._words += ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]
        else:
            self.start()

    def start(self) -> None:
        """Start it, with what an earlier life left."""
        assert PROGRAM is not None
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [PROGRAM, *self._words], stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=ENVIRONMENT
            )
        self.until(lambda: self.command("PING").startswith(b"+PONG"))

    @property
    def name(self) -> str:
        """By which a cluster knows it."""
        return f"{self.port:040x}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()

    def stop(self, on: bool) -> None:
        """It does not answer, or goes on."""
        os.kill(self._process.pid, signal.SIGSTOP if on else signal.SIGCONT)

    def close(self) -> None:
        """Nothing is left of it."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def command(self, *words: str) -> bytes:
        """One command over a connection of its own; the answer as it came."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            parts = [b"*%d\r\n" % len(words), *(b"$%d\r\n%b\r\n" % (len(w.encode()), w.encode()) for w in words)]
            connection.sendall(b"".join(parts))
            with connection.makefile("rb") as stream:
                return _reply(stream)

    def info(self, section: str) -> dict[str, str]:
        """What INFO says of itself there."""
        lines = self.command("INFO", section).decode().splitlines()
        return {name: value for name, _, value in (line.partition(":") for line in lines) if value}

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait until it holds, or raise what the log says."""
        end = time.monotonic() + START_S
        while True:
            with suppress(OSError):
                if holds():
                    return
            if time.monotonic() > end or self._process.poll() is not None:
                raise RuntimeError(f"redis-server did not start: {(self.folder / 'log').read_text()[-500:]}")
            time.sleep(0.02)


def _reply(stream: BinaryIO) -> bytes:
    """One reply (RESP2), whole, as it came. Raises `ConnectionError`."""
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionError(f"redis-server closed the connection within {line!r}")
    kind, size = line[:1], int(line[1:]) if line[:1] in b"$*" else -1
    if kind == b"*":
        return line + b"".join([_reply(stream) for _ in range(size)])
    if size < 0:
        return line
    body = stream.read(size + 2)
    if len(body) < size + 2:
        raise ConnectionError(f"redis-server closed the connection after {len(body)} of {size} bytes")
    return line + body


def _free_port() -> int:
    """One whose neighbour 10,000 above is free too: a cluster's nodes talk there. Never the same twice, and below those
    that connections take: it must be free yet when its server starts."""
    for port in _PORTS:
        with socket.socket() as one, socket.socket() as other, suppress(OSError):
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 10_000))
            return port
    raise RuntimeError("no port is left for another redis-server")


_PORTS = iter(random.SystemRandom().sample(range(10_000, 20_000), 10_000))


class RedisCluster:
    """Three masters, each with a third of the slots, which refuse what is another's and calls for two slots. replica:
    the last of them has one. more: settings of all."""

    def __init__(self, *, replica: bool = False, sync: str = "everysec", more: Sequence[str] = ()) -> None:
        # Else it takes a replica ten seconds to have a copy, and to be counted.
        more = (*more, "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
        self._nodes = [RedisServer(sync=sync, more=more, cluster=True) for _ in range(4 if replica else 3)]
        self.masters = self._nodes[:3]
        self.replica = self._nodes[3] if replica else None
        self.url = self.masters[0].url
        for node in self._nodes:
            (node.folder / "nodes.conf").write_text(self._map(node))
        for node in self._nodes:
            node.start()
        for node in self._nodes:
            self.met(node)
        if self.replica is not None:
            self._count(self.replica)

    def met(self, node: RedisServer) -> None:
        """Wait until this one knows all the others."""
        node.until(lambda: b"cluster_state:ok" in node.command("CLUSTER", "INFO"))

    def fail_over(self) -> None:
        """Whichever is the replica takes over in good order, and has the other one for its replica."""

        def replicas() -> list[RedisServer]:
            return [node for node in self._nodes if node.info("replication")["role"] == "slave"]

        self.masters[0].until(lambda: bool(replicas()))  # one that was a master lately soon knows that it is none
        (after,) = replicas()
        after.until(lambda: after.info("replication")["master_link_status"] == "up")
        self._count(after)
        asked = 0.0

        def took_over() -> bool:
            """Who has voted lately does not vote again, and after five seconds Redis tries no more."""
            nonlocal asked
            if time.monotonic() > asked + 5.5:
                asked = time.monotonic()
                after.command("CLUSTER", "FAILOVER")
            return after.info("replication")["role"] == "master"

        after.until(took_over)

    def close(self) -> None:
        """Nothing is left of it."""
        for node in self._nodes:
            node.close()

    def _count(self, replica: RedisServer) -> None:
        """Wait until all count on it: who is not known for a replica can't be promoted."""
        port = b":%d\r\n" % replica.port
        replica.until(lambda: all(port in node.command("CLUSTER", "SLOTS") for node in self._nodes))

    def _map(self, me: RedisServer) -> str:
        """What this one would have written down if all had met: that would take seconds."""
        ranks = [("master", "-", 1, "0-5460"), ("master", "-", 2, "5461-10922"), ("master", "-", 3, "10923-16383")]
        ranks.append(("slave", self.masters[2].name, 3, ""))
        lines = []
        for node, (role, of, epoch, slots) in zip(self._nodes, ranks, strict=False):
            role = f"myself,{role}" if node is me else role
            place = f"127.0.0.1:{node.port}@{node.port + 10_000}"
            lines.append(f"{node.name} {place} {role} {of} 0 0 {epoch} connected {slots}".rstrip())
        return "\n".join([*lines, "vars currentEpoch 3 lastVoteEpoch 0", ""])


def shared(cluster: bool = False) -> RedisServer | RedisCluster:
    """One for the whole process: who uses it keeps to a space of its own."""
    return _started(cluster)


@cache
def _started(cluster: bool) -> RedisServer | RedisCluster:
    server = RedisCluster() if cluster else RedisServer()
    atexit.register(server.close)
    return server
