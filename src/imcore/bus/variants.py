"""One message for several generations of clients: its payloads lie in the inbox as one, under a marked route.

The gateway sends the first payload that a device's `HELLO.accepts` names, or the plain one: it knows no business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from ..errors import EncodeError

__all__ = ["MARK", "chosen", "packed"]

MARK = "\0"
"""What the route of such a message begins with in an inbox; no other route does."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, bytes]).decode
NAME_MOST = 16
NAMES_MOST = 8


def packed(route: str, body: bytes, variants: Mapping[str, bytes]) -> tuple[str, bytes]:
    """Route and body as they lie in an inbox. Raises `EncodeError` for a name that no HELLO can ask for."""
    for name in variants:
        if not 0 < len(name) <= NAME_MOST:
            raise EncodeError(f"variants: expected names of 1 to {NAME_MOST} characters, as HELLO takes, got {name!r}")
    if len(variants) > NAMES_MOST:
        raise EncodeError(f"variants: expected at most {NAMES_MOST}, got {len(variants)}")
    return MARK + route, _encode({"": body, **variants})


def chosen(route: str, body: bytes, accepts: Sequence[str]) -> tuple[str, bytes]:
    """What a device gets that understands these formats, best first. For a marked route."""
    payloads = _decode(body)
    return route[len(MARK) :], payloads[next((name for name in accepts if name in payloads), "")]
