"""The project's gateway, and the yardstick that speaks its frames (benchmarks/load/limit.c)."""

from __future__ import annotations

import json
import os
import shlex
import struct
import sys
from importlib.metadata import version
from pathlib import Path

from imcore._codec import HELLO, JOIN, MSG, PING, ROOM, encode
from imcore.messages import Hello as HelloMap
from imcore.messages import pack

from .base import PAYLOAD, TEXT, Beat, Hello, Mode, Peer, People

__all__ = ["HEADER", "Imcore", "Limit"]

HEADER = 16


class Limit(Peer):
    """No protocol to speak of: HELLO and JOIN are answered by themselves, everything else is relayed."""

    name = "limit"

    def __init__(self, program: Path) -> None:
        self._program = program

    def missing(self) -> str | None:
        return None if self._program.exists() else "it could not be compiled"

    def version(self) -> str:
        return "bare C"

    def command(self, folder: Path, port: int, mode: Mode) -> list[str]:
        return [str(self._program), str(port), mode]

    def hello(self, mode: Mode, i: int) -> Hello:
        return Hello(encode(JOIN if mode == "echo" or (mode == "fanout" and i > 0) else HELLO), HEADER)

    def message(self, mode: Mode, i: int) -> bytes:
        return encode(MSG, 0, "", PAYLOAD)

    def answer_size(self, mode: Mode) -> int:
        return HEADER + len(PAYLOAD)


class Imcore(Peer):
    """A room of everyone, or a room of one's own; the built-in chat service for durable messages.

    settings: lines of the configuration file. tls: certificate and key, PEM. IMCORE in the environment is another
    command than this checkout's, in a shell's words.
    """

    def __init__(self, name: str = "imcore", settings: str = "", tls: tuple[Path, Path] | None = None) -> None:
        self.name = name
        self._settings = settings
        self._tls = tls

    def missing(self) -> str | None:
        return None

    def version(self) -> str:
        return version("imcore")

    def command(self, folder: Path, port: int, mode: Mode) -> list[str]:
        program = shlex.split(os.environ.get("IMCORE", "")) or [sys.executable, "-m", "imcore"]
        command = [*program, "serve", "--anonymous", "--data", str(folder / "data")]
        if not self._settings and self._tls is None:
            return [*command, "--listen", f"127.0.0.1:{port}"]
        listen = f'[[listen]]\naddress = "127.0.0.1:{port}"\n'
        if self._tls is not None:
            listen += f'tls = {{ certificate = "{self._tls[0]}", key = "{self._tls[1]}" }}\n'
        config = folder / "imcore.toml"
        config.write_text(listen + self._settings)
        return [*command, "--config", str(config)]

    def room(self, mode: Mode, i: int) -> str:
        """The room of connection number i."""
        return "t" if mode == "fanout" else f"t{i:05}"

    def greet(self, user: str) -> bytes:
        """HELLO of an anonymous user with one device."""
        return encode(HELLO, 0, "", pack(HelloMap(token=user, device="d", role="both", client="bench")))

    def hello(self, mode: Mode, i: int) -> Hello:
        greeting = self.greet(f"u{i:06}")
        if mode == "apart":
            return Hello(greeting, 100)
        return Hello(greeting + encode(JOIN, 1, self.room(mode, i)), 100 + HEADER)  # WELCOME has more than 100 bytes

    def message(self, mode: Mode, i: int) -> bytes:
        return encode(MSG, 0, self.room(mode, i), PAYLOAD, ROOM)

    def answer_size(self, mode: Mode) -> int:
        return len(self.message(mode, 0))

    def beat(self) -> Beat:
        return Beat(encode(PING, 7), HEADER + 8)  # PONG, with the newest number in the inbox

    def people(self, i: int) -> People:
        receiver = f"r{i:06}"
        before = json.dumps({"to": receiver, "text": ""}, separators=(",", ":")).removesuffix('"}').encode()
        message = encode(MSG, 1, "chat", before + bytes(TEXT) + b'"}')
        text_at = message.index(before) + len(before)
        return People(self.greet(receiver), self.greet(f"s{i:06}"), message, 8, 8, text_at)

    def durable(self, user: str, first: int, count: int) -> bytes:
        """Messages of one sender for `user`, with ids from `first` on."""
        body = json.dumps({"to": user, "text": "y" * TEXT}, separators=(",", ":")).encode()
        return b"".join(encode(MSG, first + n, "chat", body) for n in range(count))

    def numbered(self, size: int) -> tuple[bytes, int]:
        """A room message whose body of `size` bytes begins with an 8-byte number, and where in it that is."""
        room = self.room("fanout", 0)
        return encode(MSG, 0, room, struct.pack(">Q", 0) + bytes(size - 8), ROOM), HEADER + len(room)
