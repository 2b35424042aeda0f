"""Those who only mean to keep the gateway busy: each of their connections costs a bounded piece of memory, they are let
go, and honest links are answered meanwhile. Figures are the bench's (`make bench ROWS=floods`)."""

from __future__ import annotations

import random
import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from benchmarks.bench.machine import resident
from tests.cli.running import Place
from tests.gateway.exchanges import post, up
from tests.gateway.wire import HEAD, PING, PONG, WELCOME, frame, hello
from tests.others import SANITIZED

pytestmark = [
    pytest.mark.platform,
    pytest.mark.skipif(sys.platform != "linux", reason="memory and descriptors of a process are read from /proc"),
]

COUNT = 400
BYTES_EACH = 32 * 1024
"""A connection's memory, and what the allocator adds; the bench holds it to half of that."""
EVERY = 8
"""Connections of the flood for each heartbeat of the honest link."""
BEAT_S = 1.0
GONE_S = 20.0
ANSWERED = "requests without end"
"""They are whole and right, and are answered: who asked them is idle then, and stays for `idle_s`, as anybody may."""
OWN = 5
"""Files that the node may open for itself meanwhile."""
CONFIG = """
[[listen]]
address = "127.0.0.1:0"
[auth]
mode = "anonymous"
[limits]
handshake_s = 1.0
"""

BODY = post(up("eve"), bytes(60_000))
FLOODS: dict[str, Callable[[random.Random], bytes]] = {
    "silent": lambda chance: b"",
    "half a frame": lambda chance: hello("eve")[:20],
    "half a head": lambda chance: b"POST /im HTTP/1.1\r\nHost: x\r\nX: " + b"y" * chance.randrange(3000),
    "half a body": lambda chance: BODY[: chance.randrange(300, 40_000)],
    "random bytes": lambda chance: chance.randbytes(4096),
    "random bytes in a frame": lambda chance: b"\xa1" + chance.randbytes(4096),
    ANSWERED: lambda chance: b"GET /im/probe?n=x HTTP/1.1\r\nHost: x\r\n\r\n" * 50,
}


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def heard(sock: socket.socket) -> int:
    """The type of the next frame."""
    head = HEAD.unpack(_exactly(sock, HEAD.size))
    _exactly(sock, head[4])
    return int(head[1])


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        assert piece, "the gateway closed the honest link"
        data += piece
    return data


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_is_small_is_let_go_and_is_no_reason_to_wait(tmp_path: Path, name: str) -> None:
    place = Place(tmp_path)
    (tmp_path / "imcore.toml").write_text(CONFIG)
    chance = random.Random(name)
    with place.serving("--config", "imcore.toml") as process, ExitStack() as stack:
        host, _, port = place.env["IMCORE_POINT"].rpartition(":")
        honest = stack.enter_context(socket.create_connection((host, int(port)), 5))
        honest.sendall(hello("alice"))
        assert heard(honest) == WELCOME
        before, open_before = resident(process.pid), descriptors(process.pid)
        longest, memory, opened = 0.0, before, open_before
        for number in range(1, COUNT + 1):
            sock = stack.enter_context(socket.create_connection((host, int(port)), 5))
            sock.setblocking(False)
            with suppress(OSError):  # it was let go, or takes no more
                sock.send(FLOODS[name](chance))
            if number % EVERY == 0:
                began = time.monotonic()
                honest.sendall(frame(PING, number))
                assert heard(honest) == PONG
                longest = max(longest, time.monotonic() - began)
                memory = max(memory, resident(process.pid))
                opened = max(opened, descriptors(process.pid))
        assert SANITIZED or (memory - before) / COUNT < BYTES_EACH
        assert name.startswith("random") or opened > open_before + COUNT // 2, "the flood was never there at once"
        assert longest < BEAT_S
        until = time.monotonic() + GONE_S
        while name != ANSWERED and descriptors(process.pid) > open_before + OWN:
            assert time.monotonic() < until, f"{descriptors(process.pid) - open_before} connections are kept"
            time.sleep(0.1)
