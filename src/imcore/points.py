"""Access points: how they are written, and nothing about how they are reached."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, cast, get_args

import msgspec

from .errors import ConfigError

__all__ = ["DEFAULT_PORT", "Point", "parse_point", "parse_points"]

DEFAULT_PORT = 8080
"""Where frames are spoken, and a point names no port; HTTP has ports of its own."""

Scheme = Literal["tcp", "tls", "http", "https"]

_FORM = (
    "host, host:port, or either behind tcp://, tls://, http:// or https:// (an IPv6 address in brackets: [::1]:8080)"
)
_PORTS = {"http": 80, "https": 443}
_PARTS = re.compile(r"(?:(?P<scheme>[^:/]*)://)?(?:\[(?P<v6>[^\]]*)\]|(?P<host>[^:/\[\]]*))(?::(?P<port>[^:]*))?")
_NAME = re.compile(r"[^\s/?#@\[\]:%]+")
_ADDRESS6 = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[\w.-]+)?")


class Point(msgspec.Struct, frozen=True):
    """One way in: where, and by what: frames on a connection of their own (`tcp`, in TLS `tls`), or in the tunnel
    (`http`, in TLS `https`). `str()` gives the form that `parse_point` takes."""

    scheme: Scheme
    host: str
    """A name, an IPv4 address, or an IPv6 address without brackets."""
    port: int

    def __str__(self) -> str:
        return f"{'' if self.scheme == 'tcp' else self.scheme + '://'}{self.authority}"

    @property
    def authority(self) -> str:
        """Host and port, as a URL has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def secure(self) -> bool:
        """In TLS."""
        return self.scheme in ("tls", "https")

    @property
    def tunnels(self) -> bool:
        """The frames travel in HTTP (wire: "The HTTP tunnel")."""
        return self.scheme in ("http", "https")


def parse_point(text: str) -> Point:
    """`host`, `host:port`, or one of them behind `tcp://`, `tls://`, `http://` or `https://`. Without a port it is
    8080, for HTTP 80 and 443. Raises `ConfigError`."""
    parts = _PARTS.fullmatch(text)
    if parts is None:
        raise ConfigError(f"access point {text!r}: expected {_FORM}")
    scheme = parts["scheme"] or "tcp"
    if scheme not in get_args(Scheme):
        raise ConfigError(f"access point {text!r}: expected tcp://, tls://, http:// or https://, got {scheme}://")
    host = parts["v6"] if parts["v6"] is not None else parts["host"]
    if not (_ADDRESS6 if parts["v6"] is not None else _NAME).fullmatch(host):
        what = "an IPv6 address in the brackets" if parts["v6"] is not None else "a host"
        raise ConfigError(f"access point {text!r}: expected {what}, got {host!r}; the form is {_FORM}")
    port = _PORTS.get(scheme, DEFAULT_PORT)
    if parts["port"] is not None:
        # isdecimal() takes other scripts' digits too, and int() would read them.
        if not (parts["port"].isascii() and parts["port"].isdecimal() and 1 <= int(parts["port"][:6]) <= 65535):
            raise ConfigError(f"access point {text!r}: expected a port from 1 to 65535, got {parts['port']!r}")
        port = int(parts["port"])
    return Point(cast(Scheme, scheme), host, port)


def parse_points(texts: Iterable[str]) -> list[Point]:
    """Each of them, in order, without repeats. Raises `ConfigError`, also when there is none."""
    if isinstance(texts, str):
        raise ConfigError(f"access points: expected a list such as [{texts!r}], got the string {texts!r}")
    points = list(dict.fromkeys(parse_point(text) for text in texts))
    if not points:
        raise ConfigError("access points: expected at least one, got none")
    return points
