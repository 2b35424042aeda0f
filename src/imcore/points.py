"""Access points: how they are written, and nothing about how they are reached."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

import msgspec

from .errors import ConfigError

__all__ = ["DEFAULT_PORT", "Point", "parse_point", "parse_points"]

DEFAULT_PORT = 8080

_FORM = "host, host:port, tcp://host:port or tls://host:port (an IPv6 address in brackets: [::1]:8080)"
_PARTS = re.compile(r"(?:(?P<scheme>[^:/]*)://)?(?:\[(?P<v6>[^\]]*)\]|(?P<host>[^:/\[\]]*))(?::(?P<port>[^:]*))?")
_NAME = re.compile(r"[^\s/?#@\[\]:%]+")
_ADDRESS6 = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[\w.-]+)?")


class Point(msgspec.Struct, frozen=True):
    """One way in: where, and whether in TLS. `str()` gives the form that `parse_point` takes."""

    scheme: Literal["tcp", "tls"]
    host: str
    """A name, an IPv4 address, or an IPv6 address without brackets."""
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tls://' if self.scheme == 'tls' else ''}{host}:{self.port}"


def parse_point(text: str) -> Point:
    """`host`, `host:port`, `tcp://…` or `tls://…`; without a port it is 8080. Raises `ConfigError`."""
    parts = _PARTS.fullmatch(text)
    if parts is None:
        raise ConfigError(f"access point {text!r}: expected {_FORM}")
    if parts["scheme"] not in (None, "tcp", "tls"):
        raise ConfigError(f"access point {text!r}: expected tcp:// or tls://, got {parts['scheme']}://")
    host = parts["v6"] if parts["v6"] is not None else parts["host"]
    if not (_ADDRESS6 if parts["v6"] is not None else _NAME).fullmatch(host):
        what = "an IPv6 address in the brackets" if parts["v6"] is not None else "a host"
        raise ConfigError(f"access point {text!r}: expected {what}, got {host!r}; the form is {_FORM}")
    port = DEFAULT_PORT
    if parts["port"] is not None:
        # isdecimal() takes other scripts' digits too, and int() would read them.
        if not (parts["port"].isascii() and parts["port"].isdecimal() and 1 <= int(parts["port"][:6]) <= 65535):
            raise ConfigError(f"access point {text!r}: expected a port from 1 to 65535, got {parts['port']!r}")
        port = int(parts["port"])
    return Point("tls" if parts["scheme"] == "tls" else "tcp", host, port)


def parse_points(texts: Iterable[str]) -> list[Point]:
    """Each of them, in order, without repeats. Raises `ConfigError`, also when there is none."""
    if isinstance(texts, str):
        raise ConfigError(f"access points: expected a list such as [{texts!r}], got the string {texts!r}")
    points = list(dict.fromkeys(parse_point(text) for text in texts))
    if not points:
        raise ConfigError("access points: expected at least one, got none")
    return points
