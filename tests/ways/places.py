"""Places that a way may lead to, on real sockets: gateways that prove themselves, and all kinds of others."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple, cast
from urllib.parse import parse_qs, urlsplit

import dns.asyncresolver
import dns.exception
import dns.message
import dns.rdatatype
import dns.rrset
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from imcore.access_list import AccessList, AccessPoint, BackOff, Direction, Port, sign_list
from imcore.points import Point
from imcore.proof import fill_page, probe_page
from imcore.ways.resolve import Resolve

__all__ = [
    "KEY",
    "KEYS",
    "Asked",
    "Place",
    "access",
    "gateway",
    "http",
    "listening",
    "listing",
    "name_server",
    "place",
    "relay",
    "says",
]

KEY = Ed25519PrivateKey.generate()
KEYS = [KEY.public_key()]


class Asked(NamedTuple):
    """One request."""

    target: str
    body: bytes


Place = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]
"""Answers a request."""


def http(
    body: bytes, status: str = "200 OK", kind: str = "text/plain", fields: str = "", length: int | None = None
) -> bytes:
    """A response. length: that it claims to have."""
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n{fields}\r\n".encode() + body


def gateway(delay_s: float = 0.0, key: Ed25519PrivateKey = KEY, cut: int | None = None) -> Place:
    """Proves itself after a while. cut: of what it says only so many bytes come through, and then nothing."""

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(delay_s)
        query = {name: values[0] for name, values in parse_qs(urlsplit(asked.target).query).items()}
        if asked.target.startswith("/im/fill"):
            page = fill_page("gw", query["n"], int(query["size"]), key)
        else:
            page = probe_page("gw", query["n"], key)
        writer.write(http(page)[:cut])
        if cut is not None:
            await asyncio.sleep(60)

    return answer


def says(data: bytes) -> Place:
    """Answers with these bytes, whatever was asked."""

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    return answer


def listing(
    points: Sequence[Point], role: Direction = "down", *, level: int = 0, life_s: int = 60, key: Ed25519PrivateKey = KEY
) -> bytes:
    """A signed list of these."""
    listed = [
        AccessPoint(f"gw-{number}", [point.host], [Port(point.port, [point.scheme])], level=level)
        for number, point in enumerate(points)
    ]
    now = int(time.time())
    made = AccessList(
        role, now - 10, now + life_s, 30, listed, back_off=BackOff(first_ms=250, most_ms=4000), still_s=240
    )
    return sign_list(made, key)


def access(document: bytes, reports: list[bytes] | None = None) -> Place:
    """An access service that answers with this document, and takes reports."""

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.target.startswith("/v1/access"):
            writer.write(http(document, kind="application/jose"))
        elif asked.target == "/v1/report" and reports is not None:
            reports.append(asked.body)
            writer.write(http(b"", "204 No Content"))
        else:
            writer.write(http(b"", "404 Not Found"))

    return answer


@asynccontextmanager
async def name_server(names: dict[str, str], *, delay_s: float = 0.0, dead: bool = False) -> AsyncIterator[Resolve]:
    """A small name server on loopback, and a resolver that asks it and nobody else. dead: it takes every question, and
    says nothing."""

    class Answers(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast(asyncio.DatagramTransport, transport)

        def datagram_received(self, data: bytes, addr: tuple[str | bytes | int, ...]) -> None:
            if dead:
                return
            query = dns.message.from_wire(data)
            reply = dns.message.make_response(query)
            name = query.question[0].name.to_text(omit_final_dot=True)
            if name in names and query.question[0].rdtype == dns.rdatatype.A:
                reply.answer.append(dns.rrset.from_text(f"{name}.", 60, "IN", "A", names[name]))
            asyncio.get_running_loop().call_later(delay_s, self.transport.sendto, reply.to_wire(), addr)

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Answers, local_addr=("127.0.0.1", 0))
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = ["127.0.0.1"]
    resolver.port = transport.get_extra_info("sockname")[1]
    resolver.lifetime = 30.0
    resolver.timeout = 30.0

    async def resolve(name: str) -> list[str]:
        try:
            found = await resolver.resolve(name, "A")
        except dns.exception.DNSException as error:
            raise OSError(f"{name}: {error}") from None
        return [str(item) for item in found]

    try:
        yield resolve
    finally:
        transport.close()


@asynccontextmanager
async def listening(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], host: str, port: int
) -> AsyncIterator[int]:
    """Each connection is talked to in a task of its own, and closed when that is over, or with the block; yields the
    port."""
    talks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talks.add(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await talk(reader, writer)
        writer.close()
        talks.discard(task)

    server = await asyncio.start_server(serve, host, port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(talks):
            task.cancel()
        if talks:
            await asyncio.wait(talks)
        await asyncio.sleep(0)  # the turn in which what was closed lets go


@asynccontextmanager
async def place(answer: Place, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Point]:
    """Serve there."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        body = await reader.readexactly(int(length[1])) if length else b""
        await answer(Asked(head.split()[1].decode(), body), writer)
        await writer.drain()

    async with listening(talk, host, port) as at:
        yield Point("http", host, at)


@asynccontextmanager
async def relay(
    to: str, host: str, port: int = 0, *, delay_s: float = 0.0, cut: int | None = None, only_http: bool = False
) -> AsyncIterator[Point]:
    """Another address of the gateway at `to`. What it answers takes so much longer; cut: of each connection's answers
    only so many bytes come through, and then nothing. only_http: what is not HTTP is dropped without a word."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float, left: int) -> None:
        while data := await reader.read(1000 if cut is not None else 65536):
            if delay_s:
                await asyncio.sleep(delay_s)
            writer.write(data[: max(left, 0)])
            left -= len(data)
            if left <= 0:
                await asyncio.Event().wait()
        writer.close()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*to.rsplit(":", 1))
        try:
            if only_http:
                begun = await reader.read(65536)
                if begun and not begun[:1].isalpha():
                    await asyncio.Event().wait()
                back.write(begun)
            much = 1 << 40
            await asyncio.gather(
                pump(reader, back, 0.0, much), pump(there, writer, delay_s, much if cut is None else cut)
            )
        finally:
            back.close()

    async with listening(talk, host, port) as at:
        yield Point("tcp", host, at)
