"""Through proxies: the manners in which one may be passed, which one did, and a connection in it.

A plain HTTP proxy takes requests in absolute form (RFC 9112, 3.2.2). By CONNECT (RFC 9110, 9.3.6) and by SOCKS 5
(RFC 1928) a proxy passes any bytes, to a host that it looks up itself or to an address. Whatever it answers, the end is
a connection or a `WayFailed`, within `REPLY_S` of each try. Nothing ever goes around a proxy.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from enum import Enum
from functools import partial

import msgspec
from python_socks import ProxyConnectionError, ProxyError, ProxyTimeoutError, ProxyType
from python_socks.async_.asyncio import Proxy as Socks

from .._tunnel import ResponseHead, ResponseReader
from ..errors import TunnelError
from ..points import Point, authority
from .candidate import Candidate
from .dial import Connect, Stream, connect, resolve, straight
from .learned import Learned, Memory
from .outcomes import Outcome, WayFailed
from .proxy import Proxy, from_environment, parse_proxy
from .resolve import is_address

__all__ = ["REPLY_S", "Passage", "Proxies", "chooser", "passages", "reach"]

REPLY_S = 4.0
"""How long a proxy may take to connect us, seconds: a slow name server is waited for, and there is another try."""

_HOPELESS = (Outcome.PROXY_REFUSED, Outcome.PROXY_LOGIN)  # however it is asked
_NOT_PASSED = {
    outcome.name
    for outcome in (Outcome.PROXY_FORBIDS, Outcome.PROXY_LOST, Outcome.PROXY_BROKEN, Outcome.HIJACK, Outcome.PORTAL,
                    Outcome.CLOSED, Outcome.REWRITTEN)
}  # fmt: skip


class Passage(Enum):
    """How a proxy is passed."""

    ABSOLUTE = "absolute"
    """HTTP requests in absolute form: the proxy reads them."""
    NAME = "name"
    """The proxy connects us to the point's host (CONNECT or SOCKS)."""
    ADDRESS = "address"
    """The proxy connects us to an address, which we looked up."""


def passages(point: Point, proxy: Proxy) -> list[Passage]:
    """Those that may do, best first."""
    may = [Passage.ADDRESS] if is_address(point.host) else [Passage.NAME, Passage.ADDRESS]
    return [Passage.ABSOLUTE, *may] if point.scheme == proxy.scheme == "http" else may


def chooser(proxy: str | bool) -> Callable[[Point], Proxy | None]:
    """What finds the proxy for a point: this one for all, True = the environment's, False = none. Raises
    `ConfigError`; so does what it returns, for a variable that names none."""
    if isinstance(proxy, str):
        given = parse_proxy(proxy)
        return lambda point: given
    return from_environment if proxy else lambda point: None


class Proxies:
    """Makes connections (`dial.Connect`). choose: finds the proxy for a point, None = there is none. memory: of what
    passed each of them."""

    def __init__(self, choose: Callable[[Point], Proxy | None], memory: Memory) -> None:
        self._choose = choose
        self._memory = memory
        self._failed: dict[Point, list[Passage]] = {}  # since one last did

    def by(self, candidate: Candidate) -> Connect:
        """What connects to a candidate: by a proxy, if there is one for its point; else at its address."""
        return straight(candidate) if self._choose(candidate.point) is None else self

    async def __call__(self, point: Point) -> Stream:
        """See `dial.Connect`."""
        proxy = self._choose(point)
        if proxy is None:
            return await connect(point)
        failure: OSError | None = None
        for passage in self._order(point, proxy):
            if failure is not None and passage in self._failed.get(point, ()):
                break  # it led to nothing, and what is left does not even lead to that
            try:
                stream = await reach(point, proxy, passage)
            except OSError as error:
                failure = error
                if isinstance(error, WayFailed) and error.outcome in _HOPELESS:
                    break
            else:
                told = partial(self._told, point, proxy, passage)
                if not point.tunnels:  # nobody will tell
                    told(None)
                return stream._replace(told=told)
        self._failed.pop(point, None)
        raise failure or OSError(f"{proxy} can't be passed")

    def _order(self, point: Point, proxy: Proxy) -> list[Passage]:
        """What did last, then the others; those that have just failed last of all."""
        learned = self._memory.recall(_way(point, proxy))
        good = learned.passage if learned is not None else ""
        failed = self._failed.get(point, [])
        return sorted(passages(point, proxy), key=lambda each: (each in failed, each.value != good))

    def _told(self, point: Point, proxy: Proxy, passage: Passage, outcome: str | None) -> bool:
        way = _way(point, proxy)
        learned = self._memory.recall(way) or Learned()
        if outcome is None:
            self._failed.pop(point, None)
            if learned.passage != passage.value:
                self._memory.keep(way, msgspec.structs.replace(learned, passage=passage.value))
            return False
        if outcome not in _NOT_PASSED or learned.passage == passage.value:
            return False
        failed = self._failed.setdefault(point, [])
        if passage not in failed:
            failed.append(passage)
        if len(failed) < len(passages(point, proxy)):
            return True
        del self._failed[point]
        return False


async def reach(point: Point, proxy: Proxy, passage: Passage) -> Stream:
    """A TCP connection that leads to a point, or for `Passage.ABSOLUTE` to the proxy. Raises `WayFailed`, OSError."""
    name = _name(point)
    if passage is Passage.ABSOLUTE:
        return Stream(await _to(proxy), f"http://{authority(name, point.port)}".encode(), proxy.fields)
    hosts = [name]
    if passage is Passage.ADDRESS and not is_address(point.host):
        hosts = list(dict.fromkeys(str(address[0]) for *_, address in await resolve(point.host, point.port)))
    failure = OSError(f"{point.host!r} has no address")
    for host in hosts:
        try:
            if proxy.scheme == "socks5":
                return Stream(await _socks(proxy, host, point.port))
            return Stream(await _tunnelled(proxy, host, point.port))
        except WayFailed as error:
            if error.outcome in _HOPELESS:
                raise
            failure = error
    raise failure


