"""Exchanges of the tunnel as a client sees them that was written against the wire alone: a request in bytes, a response
read by the rules of RFC 9112 that it needs, and the frames in it. Nothing of imcore."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

from tests.gateway.wire import HEAD, Got, Wire, hello

OF_EACH = {"via", "x-cache", "x-cache-lookup", "x-varnish", "age"}
"""Fields that each proxy on the way may add once more."""


class Answered(NamedTuple):
    """One response, whole."""

    status: int
    fields: dict[str, str]
    body: bytes
    head_size: int

    @property
    def frames(self) -> list[Got]:
        assert self.status == 200, self
        return frames(self.body)

    @property
    def code(self) -> str:
        """Of the ERROR that is its last frame."""
        return str(self.frames[-1].map["code"])


def frames(body: bytes) -> list[Got]:
    """All of `body`, which must be whole frames."""
    found, at = [], 0
    while at < len(body):
        magic, type, flags, route_len, length, id = HEAD.unpack_from(body, at)
        assert magic == 0xA1
        at += HEAD.size
        assert at + length <= len(body)
        found.append(Got(type, flags, id, body[at : at + route_len].decode(), body[at + route_len : at + length]))
        at += length
    return found


def post(*said: bytes, version: str = "1.1", more: str = "", target: str = "/im") -> bytes:
    """The request of one exchange."""
    body = b"".join(said)
    head = (
        f"POST {target} HTTP/{version}\r\nHost: im.example.com\r\nContent-Type: application/octet-stream\r\n"
        f"Content-Length: {len(body)}\r\n{more}\r\n"
    )
    return head.encode() + body


def up(token: str = "alice", **more: object) -> bytes:
    return hello(token, role="up", **more)


def down(token: str = "alice", poll_ms: int = 0, **more: object) -> bytes:
    return hello(token, role="down", poll_ms=poll_ms, **more)


class Tunnel(Wire):
    """`async with Tunnel(address) as tunnel:` one connection, for exchanges and other requests."""

    async def ask(self, *said: bytes, seconds: float = 20) -> Answered:
        """One exchange."""
        self.say(post(*said))
        return await self.answer(seconds)

    async def answer(self, seconds: float = 20, *, to_head: bool = False) -> Answered:
        """The next response. to_head: to a HEAD request, which has no body."""
        async with asyncio.timeout(seconds):
            status, fields, size = await self.head()
            if to_head:
                body = b""
            elif "transfer-encoding" in fields:
                body = b"".join([piece async for piece in self.pieces()])
            elif "content-length" in fields:
                body = await self.reader.readexactly(int(fields["content-length"]))
            else:
                body = await self.reader.read()
        return Answered(status, fields, body, size)

    async def head(self, seconds: float = 20) -> tuple[int, dict[str, str], int]:
        """The next response's status, fields, and size up to the body."""
        async with asyncio.timeout(seconds):
            head = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].decode().split("\r\n")
        assert first.startswith("HTTP/1.1 ")
        fields: dict[str, str] = {}
        for name, _, value in (line.partition(":") for line in lines):
            assert name.lower() not in fields or name.lower() in OF_EACH
            fields[name.lower()] = value.strip()
        return int(first.split(" ")[1]), fields, len(head)

    async def piece(self, seconds: float = 20) -> bytes:
        """The next chunk of a streamed response; b"" is the last one."""
        async with asyncio.timeout(seconds):
            size = int((await self.reader.readuntil(b"\r\n"))[:-2], 16)
            data = await self.reader.readexactly(size + 2)
        assert data[-2:] == b"\r\n"
        return data[:-2]

    async def pieces(self) -> AsyncIterator[bytes]:
        """The rest of a streamed response."""
        while piece := await self.piece():
            yield piece

    async def stream(self, *said: bytes) -> list[Got]:
        """Begin one that streams: the frames of its first chunk."""
        self.say(post(*said))
        status, fields, _ = await self.head()
        assert (status, fields["transfer-encoding"]) == (200, "chunked")
        return frames(await self.piece())
