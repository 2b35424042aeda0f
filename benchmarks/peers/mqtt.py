"""mosquitto: QoS 0 for what is transient, QoS 1 with persistent sessions for what is durable (MQTT 3.1.1)."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from pathlib import Path

from .base import PAYLOAD, TEXT, Beat, Hello, Mode, Peer, People

__all__ = ["Mosquitto"]

CONNECT, PUBLISH, PUBLISH_QOS_1, SUBSCRIBE, PINGREQ = 0x10, 0x30, 0x32, 0x82, 0xC0
CLEAN, KEEP = 0x02, 0x00
ALIVE_S = 600


def packet(head: int, body: bytes) -> bytes:
    """A packet with its length in front, 7 bits a byte."""
    size, left = b"", len(body)
    while True:
        left, low = divmod(left, 128)
        size += bytes([low | (0x80 if left else 0)])
        if not left:
            return bytes([head]) + size + body


def text(value: str) -> bytes:
    return struct.pack(">H", len(value)) + value.encode()


def connect(client: str, flags: int) -> bytes:
    return packet(CONNECT, text("MQTT") + b"\x04" + bytes([flags]) + struct.pack(">H", ALIVE_S) + text(client))


def subscribe(topic: str, qos: int) -> bytes:
    return packet(SUBSCRIBE, b"\0\1" + text(topic) + bytes([qos]))


class Mosquitto(Peer):
    """persistence: lines of its configuration that say what reaches the disk."""

    package = "mosquitto"

    def __init__(self, name: str = "mosquitto", persistence: str = "persistence false\n") -> None:
        self.name = name
        self._persistence = persistence
        self._program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")

    def missing(self) -> str | None:
        return None if self._program else "mosquitto is not installed"

    def version(self) -> str:
        assert self._program is not None
        said = subprocess.run([self._program, "-h"], capture_output=True, text=True, check=False).stdout
        found = re.search(r"version (\S+)", said)
        return found[1] if found else "?"

    def command(self, folder: Path, port: int, mode: Mode) -> list[str]:
        assert self._program is not None
        config = folder / "mosquitto.conf"
        (folder / "store").mkdir()
        config.write_text(
            f"user root\nlistener {port} 127.0.0.1\nallow_anonymous true\nmax_connections -1\nset_tcp_nodelay true\n"
            f"max_queued_messages 0\nmax_inflight_messages 0\nmemory_limit 0\n{self._persistence}"
            + (f"persistence_location {folder / 'store'}/\n" if "persistence true" in self._persistence else "")
        )
        return [self._program, "-c", str(config)]

    def topic(self, mode: Mode, i: int) -> str:
        return "t" if mode == "fanout" else f"t{i:05}"

    def hello(self, mode: Mode, i: int) -> Hello:
        greeting = connect(f"c{i:06}", CLEAN)
        if mode == "apart" or (mode == "fanout" and i == 0):
            return Hello(greeting, 4)
        return Hello(greeting + subscribe(self.topic(mode, i), 0), 9)

    def message(self, mode: Mode, i: int) -> bytes:
        return packet(PUBLISH, text(self.topic(mode, i)) + PAYLOAD)

    def answer_size(self, mode: Mode) -> int:
        return len(self.message(mode, 0))

    def beat(self) -> Beat:
        return Beat(packet(PINGREQ, b""), 2)

    def people(self, i: int) -> People:
        topic = text(f"r{i:06}")
        message = packet(PUBLISH_QOS_1, topic + b"\0\1" + bytes(TEXT))
        id_at = len(message) - TEXT - 2
        receiver = connect(f"r{i:06}", KEEP) + subscribe(f"r{i:06}", 1)
        return People(receiver, connect(f"s{i:06}", KEEP), message, id_at, 2, id_at + 2)