def _way(point: Point, proxy: Proxy) -> str:
    """Its name in the memory."""
    return f"{point} through {proxy}"


def _name(point: Point) -> str:
    """As a proxy looks it up. Raises OSError."""
    try:
        return point.name
    except UnicodeError as error:
        raise OSError(f"{point.host!r} is not a name that can be looked up: {error}") from None


async def _to(proxy: Proxy) -> socket.socket:
    """A connection to the proxy."""
    try:
        return (await connect(Point("tcp", proxy.host, proxy.port))).sock
    except OSError as error:
        raise WayFailed(Outcome.PROXY_REFUSED, f"{proxy}: {error}") from None


async def _tunnelled(proxy: Proxy, host: str, port: int) -> socket.socket:
    """By CONNECT. The answer is read by the core's own reader: it may come in pieces, and none of it may stay behind
    for who reads frames next."""
    there = authority(host, port)
    request = f"CONNECT {there} HTTP/1.1\r\nHost: {there}\r\n".encode() + proxy.fields + b"\r\n"
    sock = await _to(proxy)
    try:
        async with asyncio.timeout(REPLY_S):
            await asyncio.get_running_loop().sock_sendall(sock, request)
            head, rest = await _answer(sock)
        _judge(proxy, head, rest)
    except TimeoutError:
        sock.close()
        raise WayFailed(Outcome.PROXY_SILENT, f"{proxy} had no answer to CONNECT within {REPLY_S:g} s") from None
    except (OSError, TunnelError) as error:
        sock.close()
        if isinstance(error, WayFailed):
            raise
        raise WayFailed(Outcome.PROXY_BROKEN, f"{proxy}, asked to CONNECT: {error}") from None
    except BaseException:
        sock.close()
        raise
    return sock


async def _answer(sock: socket.socket) -> tuple[ResponseHead, bytes]:
    """To a CONNECT: its head, and what came behind it if it was granted. Raises OSError, `TunnelError`."""
    loop = asyncio.get_running_loop()
    reader = ResponseReader()
    reader.expect(b"CONNECT")
    while True:
        data = await loop.sock_recv(sock, 4096)
        head = next(reader.feed(data) if data else reader.end(), None)
        if isinstance(head, ResponseHead):
            if not 200 <= head.status < 300:
                return head, b""
            next(reader)  # its end: there is no body (RFC 9110, 9.3.6)
            return head, reader.rest()
        if not data:
            raise ConnectionResetError("it closed the connection without an answer")


def _judge(proxy: Proxy, head: ResponseHead, rest: bytes) -> None:
    """Raises `WayFailed` unless the connection is there."""
    said = f"{proxy} answers CONNECT with {head.status} {head.reason.decode('latin-1')}".rstrip()
    if 200 <= head.status < 300:
        if rest:  # neither a gateway nor TLS speaks first
            raise WayFailed(Outcome.PROXY_BROKEN, f"{said}, and {len(rest)} bytes that nobody asked for")
    elif head.status in (401, 407):  # the first is tinyproxy's word for a wrong password
        wanted = ", ".join(value.decode("latin-1") for name, value in head.headers if name.endswith(b"-authenticate"))
        given = "did not take ours" if proxy.user is not None else "was given none"
        raise WayFailed(Outcome.PROXY_LOGIN, f"{said}: it wants credentials ({wanted or 'of no kind'}), and {given}")
    elif head.status in (502, 503, 504):
        raise WayFailed(Outcome.PROXY_LOST, said)
    else:
        raise WayFailed(Outcome.PROXY_FORBIDS, said)


async def _socks(proxy: Proxy, host: str, port: int) -> socket.socket:
    """By SOCKS 5."""
    user, password = (proxy.user, proxy.password) if proxy.user is not None else (None, None)
    failure = OSError(f"{proxy.host!r} has no address")
    try:
        addresses = await resolve(proxy.host, proxy.port)
    except OSError as error:
        failure, addresses = error, []
    for *_, address in addresses:
        socks = Socks(ProxyType.SOCKS5, str(address[0]), proxy.port, user, password)
        try:
            return await socks.connect(host, port, timeout=REPLY_S)
        except ProxyTimeoutError:
            raise WayFailed(Outcome.PROXY_SILENT, f"{proxy} had no answer within {REPLY_S:g} s") from None
        except ProxyConnectionError as error:  # this address of the proxy is no good
            failure = error
        except ProxyError as error:
            raise WayFailed(_socks_outcome(error), f"{proxy}: {error}") from None
        except (OSError, ValueError) as error:  # ValueError: a name or an address in its answer is none
            raise WayFailed(Outcome.PROXY_BROKEN, f"{proxy}: {error}") from None
    raise WayFailed(Outcome.PROXY_REFUSED, f"{proxy}: {failure}")


def _socks_outcome(error: ProxyError) -> Outcome:
    """What the reply means (RFC 1928, 3 and 6; RFC 1929)."""
    if error.error_code in (1, 3, 4, 5, 6):  # failure, network, host, refused, time to live
        return Outcome.PROXY_LOST
    if error.error_code is not None:  # not allowed, no such command, no such kind of address
        return Outcome.PROXY_FORBIDS
    return Outcome.PROXY_LOGIN if "authentication" in str(error) else Outcome.PROXY_BROKEN
