"""Requests' and responses' bodies past aiohttp: from the socket into a file, from a file into the socket.

aiohttp reads the head of each request and writes that of each response. What is large between them goes by a
descriptor of our own for the same connection, on a thread. Over TLS, where the kernel can't, it goes through aiohttp.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress

from aiohttp import web

from .mover import Move, Movers
from .part import Part
from .refusal import Refusal
from .store import Source

__all__ = ["Bodies"]

BARE_LEAST = 64 * 1024
"""Bytes that are worth a descriptor."""
PIECE = 256 * 1024
LINGER_S = 2.0
"""How long the rest of a request that was refused is read and thrown away, so that its answer is not lost."""


class Bodies:
    """Of one service's requests and responses."""

    def __init__(self, movers: Movers) -> None:
        self._movers = movers
        self._unread: dict[int, socket.socket] = {}  # of requests that were refused half-way, until they are answered

    async def receive(self, request: web.Request, part: Part, most: int, move: Move) -> None:
        """The body of a request, `most` bytes at most, into a part. Raises OSError if the connection breaks or the disk
        fails, `Refusal`. May leave the connection unfit for another request."""
        content = request.content
        length = request.content_length
        sock = _bare(request) if length is not None and length > BARE_LEAST else None
        if sock is None:
            await self._through(request, part, most, move)
            return
        assert length is not None
        with sock:
            early = []
            while data := content.read_nowait():  # reading may bring more out of the parser
                early.append(data)
            transport = request.transport
            if transport is None:
                raise ConnectionResetError("the other side went away")
            left = length - content.total_bytes
            if not left:
                await self._hand(part, b"".join(early), move)
                return
            transport.pause_reading()
            content.feed_eof()  # for aiohttp the request ends here: it shall not wait for the rest
            transport.pause_reading()  # it read on for a moment
            try:
                await self._hand(part, b"".join(early), move)
                await self._movers.receive(sock, part, left, move)
            except (Refusal, OSError) as error:
                if not isinstance(error, ConnectionError):
                    self._unread[id(request)] = sock.dup()
                raise

    async def _through(self, request: web.Request, part: Part, most: int, move: Move) -> None:
        held: list[bytes] = []
        size = total = 0
        while True:
            try:
                async with asyncio.timeout(move.idle_s):
                    data = await request.content.readany()
            except TimeoutError:
                raise Refusal(408, f"nothing moved for {move.idle_s:g} s") from None
            move.check()
            total += len(data)
            if total > most:
                raise Refusal(413, f"expected at most {most} bytes, and more came")
            held.append(data)
            size += len(data)
            if size >= PIECE or not data:
                await self._hand(part, b"".join(held), move)
                held, size = [], 0
            if not data:
                return

    async def _hand(self, part: Part, data: bytes, move: Move) -> None:
        """What has come already: it is taken, and paid for afterwards."""
        await self._movers.hand(part, data)
        left = len(data)
        while left:
            left -= await move.pace.take(left)

    async def linger(self, request: web.Request) -> None:
        """After the response to a request that was refused half-way: read on for a while, and throw it away."""
        sock = self._unread.pop(id(request), None)
        if sock is None:
            return
        buffer = bytearray(PIECE)
        with sock, suppress(TimeoutError, OSError):
            sock.setblocking(False)
            async with asyncio.timeout(LINGER_S):
                while await asyncio.get_running_loop().sock_recv_into(sock, buffer):
                    pass

    async def send(
        self, request: web.Request, response: web.StreamResponse, source: Source, start: int, stop: int, move: Move
    ) -> None:
        """Bytes [start, stop) of a file into a response that was prepared. Raises OSError, `Damaged`, `Refusal`."""
        sock = _bare(request) if source.fd is not None and stop - start > BARE_LEAST else None
        if sock is None:
            async for data in source.read(start, stop):
                left = len(data)
                while left:
                    left -= await move.pace.take(left)
                await response.write(data)
                move.check()
            return
        assert source.fd is not None
        with sock:
            await _flushed(request, move)
            await self._movers.send(sock, source.fd, start, stop - start, move)


def _bare(request: web.Request) -> socket.socket | None:
    """Another descriptor for the connection, if its bytes are HTTP as they are."""
    transport = request.transport
    if transport is None or transport.get_extra_info("sslcontext") is not None:
        return None
    theirs = transport.get_extra_info("socket")
    if theirs is None or theirs.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
        return None
    sock = socket.socket(theirs.family, theirs.type, fileno=os.dup(theirs.fileno()))
    sock.setblocking(False)
    return sock


async def _flushed(request: web.Request, move: Move) -> None:
    """What the response said so far is with the kernel: what goes past the transport may not overtake it."""
    async with asyncio.timeout(move.idle_s):
        while True:
            transport = request.transport
            if transport is None or transport.is_closing():
                raise ConnectionResetError("the other side went away")
            if not transport.get_write_buffer_size():
                return
            await asyncio.sleep(0)
