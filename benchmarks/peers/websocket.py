"""picows and websockets: the smallest server that each allows, on uvloop (serve_picows.py, serve_websockets.py)."""

from __future__ import annotations

import base64
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .base import PAYLOAD, Beat, Hello, Mode, Peer

__all__ = ["Picows", "Websockets"]

FINAL_BINARY, FINAL_PING, MASKED = 0x82, 0x89, 0x80


class _WebSocket(Peer):
    """Links that listen ask for the path /member; in echo each is answered by itself."""

    def missing(self) -> str | None:
        try:
            version(self.name)
        except PackageNotFoundError:
            return f"{self.name} is not installed"
        return None

    def version(self) -> str:
        return version(self.name)

    def command(self, folder: Path, port: int, mode: Mode) -> list[str]:
        return [sys.executable, "-m", f"benchmarks.peers.serve_{self.name}", str(port), mode]

    def hello(self, mode: Mode, i: int) -> Hello:
        path = b"/member" if mode == "fanout" and i > 0 else b"/"
        key = base64.b64encode(b"%016d" % i)
        return Hello(
            b"GET %s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n" % (path, key),
            120,  # the shortest answer is longer
        )

    def message(self, mode: Mode, i: int) -> bytes:
        return bytes([FINAL_BINARY, MASKED | len(PAYLOAD)]) + bytes(4) + PAYLOAD

    def answer_size(self, mode: Mode) -> int:
        return 2 + len(PAYLOAD)

    def beat(self) -> Beat:
        return Beat(bytes([FINAL_PING, MASKED]) + bytes(4), 2)


class Picows(_WebSocket):
    name = "picows"


class Websockets(_WebSocket):
    name = "websockets"
