"""Which proxy stands on the way to an access point: how one is written, and which one the environment names."""

from __future__ import annotations

import base64
import ipaddress
import os
import re
from collections.abc import Iterator, Mapping
from typing import Literal
from urllib.parse import unquote_to_bytes

import msgspec

from ..errors import ConfigError
from ..points import Point

__all__ = ["Proxy", "from_environment", "parse_proxy"]

_FORM = "http://host:port or socks5://host:port, with user:password@ in front of the host if it wants to know who asks"
_PARTS = re.compile(
    r"(?:(?P<scheme>[^:/@]*)://)?(?:(?P<who>[^/]*)@)?"
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s:/?#@\[\]%]+))(?::(?P<port>[0-9]{1,5}))?/?",
    re.ASCII,
)
_SCHEMES: dict[str | None, Literal["http", "socks5"]] = {
    None: "http", "http": "http", "socks5": "socks5", "socks5h": "socks5",
}  # fmt: skip
_PORTS = {"http": 8080, "socks5": 1080}
_PORT = re.compile(r"(?P<host>\[.*\]|[^:]*):(?P<port>[0-9]{1,9})", re.ASCII)  # behind a bare IPv6 address it is none
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")

_VARIABLES = {
    "http": ("http_proxy", "all_proxy"),
    "https": ("https_proxy", "all_proxy"),
    "tls": ("https_proxy", "all_proxy"),
    "tcp": ("all_proxy", "https_proxy", "http_proxy"),  # bytes that are not HTTP: as RFC 6455, 4.1 has it, SOCKS first
}
"""What says which proxy is used, by the scheme of a point; the first that is set."""


class Proxy(msgspec.Struct, frozen=True):
    """A proxy. `str()` tells no password."""

    scheme: Literal["http", "socks5"]
    host: str
    """A name, an IPv4 address, or an IPv6 address without brackets."""
    port: int
    user: str | None = None
    password: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def fields(self) -> bytes:
        """The lines that a request through it carries: nothing, or Basic credentials (RFC 7617)."""
        if self.user is None:
            return b""
        return b"Proxy-Authorization: Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()) + b"\r\n"


def parse_proxy(text: str) -> Proxy:
    """`http://…` (or without a scheme) or `socks5://…`; without a port it is 8080, or 1080 for SOCKS. User and password
    may be percent-encoded. Raises `ConfigError`, which tells no password."""
    shown = re.sub(r"[^/]*@", "…@", text)
    parts = _PARTS.fullmatch(text)
    if parts is None:
        raise ConfigError(f"proxy {shown!r}: expected {_FORM}")
    scheme = _SCHEMES.get(parts["scheme"].lower() if parts["scheme"] is not None else None)
    if scheme is None:
        raise ConfigError(f"proxy {shown!r}: expected http:// or socks5://, got {parts['scheme']}://")
    port = int(parts["port"]) if parts["port"] is not None else _PORTS[scheme]
    if not 1 <= port <= 65535:
        raise ConfigError(f"proxy {shown!r}: expected a port from 1 to 65535, got {port}")
    user, password = None, ""
    if parts["who"] is not None:
        name, _, secret = parts["who"].partition(":")
        try:
            user, password = _credential(scheme, name), _credential(scheme, secret)
        except ValueError as error:
            raise ConfigError(f"proxy {shown!r}: {error}") from None
        if ":" in user and scheme == "http":
            raise ConfigError(f"proxy {shown!r}: expected a user without a colon (RFC 7617)")
        if not (user and password) and scheme == "socks5":
            raise ConfigError(f"proxy {shown!r}: expected a user and a password (RFC 1929)")
    return Proxy(scheme, parts["v6"] or parts["host"], port, user, password)


def _credential(scheme: str, text: str) -> str:
    """One of user and password. Raises ValueError."""
    value = unquote_to_bytes(text)
    if _CONTROL.search(value):
        raise ValueError("expected a user and a password without control characters")
    if scheme == "socks5" and not (value.isascii() and len(value) <= 255):
        raise ValueError("expected a user and a password of at most 255 ASCII characters for SOCKS")
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ValueError("expected a user and a password in UTF-8") from None


def from_environment(point: Point, environment: Mapping[str, str] = os.environ) -> Proxy | None:
    """The proxy that `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy` name for a point; lower case goes before
    upper case. None: there is none, or the point is on this machine. Raises `ConfigError`.

    In a CGI program `HTTP_PROXY` is what a request's `Proxy` field says: there only lower case counts.
    """
    if _is_local(point.host) or any(_covers(entry, point) for entry in _exceptions(environment)):
        return None
    for name in _VARIABLES[point.scheme]:
        value = environment.get(name)
        if value is None and not (name == "http_proxy" and "REQUEST_METHOD" in environment):
            value = environment.get(name.upper())
        if value and value.strip():
            try:
                return parse_proxy(value.strip())
            except ConfigError as error:
                raise ConfigError(f"the variable {name}: {error}") from None
    return None


def _exceptions(environment: Mapping[str, str]) -> Iterator[str]:
    text = environment.get("no_proxy", environment.get("NO_PROXY", ""))
    yield from text.lower().replace(",", " ").split()


def _covers(entry: str, point: Point) -> bool:
    """Whether one entry of `no_proxy` speaks of a point: `*`, a name and what is below it (with a dot in front or
    without), an address, or a range of them; with a port, of that one alone."""
    if entry == "*":
        return True
    bare = _PORT.fullmatch(entry)
    if bare is not None:
        if int(bare["port"]) != point.port:
            return False
        entry = bare["host"]
    try:
        address = _address(point.host)
    except ValueError:
        name, entry = point.host.lower().rstrip("."), entry.removeprefix("*").strip(".")
        return bool(entry) and (name == entry or name.endswith(f".{entry}"))
    try:
        return address in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        return False


def _is_local(host: str) -> bool:
    try:
        return _address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Raises ValueError for a name."""
    return ipaddress.ip_address(host.partition("%")[0])
