"""What a contender is to the bench: how its server is started, and the bytes that its clients say.

The load generators know no protocol (but p2p): a peer hands them the bytes, and how many bytes answer them. Nothing
here opens a socket.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["PAYLOAD", "TEXT", "Beat", "Hello", "Mode", "Peer", "People"]

Mode = Literal["fanout", "echo", "apart"]
"""fanout: connection 0 publishes, the others listen, all on one topic. echo: each connection listens to a topic of its
own and publishes there. apart: a connection that is on no topic."""

PAYLOAD = b"x" * 100
TEXT = 100
"""Bytes of a durable message's text, which p2p writes and checks."""


@dataclass(frozen=True)
class Hello:
    """What a connection says first; `wait` bytes at least answer it."""

    data: bytes
    wait: int


@dataclass(frozen=True)
class Beat:
    """A heartbeat, and the bytes that answer it."""

    data: bytes
    answer: int


@dataclass(frozen=True)
class People:
    """A pair of p2p's: both hellos and one message, with a text of `TEXT` bytes to be written into it."""

    receiver: bytes
    sender: bytes
    message: bytes
    id_at: int
    id_size: int
    text_at: int


class Peer(ABC):
    """One contender. `name` is what it is called in tables; `package` is Debian's, if one would install it."""

    name: str
    package: str | None = None

    @abstractmethod
    def missing(self) -> str | None:
        """Why it can't be run here, or None."""

    @abstractmethod
    def version(self) -> str:
        """What is measured, for the record."""

    @abstractmethod
    def command(self, folder: Path, port: int, mode: Mode) -> list[str]:
        """Starts the server on this port of 127.0.0.1, in the foreground, with its files in `folder`."""

    @abstractmethod
    def hello(self, mode: Mode, i: int) -> Hello:
        """The first bytes of connection number i."""

    @abstractmethod
    def message(self, mode: Mode, i: int) -> bytes:
        """One message of connection number i, with `PAYLOAD` in it."""

    @abstractmethod
    def answer_size(self, mode: Mode) -> int:
        """The bytes in which a message arrives at a connection."""

    def beat(self) -> Beat:
        """A heartbeat."""
        raise NotImplementedError(f"{self.name} is not in the rows that need this")

    def people(self, i: int) -> People:
        """Pair number i of p2p's."""
        raise NotImplementedError(f"{self.name} is not in the rows that need this")
