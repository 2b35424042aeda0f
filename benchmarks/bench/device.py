"""A device of the bench: it sends durable messages, one after another, on its one link or on one for what goes up, and
reads what comes down no faster than a poor network brings it."""

from __future__ import annotations

import json
import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Self

from imcore._codec import ACK, HELLO, JOIN, MSG, encode
from imcore.messages import Hello, Role, pack

from ..peers.base import TEXT
from ..peers.frames import HEADER
from .figures import Sample
from .running import Failed

__all__ = ["READS", "Device", "deaf_members"]

EVERY_S = 0.005
"""Between two sends."""
READS = 100_000
"""Bytes a second that the device reads of what comes down."""
SLICE_S = 0.01
BUFFER = 16 * 1024
ANSWER_S = 60.0


class Device:
    """down: port of the gateway where it hears. up: port where it sends on another link; None: it has only the one."""

    def __init__(self, down: int, up: int | None) -> None:
        self._down = _Link(down, "both" if up is None else "down", slow=True)
        self._up = self._down if up is None else _Link(up, "up", slow=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._down.sock.close()
        self._up.sock.close()

    def join(self, room: str) -> None:
        """Hear what is said there. Raises `Failed`."""
        self._down.sock.sendall(encode(JOIN, 1, room))
        self._down.acked = 0
        self._acked(self._down, 1)

    def sends(self, seconds: float) -> Sample:
        """How long each message waited for its ACK. Raises `Failed`."""
        took: list[float] = []
        body = json.dumps({"to": "nobody", "text": "x" * TEXT}).encode()
        self._down.heard, id = 0, 1
        end = time.perf_counter() + seconds
        while (began := time.perf_counter()) < end or not took:
            id += 1
            self._up.sock.sendall(encode(MSG, id, "chat", body))
            self._acked(self._up, id)
            took.append(time.perf_counter() - began)
            while (now := time.perf_counter()) < began + EVERY_S:
                self._turn(began + EVERY_S - now)
        took.sort()
        part = {"p50_us": took[len(took) // 2], "p99_us": took[len(took) * 99 // 100], "max_us": took[-1]}
        counts = {"acks": float(len(took)), "heard": self._down.heard / seconds}
        return {**{name: value * 1e6 for name, value in part.items()}, **counts}

    def _acked(self, link: _Link, id: int) -> None:
        """Until it was answered. Raises `Failed`."""
        end = time.perf_counter() + ANSWER_S
        while link.acked != id:
            if time.perf_counter() > end:
                raise Failed(f"a message was not answered within {ANSWER_S:g} s")
            self._turn()

    def _turn(self, most_s: float = SLICE_S) -> None:
        """Read what is there, and for a moment wait for it."""
        links = {link.sock: link for link in (self._down, self._up) if link.may_read()}
        ready, _, _ = select.select(list(links), [], [], min(most_s, SLICE_S))
        for sock in ready:
            links[sock].read()


class _Link:
    """slow: it reads no more than `READS`."""

    def __init__(self, port: int, role: Role, *, slow: bool) -> None:
        self.acked = 0
        self.heard = 0
        self._data = bytearray()
        self._slow = slow
        self._since = time.perf_counter()
        self._read = 0
        self.sock = socket.socket()
        if slow:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self.sock.settimeout(5)
        self.sock.connect(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.sendall(encode(HELLO, 0, "", pack(Hello(token="prober", device="d", role=role, client="bench"))))

    def may_read(self) -> bool:
        return not self._slow or self._read < (time.perf_counter() - self._since) * READS + BUFFER / 8

    def read(self) -> None:
        data = self.sock.recv(BUFFER // 8)
        if not data:
            raise Failed("the gateway closed the device's link")
        self._read += len(data)
        self._data += data
        while len(self._data) >= HEADER:
            _, type, flags, _, length, id = struct.unpack_from(">BBBBIQ", self._data)
            if len(self._data) < HEADER + length:
                return
            del self._data[: HEADER + length]
            if type == MSG:
                self.heard += 1
            elif type == ACK:
                if flags:
                    raise Failed(f"message {id} was refused")
                self.acked = id


@contextmanager
def deaf_members(port: int, room: str, count: int) -> Iterator[None]:
    """Members that read nothing."""
    with ExitStack() as stack:
        for n in range(count):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", port), 5))
            hello = Hello(token=f"deaf{n:04}", device="d", role="down", client="bench")
            sock.sendall(encode(HELLO, 0, "", pack(hello)) + encode(JOIN, 1, room))
        yield
