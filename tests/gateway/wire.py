"""A client written against the wire alone: `struct` and MessagePack, nothing of imcore. It does what it is told, right
or wrong, and shows what comes back."""

from __future__ import annotations

import asyncio
import ssl
import struct
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec

HELLO, WELCOME, PING, PONG, MSG, ACK, JOIN, LEAVE, GOAWAY, ERROR, PAD = range(1, 12)
DUP, ROOM, FAILED = 1, 2, 4
HEAD = struct.Struct(">BBBBIQ")


class Got(NamedTuple):
    """One frame as it came."""

    type: int
    flags: int
    id: int
    route: str
    body: bytes

    @property
    def map(self) -> dict[str, Any]:
        return msgspec.msgpack.decode(self.body, type=dict[str, Any])


def frame(type: int, id: int = 0, route: str = "", body: bytes = b"", flags: int = 0) -> bytes:
    name = route.encode()
    return HEAD.pack(0xA1, type, flags, len(name), len(name) + len(body), id) + name + body


def hello(token: str = "alice", **more: object) -> bytes:
    values = {"token": token, "device": "phone", "role": "both", "resume": None, "client": "wire/1", **more}
    return frame(HELLO, body=msgspec.msgpack.encode(values))


class Wire:
    """`async with Wire(address) as wire:` speaks raw frames, or TLS with a context."""

    def __init__(self, address: str, tls: ssl.SSLContext | None = None) -> None:
        host, _, port = address.rpartition(":")
        self.host, self.port, self.tls = host, int(port), tls

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection(
            self.host, self.port, ssl=self.tls, server_hostname="localhost" if self.tls else None
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.transport.abort()

    def say(self, *frames: bytes) -> None:
        self.writer.write(b"".join(frames))

    def hold(self, on: bool) -> None:
        """Read nothing of what comes, or go on."""
        transport: asyncio.ReadTransport = self.writer.transport  # type: ignore[assignment]  # a socket's is both
        (transport.pause_reading if on else transport.resume_reading)()

    async def hear(self, seconds: float = 5) -> Got:
        async with asyncio.timeout(seconds):
            magic, type, flags, route_len, length, id = HEAD.unpack(await self.reader.readexactly(16))
            rest = await self.reader.readexactly(length)
        assert magic == 0xA1
        return Got(type, flags, id, rest[:route_len].decode(), rest[route_len:])

    async def hear_end(self, seconds: float = 5) -> None:
        """Nothing more comes, and the other side has closed."""
        async with asyncio.timeout(seconds):
            rest = await self.reader.read()
        assert rest == b""

    async def greet(self, token: str = "alice", **more: object) -> dict[str, Any]:
        """HELLO, and the WELCOME's map."""
        self.say(hello(token, **more))
        got = await self.hear()
        assert got.type == WELCOME, got
        return got.map

    async def quiet(self, seconds: float = 0.2) -> None:
        """Nothing comes for so long."""
        try:
            got = await self.hear(seconds)
        except TimeoutError:
            return
        raise AssertionError(f"expected nothing, got {got}")
