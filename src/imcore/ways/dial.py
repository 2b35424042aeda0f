"""Dialling: a link gets a TCP or TLS connection to an access point. It knows neither HELLO nor whom it has reached.

A host's addresses are tried in the resolver's order, the next one as soon as one fails, each for `ADDRESS_S` at most.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator, Sequence
from typing import Any

from .._link import Link
from ..carrier import TransportCarrier
from ..points import Point

__all__ = ["ADDRESS_S", "dial", "in_turn"]

ADDRESS_S = 3.0
"""How long one address may take to answer, seconds: a silent one must not cost a whole attempt."""


def in_turn(points: Sequence[Point], good: Point | None) -> Iterator[Point]:
    """Every point once, beginning with the one that was good last time."""
    start = points.index(good) if good in points else 0
    yield from points[start:]
    yield from points[:start]


async def dial(point: Point, link: Link, tls: ssl.SSLContext | None = None) -> int:
    """Connect, and give the connection to `link`, which had none. Returns its descriptor: to ask the kernel about, not
    to use.

    tls: for `tls://` points; None = the system's trusted authorities. Raises OSError (TimeoutError and ssl.SSLError
    among them) that says why the last address failed; then `link` is as before. How long it may take in all is the
    caller's say.
    """
    failure = OSError(f"{point.host!r} has no address")
    for family, kind, protocol, address in await _resolve(point):
        try:
            sock = await _connect(family, kind, protocol, address)
            descriptor = sock.fileno()
            await _hand_over(sock, point, link, tls)
            return descriptor
        except OSError as error:
            failure = error
    raise failure


async def _resolve(point: Point) -> list[tuple[int, int, int, Any]]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(point.host, point.port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a label that IDNA does not allow
        raise OSError(f"{point.host!r} is not a name that can be looked up: {error}") from None
    return [(family, kind, protocol, address) for family, kind, protocol, _, address in found]


async def _connect(family: int, kind: int, protocol: int, address: Any) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        try:
            async with asyncio.timeout(ADDRESS_S):
                await asyncio.get_running_loop().sock_connect(sock, address)
        except TimeoutError:
            raise TimeoutError(f"{address[0]} did not answer within {ADDRESS_S:g} s") from None
    except BaseException:
        sock.close()
        raise
    return sock


async def _hand_over(sock: socket.socket, point: Point, link: Link, tls: ssl.SSLContext | None) -> None:
    if point.scheme == "tcp" and link.hub.native:
        link.attach(sock)
        return
    secure: dict[str, Any] = {}
    if point.scheme == "tls":
        secure = {"ssl": tls or ssl.create_default_context(), "server_hostname": point.host}
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().create_connection(lambda: TransportCarrier(link), sock=sock, **secure)
    except BaseException:
        sock.close()
        raise
