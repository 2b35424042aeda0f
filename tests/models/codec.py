"""The frame codec in plain Python: the oracle of `_codec`'s property tests, and what the benchmarks compare with.

Written from the wire's table alone, with `struct`: it holds everything that it was given, and is never in a hurry.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from imcore.errors import BadFrame, EncodeError, FrameError, TooLarge, UnsupportedVersion

HEADER = struct.Struct(">BBBBIQ")


class Plain(NamedTuple):
    """A frame, as it is on the wire."""

    type: int
    id: int
    route: str
    body: bytes
    flags: int


class Decoded(NamedTuple):
    """What a stream's first bytes hold: its whole frames, the bytes that they take, and what is wrong behind them."""

    frames: list[Plain]
    size: int
    error: FrameError | None


def fault(data: bytes, at: int, limit: int) -> FrameError | None:
    """What the header of the frame at `at` has wrong, as far as it is there."""
    head = data[at : at + HEADER.size]
    if head and head[0] >> 4 != 0xA:
        return BadFrame("magic", at)
    if head and head[0] & 0xF != 1:
        return UnsupportedVersion("version", at)
    if len(head) > 1 and head[1] not in range(1, 12):
        return BadFrame("type", at + 1)
    if len(head) > 2 and head[2] not in range(8):
        return BadFrame("flags", at + 2)
    if len(head) > 7 and int.from_bytes(head[4:8]) > limit:
        return TooLarge("length", at + 4)
    if len(head) > 7 and head[3] > int.from_bytes(head[4:8]):
        return BadFrame("route length", at + 3)
    return None


def decode(data: bytes, limit: int) -> Decoded:
    """All frames at the beginning of `data`."""
    frames: list[Plain] = []
    at = 0
    while True:
        error = fault(data, at, limit)
        if error is not None or len(data) - at < HEADER.size:
            return Decoded(frames, at, error)
        _, kind, flags, route_size, length, number = HEADER.unpack_from(data, at)
        rest = data[at + HEADER.size : at + HEADER.size + length]
        if len(rest) < length:
            return Decoded(frames, at, None)
        try:
            route = rest[:route_size].decode()
        except UnicodeDecodeError as bad:
            return Decoded(frames, at, BadFrame("route", at + HEADER.size + bad.start))
        frames.append(Plain(kind, number, route, rest[route_size:], flags))
        at += HEADER.size + length


def encode(type: int, id: int = 0, route: str = "", body: bytes = b"", flags: int = 0) -> bytes:
    """One frame, or EncodeError."""
    try:
        name = route.encode()
        if type not in range(1, 12) or flags not in range(8) or len(name + body) > 2**24:
            raise EncodeError("type, flags or length")
        return HEADER.pack(0xA1, type, flags, len(name), len(name + body), id) + name + body
    except (struct.error, UnicodeEncodeError) as error:
        raise EncodeError(str(error)) from None
