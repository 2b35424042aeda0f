"""Redis (RESP) and NATS: publish and subscribe by lines of text."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from .base import PAYLOAD, Beat, Hello, Mode, Peer

__all__ = ["Nats", "Redis"]


class _Server(Peer):
    """A program of the system's that tells its version."""

    program: str

    def __init__(self) -> None:
        self._path = shutil.which(self.program) or shutil.which(self.program, path="/usr/sbin:/usr/local/sbin")

    def missing(self) -> str | None:
        return None if self._path else f"{self.program} is not installed"

    def version(self) -> str:
        said = subprocess.run([self.path, "--version"], capture_output=True, text=True, check=False).stdout
        found = re.search(r"v=?([0-9][0-9.]*)", said)
        return found[1] if found else "?"

    @property
    def path(self) -> str:
        assert self._path is not None
        return self._path

    def topic(self, mode: Mode, i: int) -> bytes:
        return b"t" if mode == "fanout" else b"t%05d" % i


class Redis(_Server):
    """Pub/sub. A Redis connection that subscribes can't publish: there is no echo."""

    name = "redis"
    program = package = "redis-server"

    def command(self, folder: Path, port: int, mode: Mode) -> list[str]:
        return [
            self.path, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder),
            "--maxclients", "60000", "--client-output-buffer-limit", "pubsub 0 0 0",
        ]  # fmt: skip

    def hello(self, mode: Mode, i: int) -> Hello:
        if mode == "apart" or (mode == "fanout" and i == 0):
            return Hello(b"PING\r\n", 7)
        topic = self.topic(mode, i)
        answer = b"*3\r\n$9\r\nsubscribe\r\n$%d\r\n%s\r\n:1\r\n" % (len(topic), topic)
        return Hello(b"SUBSCRIBE %s\r\n" % topic, len(answer))

    def _array(self, word: bytes, topic: bytes) -> bytes:
        parts = [word, topic, PAYLOAD]
        return b"*3\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)

    def message(self, mode: Mode, i: int) -> bytes:
        return self._array(b"PUBLISH", self.topic(mode, i))

    def answer_size(self, mode: Mode) -> int:
        return len(self._array(b"message", self.topic(mode, 0)))


class Nats(_Server):
    """Core NATS: at most once."""

    name = "nats"
    program = package = "nats-server"

    def command(self, folder: Path, port: int, mode: Mode) -> list[str]:
        return [self.path, "-a", "127.0.0.1", "-p", str(port)]

    def hello(self, mode: Mode, i: int) -> Hello:
        said = b'CONNECT {"verbose":false,"pedantic":false}\r\n'
        if mode == "echo" or (mode == "fanout" and i > 0):
            said += b"SUB %s 1\r\n" % self.topic(mode, i)
        return Hello(said + b"PING\r\n", 100)  # INFO, which is longer, then PONG

    def message(self, mode: Mode, i: int) -> bytes:
        return b"PUB %s %d\r\n%s\r\n" % (self.topic(mode, i), len(PAYLOAD), PAYLOAD)

    def answer_size(self, mode: Mode) -> int:
        return len(b"MSG %s 1 %d\r\n%s\r\n" % (self.topic(mode, 0), len(PAYLOAD), PAYLOAD))

    def beat(self) -> Beat:
        return Beat(b"PING\r\n", len(b"PONG\r\n"))
