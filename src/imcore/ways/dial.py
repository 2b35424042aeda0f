"""Dialling: a connection to an access point, and what rides on it. It knows neither HELLO nor whom it has reached.

`connect` is the one function that makes a connection; one that goes through a proxy has the same shape (`Connect`) and
takes its place. A host's addresses are tried in the resolver's order, the next one as soon as one fails, each for
`ADDRESS_S` at most.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from .._link import Link
from ..carrier import TransportCarrier
from ..points import Point
from .candidate import Candidate
from .resolve import is_address

__all__ = ["ADDRESS_S", "Connect", "Stream", "connect", "dial", "resolve", "ride", "straight"]

ADDRESS_S = 3.0
"""How long one address may take to answer, seconds: a silent one must not cost a whole attempt."""


class Stream(NamedTuple):
    """A connection that leads to a point, and what a request on it must say where it leads through an HTTP proxy."""

    sock: socket.socket
    """Connected and non-blocking; who has it closes it."""
    prefix: bytes = b""
    """What stands before a request's path: `http://host:port` for a proxy that forwards requests, else nothing."""
    fields: bytes = b""
    """Fields for each request, whole lines: `Proxy-Authorization: …`, or nothing."""
    told: Callable[[str | None], bool] = lambda outcome: False
    """Told what came to a request: None = a gateway answered, else the outcome's name. True if the next connection will
    be made in another manner, so that it is worth trying at once."""
    took_s: float = 0.0
    """How long such a one took to be made, seconds, where this one was made before it was asked for."""


Connect = Callable[[Point], Awaitable[Stream]]
"""Raises OSError that says why there is no connection. TLS to the point comes after it, and is not its business."""


async def connect(point: Point) -> Stream:
    """Straight there. Raises OSError (TimeoutError among them) that says why the last address failed. How long it may
    take in all is the caller's say."""
    failure = OSError(f"{point.host!r} has no address")
    for family, kind, protocol, address in await resolve(point.host, point.port):
        try:
            return Stream(await _connect(family, kind, protocol, address))
        except OSError as error:
            failure = error
    raise failure


def straight(candidate: Candidate) -> Connect:
    """What connects to a candidate's address, whatever name its point has."""
    if not is_address(candidate.address):
        return connect
    family = socket.AF_INET6 if ":" in candidate.address else socket.AF_INET
    where = (candidate.address, candidate.point.port)

    async def to_address(point: Point) -> Stream:
        return Stream(await _connect(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, where))

    return to_address


async def ride(
    sock: socket.socket, point: Point, protocol: Callable[[], asyncio.BaseProtocol], tls: ssl.SSLContext | None
) -> asyncio.Transport:
    """Put a transport on the connection, in TLS where the point says so. Raises OSError (ssl.SSLError among them), and
    closes it."""
    secure: dict[str, Any] = {}
    try:
        if point.secure:
            secure = {"ssl": tls or ssl.create_default_context(), "server_hostname": point.name}
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport, _ = await asyncio.get_running_loop().create_connection(protocol, sock=sock, **secure)
    except BaseException:
        sock.close()
        raise
    return transport


async def dial(point: Point, link: Link, tls: ssl.SSLContext | None = None, through: Connect = connect) -> int:
    """Connect, and give the connection to `link`, which had none. Returns its descriptor: to ask the kernel about, not
    to use.

    tls: for `tls://` points; None = the system's trusted authorities. Raises OSError; then `link` is as before.
    """
    sock = (await through(point)).sock
    descriptor = sock.fileno()
    if link.hub.native and not point.secure:
        link.attach(sock)
    else:
        await ride(sock, point, lambda: TransportCarrier(link), tls)
    return descriptor


async def resolve(host: str, port: int) -> list[tuple[int, int, int, Any]]:
    """A host's addresses: family, kind, protocol and address of each, in the resolver's order. Raises OSError."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a label that IDNA does not allow
        raise OSError(f"{host!r} is not a name that can be looked up: {error}") from None
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
