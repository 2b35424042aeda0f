"""Frames as people write and read them: one JSON object for each, as in docs/protocol.md, or one line of words.

A body is a `map` (control frames), a `text` (messages, if it is UTF-8), else `hex`. What is written is checked as the
other end of a link would check it; what is read need only be frames.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ._codec import (
    ACK,
    DUP,
    ERROR,
    FAILED,
    GOAWAY,
    HELLO,
    JOIN,
    LEAVE,
    MAX_FRAME,
    MSG,
    PAD,
    PING,
    PONG,
    ROOM,
    WELCOME,
    Frame,
    FrameDecoder,
)
from .errors import BadHello, EncodeError
from .messages import Error, GoAway, Hello, Refusal, Welcome, pack, unpack

__all__ = ["FLAGS", "MAPS", "TYPES", "as_json", "as_line", "body_of_fields", "make", "read"]

TYPES = {
    "HELLO": HELLO,
    "WELCOME": WELCOME,
    "PING": PING,
    "PONG": PONG,
    "MSG": MSG,
    "ACK": ACK,
    "JOIN": JOIN,
    "LEAVE": LEAVE,
    "GOAWAY": GOAWAY,
    "ERROR": ERROR,
    "PAD": PAD,
}
FLAGS = {"DUP": DUP, "ROOM": ROOM, "FAILED": FAILED}
MAPS: dict[str, Any] = {
    "HELLO": Hello,
    "WELCOME": Welcome,
    "GOAWAY": GoAway,
    "ERROR": Error,
}
"""The types whose body is a map, and which."""

_NAMES = {number: name for name, number in TYPES.items()}
_NUMBERS = {(PING, 2): "next_s", (PONG, 8): "newest", (ACK, 8): "newest"}


def make(type: str, id: int = 0, route: str = "", body: bytes = b"", flags: Sequence[str] = ()) -> bytes:
    """The bytes of a frame. Names in any case. Raises `EncodeError`, which says what was expected."""
    kind = _one_of(type, TYPES, "type of frame")
    bits = 0
    for flag in flags:
        bits |= _one_of(flag, FLAGS, "flag")
    return Frame(kind, id, route, body, bits).encode()


def body_of_fields(type: str, flags: Sequence[str], fields: Sequence[str]) -> bytes:
    """The map in a control frame's body, from `key=value` for each: the key says how the value is read, lists and
    maps are JSON. Raises `EncodeError` for what the other end would not take."""
    name = type.upper()
    refusal = name == "ACK" and "FAILED" in (flag.upper() for flag in flags)
    kind = Refusal if refusal else MAPS.get(name)
    if kind is None:
        raise EncodeError(f"{name}: its body is no map: expected no {fields[0]!r}, but a text, hex or a file")
    given: dict[str, Any] = {}
    for field in fields:
        key, equals, value = field.partition("=")
        if not equals or key in given:
            raise EncodeError(f"expected KEY=VALUE, each key once, got {field!r}")
        _one_of(key, dict.fromkeys(kind.__struct_fields__, 0), f"key of {kind.__name__}", str)
        given[key] = _value(key, value)
    try:
        return pack(unpack(pack(msgspec.convert(given, kind, strict=False)), kind))
    except (msgspec.ValidationError, BadHello, UnicodeEncodeError) as error:
        raise EncodeError(f"{kind.__name__}: {error}") from None


def read(pieces: Iterable[bytes]) -> Iterator[Frame]:
    """The frames of a stream, each as soon as it is whole. Raises `FrameError`."""
    decoder = FrameDecoder(MAX_FRAME)
    for piece in pieces:
        yield from decoder.feed(piece)
    decoder.end()


def as_json(frame: Frame) -> str:
    """The frame as one JSON object in one line, as in docs/protocol.md."""
    told: dict[str, Any] = {"type": _NAMES[frame.type]}
    if frame.flags:
        told["flags"] = _flags(frame)
    if frame.id:
        told["id"] = frame.id
    if frame.route:
        told["route"] = frame.route
    return json.dumps(told | _body(frame), ensure_ascii=False)


def as_line(frame: Frame) -> str:
    """The frame as one line of words: its type, then what is not empty, as `name=value`."""
    told: dict[str, Any] = {}
    if frame.flags:
        told["flags"] = ",".join(_flags(frame))
    if frame.id:
        told["id"] = frame.id
    if frame.route:
        told["route"] = frame.route
    number = _NUMBERS.get((frame.type, len(frame.body)))
    if number is not None and not frame.flags:
        told[number] = int.from_bytes(frame.body)
    else:
        body = _body(frame)
        told |= body.get("map", body)
    return " ".join([_NAMES[frame.type], *(f"{key}={_word(value)}" for key, value in told.items())])


def _one_of(name: str, known: Mapping[str, int], what: str, folded: Any = str.upper) -> int:
    key = folded(name)
    if key not in known:
        near = difflib.get_close_matches(key, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
        raise EncodeError(f"no {what} {name!r}: {hint}")
    return known[key]


def _value(key: str, value: str) -> Any:
    if value[:1] not in ("{", "["):
        return None if value == "null" else value
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        raise EncodeError(f"{key}: expected JSON behind {value[0]}: {error}") from None


def _flags(frame: Frame) -> list[str]:
    return [name for name, bit in FLAGS.items() if frame.flags & bit]


def _body(frame: Frame) -> dict[str, Any]:
    if not frame.body:
        return {}
    if _NAMES[frame.type] in MAPS or (frame.type == ACK and frame.flags & FAILED):
        try:
            return {"map": msgspec.msgpack.decode(frame.body, type=dict[str, Any])}
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return {"hex": frame.body.hex()}
    if frame.type == MSG:
        try:
            return {"text": frame.body.decode()}
        except UnicodeDecodeError:
            return {"hex": frame.body.hex()}
    return {"hex": frame.body.hex()}


def _word(value: Any) -> str:
    """As it is if it is one word, else as JSON, which ends where it ends."""
    if isinstance(value, str) and value and value.isprintable() and not set(value) & set(' "{['):
        return value
    return json.dumps(value, ensure_ascii=False, default=repr)
