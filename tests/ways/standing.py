"""Proxies in this process, as a test wants them: they do what they should, or answer what the test says."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

NAMES = {"im.example.com": "127.0.0.1", "localhost": "127.0.0.1"}
"""What these proxies can look up."""


@asynccontextmanager
async def standing(handler: Handler) -> AsyncIterator[int]:
    """A server that does so with each connection; gives its port."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await handler(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    tasks: list[asyncio.Task[None]] = []
    server = await asyncio.start_server(
        lambda reader, writer: tasks.append(asyncio.create_task(handle(reader, writer))), "127.0.0.1", 0
    )
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.sleep(0.01)  # who has connected by now is let in, and sent away
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended


def answers(data: bytes, *, then_closes: bool = True) -> Handler:
    """Reads something, and says that."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(data)
        await writer.drain()
        if not then_closes:
            await reader.read()

    return handle


class HttpProxy:
    """CONNECT, to what it is allowed to; absolute-form requests are only counted. asked: every request's first line."""

    def __init__(self, *, who: str | None = None, names: bool = True, addresses: bool = True) -> None:
        self.asked: list[str] = []
        self._who = who and "Basic " + base64.b64encode(who.encode()).decode()
        self._names, self._addresses = names, addresses

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.asked.append(first)
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if self._who is not None and fields.get("proxy-authorization") != self._who:
            writer.write(
                b'HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="here"\r\n\r\n'
            )
            return
        host, _, port = first.split(" ")[1].rpartition(":")
        if not (self._names if host in NAMES else self._addresses):
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
            return
        await _relay(reader, writer, host, int(port), b"HTTP/1.0 200 Connection", b" established\r\n\r\n")


class SocksProxy:
    """SOCKS 5, CONNECT alone. asked: every host as it came."""

    def __init__(self, *, who: str | None = None, names: bool = True) -> None:
        self.asked: list[str] = []
        self._who, self._names = who, names

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, count = await reader.readexactly(2)
        offered = await reader.readexactly(count)
        if self._who is not None:
            if 2 not in offered:
                writer.write(b"\x05\xff")
                return
            writer.write(b"\x05\x02")
            _, size = await reader.readexactly(2)
            user = await reader.readexactly(size)
            password = await reader.readexactly((await reader.readexactly(1))[0])
            fine = f"{user.decode()}:{password.decode()}" == self._who
            writer.write(b"\x01\x00" if fine else b"\x01\x01")
            if not fine:
                return
        else:
            writer.write(b"\x05\x00")
        kind = (await reader.readexactly(4))[3]
        if kind == 1:
            host = ".".join(str(byte) for byte in await reader.readexactly(4))
        else:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        port = int.from_bytes(await reader.readexactly(2))
        self.asked.append(host)
        if kind != 1 and not self._names:
            writer.write(b"\x05\x04\x00\x01" + bytes(6))
            return
        await _relay(reader, writer, host, port, b"\x05\x00\x00", b"\x01" + bytes(6))


async def _relay(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int, *grant: bytes
) -> None:
    """Say yes, in pieces, and pass bytes both ways until one side closes."""
    far_reader, far_writer = await asyncio.open_connection(NAMES.get(host, host), port)

    async def pump(come: asyncio.StreamReader, go: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await come.read(65536):
                go.write(data)
                await go.drain()
        go.close()

    try:
        for piece in grant:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02)
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
    finally:
        far_writer.close()
        with contextlib.suppress(OSError):
            await far_writer.wait_closed()
