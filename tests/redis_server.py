"""A redis-server of the test's own: on a free port, in a temporary folder, gone with the process that started it."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

__all__ = ["RedisServer", "missing", "shared"]

PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")
missing = None if PROGRAM else "there is no redis-server here: apt-get install redis-server"
"""Why there can't be one, or None."""
START_S = 20.0


class RedisServer:
    """cluster: a cluster of one node, which refuses a call that touches two slots. sync: Redis's appendfsync. folder:
    where its own is made."""

    def __init__(
        self, *, cluster: bool = False, sync: str = "everysec", more: Sequence[str] = (), folder: str | None = None
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="imcore-redis-", dir=folder))
        self.port = _free_port()
        self._words = [
            "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", "",
            "--appendonly", "yes", "--appendfsync", sync, *more,
        ]  # fmt: skip
        if cluster:
            self._words += ["--cluster-enabled", "yes"]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()
        if cluster:
            self.command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
            self._until(lambda: b"cluster_state:ok" in self.command("CLUSTER", "INFO"))

    def start(self) -> None:
        """Start it, with what an earlier life left."""
        assert PROGRAM is not None
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([PROGRAM, *self._words], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self._until(lambda: self.command("PING").startswith(b"+PONG"))

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
            return connection.recv(65536)

    def info(self, section: str) -> dict[str, str]:
        """What INFO says of itself there."""
        lines = self.command("INFO", section).decode().splitlines()
        return {name: value for name, _, value in (line.partition(":") for line in lines) if value}

    def _until(self, holds: object) -> None:
        assert callable(holds)
        end = time.monotonic() + START_S
        while True:
            with suppress(OSError):
                if holds():
                    return
            if time.monotonic() > end or self._process.poll() is not None:
                raise RuntimeError(f"redis-server did not start: {(self.folder / 'log').read_text()[-500:]}")
            time.sleep(0.02)


def _free_port() -> int:
    """One whose neighbour 10,000 above is free too: a cluster's nodes talk there."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            with suppress(OSError, OverflowError):
                other.bind(("127.0.0.1", port + 10_000))
                return port


def shared(cluster: bool = False) -> RedisServer:
    """One for the whole process: who uses it keeps to a space of its own."""
    return _started(cluster)


@cache
def _started(cluster: bool) -> RedisServer:
    server = RedisServer(cluster=cluster)
    atexit.register(server.close)
    return server
