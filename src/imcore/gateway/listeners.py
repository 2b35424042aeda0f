"""Where links come in: addresses, TLS, and the sockets behind them. A link is made for each; nothing is read."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

import msgspec

from .._hub import Hub
from .._link import Link
from ..carrier import TransportCarrier
from ..errors import ConfigError

__all__ = ["Listen", "Listeners", "Tls", "address_text", "bound", "is_loopback", "parse_address"]

_BACKLOG = 4096


class Tls(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """PEM files of a listener's certificate chain and private key."""

    certificate: str
    key: str


class Listen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One address: `host:port`, `[v6]:port`; port 0 takes any free one."""

    address: str
    tls: Tls | None = None


def parse_address(address: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port`; raises `ConfigError`."""
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") and host.endswith("]") else host
    bare_v6 = ":" in host and not address.startswith("[")
    if not colon or not host or bare_v6 or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ConfigError(f"listen: expected host:port or [v6 address]:port, got {address!r}")
    return host, int(port)


def is_loopback(address: str) -> bool:
    """Only this machine can reach it."""
    host, _ = parse_address(address)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Listeners:
    """The open listening sockets of one gateway."""

    def __init__(self, hub: Hub, make_link: Callable[[], Link], handshake_s: float, window_bytes: int) -> None:
        self._hub = hub
        self._window_bytes = window_bytes
        self._make_link = make_link
        self._handshake_s = handshake_s
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []
        self.places: list[tuple[str, bool]] = []  # address, and whether it takes TLS alone

    async def open(self, listen: Listen) -> None:
        """Bind and accept; raises `ConfigError` that says which right or address is missing."""
        loop = asyncio.get_running_loop()
        sockets, context = await bound(listen)
        for sock in sockets:
            _keep_little_unsent(sock, self._window_bytes)
            self.places.append((address_text(sock), context is not None))
            if context is None and self._hub.native:
                self._sockets.append(sock)
                self._hub.listen(sock, self._make_link)
            else:
                self._servers.append(
                    await loop.create_server(
                        lambda: TransportCarrier(self._make_link()),
                        sock=sock,
                        ssl=context,
                        ssl_handshake_timeout=self._handshake_s if context else None,
                    )
                )

    def close(self) -> None:
        """Accept no more; links live on."""
        for sock in self._sockets:
            self._hub.stop_listening(sock)
        for server in self._servers:
            server.close()
        self._sockets.clear()
        self._servers.clear()


async def bound(listen: Listen) -> tuple[list[socket.socket], ssl.SSLContext | None]:
    """Listening sockets for each address that the host has, and what TLS on them needs. Raises `ConfigError`."""
    host, port = parse_address(listen.address)
    context = _tls_context(listen) if listen.tls else None
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise ConfigError(f"listen: {listen.address}: no such host: {error.strerror}") from None
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, where in dict.fromkeys(found):
            sockets.append(_bound(family, where, listen.address))
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets, context


def address_text(sock: socket.socket) -> str:
    """Where a socket is bound: `127.0.0.1:8080`."""
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"


def _bound(family: int, where: tuple[object, ...], address: str) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        hint = {
            errno.EADDRINUSE: "another program listens there; stop it, or choose another port",
            errno.EACCES: "ports below 1024 need the right cap_net_bind_service (setcap), or take a higher port",
            errno.EADDRNOTAVAIL: "this machine does not have that address",
        }.get(error.errno or 0, os.strerror(error.errno or 0))
        raise ConfigError(f"listen: {address} can't be bound: {hint}") from None
    return sock


def _keep_little_unsent(sock: socket.socket, size: int) -> None:
    """What waits for a slow link waits with us, where it is counted, not in megabytes of the kernel. What a listening
    socket has been told holds for the connections that it accepts."""
    with suppress(AttributeError, OSError):  # a platform without it keeps more
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, size)


def _tls_context(listen: Listen) -> ssl.SSLContext:
    assert listen.tls is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(listen.tls.certificate, listen.tls.key)
    except FileNotFoundError:
        missing = next(f for f in (listen.tls.certificate, listen.tls.key) if not os.path.exists(f))
        raise ConfigError(f"listen: {listen.address}: tls: no such file: {missing}") from None
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"listen: {listen.address}: tls: expected PEM files that belong together: {error}") from None
    return context
