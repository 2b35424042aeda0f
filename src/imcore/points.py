"""Access points: how they are written, and nothing about how they are reached."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Literal, cast, get_args

import msgspec
from msgspec import Meta

from .errors import ConfigError

__all__ = ["Point", "authority", "is_host", "parse_point", "parse_points"]

Scheme = Literal["tcp", "tls", "http", "https"]

_FORM = (
    "host, host:port, or either behind tcp://, tls://, http:// or https:// (an IPv6 address in brackets: [::1]:8080)"
)
_STAND_INS: dict[str, list[tuple[Scheme, int]]] = {
    "": [("tcp", 8080), ("tls", 443), ("http", 80), ("tcp", 14000), ("https", 443), ("tcp", 80), ("http", 8080)],
    "tcp": [("tcp", 8080), ("tcp", 80), ("tcp", 443), ("tcp", 14000)],
    "tls": [("tls", 443), ("tls", 8080), ("tls", 80), ("tls", 14000)],
    "http": [("http", 80), ("http", 8080), ("http", 14000), ("http", 443)],
    "https": [("https", 443), ("https", 8080), ("https", 80), ("https", 14000)],
}
"""What a point without a port stands for, the best first: ports that networks are known to let pass, each a stand-in
for the others. Without a scheme, 443 is in TLS and the others are not."""
_PARTS = re.compile(r"(?:(?P<scheme>[^:/]*)://)?(?:\[(?P<v6>[^\]]*)\]|(?P<host>[^:/\[\]]*))(?::(?P<port>[^:]*))?")
_NAME = re.compile(r"[^\x00-\x20/?#@\[\]:%\x7f]{1,253}")
_ADDRESS6 = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[\w.-]+)?")


class Point(msgspec.Struct, frozen=True):
    """One way in: where, and by what: frames on a connection of their own (`tcp`, in TLS `tls`), or in the tunnel
    (`http`, in TLS `https`). `str()` gives the form that `parse_point` takes."""

    scheme: Scheme
    host: str
    """A name, an IPv4 address, or an IPv6 address without brackets."""
    port: Annotated[int, Meta(ge=1, le=65535)]

    def __str__(self) -> str:
        return f"{'' if self.scheme == 'tcp' else self.scheme + '://'}{self.authority}"

    @property
    def authority(self) -> str:
        """Host and port, as a URL has them."""
        return authority(self.host, self.port)

    @property
    def name(self) -> str:
        """The host as others are told it: in ASCII (IDNA), and of an address without its zone, which means nothing to
        them. Raises UnicodeError if it has no such form; what was read has one."""
        return self.host.partition("%")[0].encode("idna").decode()

    @property
    def secure(self) -> bool:
        """In TLS."""
        return self.scheme in ("tls", "https")

    @property
    def tunnels(self) -> bool:
        """The frames travel in HTTP (wire: "The HTTP tunnel")."""
        return self.scheme in ("http", "https")


def authority(host: str, port: int) -> str:
    """As a URL has them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_host(text: str) -> bool:
    """An address, or a name that can be looked up."""
    return _ADDRESS6.fullmatch(text) is not None or _is_name(text)


def parse_point(text: str) -> Point:
    """`host`, `host:port`, or one of them behind `tcp://`, `tls://`, `http://` or `https://`. Without a port it is the
    first of those that stand in for each other: 8080, 443, 80 and 443. Raises `ConfigError`."""
    return _read(text)[0]


def parse_points(texts: Iterable[str]) -> list[Point]:
    """Each of them, in order, without repeats. One without a port stands for all ports that networks are likely to let
    pass, and one without a scheme for all ways. Raises `ConfigError`, also when there is none."""
    if isinstance(texts, str):
        raise ConfigError(f"access points: expected a list such as [{texts!r}], got the string {texts!r}")
    points = list(dict.fromkeys(point for text in texts for point in _read(text)))
    if not points:
        raise ConfigError("access points: expected at least one, got none")
    return points


def _read(text: str) -> list[Point]:
    parts = _PARTS.fullmatch(text)
    if parts is None:
        raise ConfigError(f"access point {text!r}: expected {_FORM}")
    scheme = parts["scheme"] or ""
    if scheme and scheme not in get_args(Scheme):
        raise ConfigError(f"access point {text!r}: expected tcp://, tls://, http:// or https://, got {scheme}://")
    host = parts["v6"] if parts["v6"] is not None else parts["host"]
    if not (_ADDRESS6.fullmatch(host) if parts["v6"] is not None else _is_name(host)):
        what = "an IPv6 address in the brackets" if parts["v6"] is not None else "a host"
        raise ConfigError(f"access point {text!r}: expected {what}, got {host!r}; the form is {_FORM}")
    if parts["port"] is None:
        return [Point(way, host, port) for way, port in _STAND_INS[scheme]]
    # isdecimal() takes other scripts' digits too, and int() would read them.
    if not (parts["port"].isascii() and parts["port"].isdecimal() and 1 <= int(parts["port"][:6]) <= 65535):
        raise ConfigError(f"access point {text!r}: expected a port from 1 to 65535, got {parts['port']!r}")
    return [Point(cast(Scheme, scheme or "tcp"), host, int(parts["port"]))]


def _is_name(text: str) -> bool:
    """It has an ASCII form, and that is one."""
    try:
        return _NAME.fullmatch(text.encode("idna").decode()) is not None
    except UnicodeError:
        return False
