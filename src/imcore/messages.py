"""The control maps as structs (wire: "Control maps"), with their limits; MessagePack in, MessagePack out.

Unknown keys are ignored. A missing key, a wrong type or an over-long string is a `BadHello` that names the key.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from .errors import BadHello

__all__ = ["Error", "GoAway", "Hello", "Refusal", "Resume", "Welcome", "pack", "unpack"]

Role = Literal["down", "up", "both"]
Count = Annotated[int, Meta(ge=0)]  # MessagePack ends at 2**64 - 1 by itself
Millis = Annotated[int, Meta(ge=0, le=2**53)]
Seconds = Annotated[int, Meta(ge=1, le=65535)]  # what a PING can announce


class Resume(msgspec.Struct, frozen=True, gc=False):
    """Where delivery goes on: every message up to `seq` of the inbox called `epoch` was taken in."""

    epoch: Annotated[str, Meta(max_length=64)]
    seq: Count


class Hello(msgspec.Struct, frozen=True, omit_defaults=True):
    """The client's first frame."""

    token: Annotated[str, Meta(max_length=2048)]
    device: Annotated[str, Meta(max_length=64)]
    role: Role
    client: Annotated[str, Meta(max_length=255)] = ""
    resume: Resume | None = None
    accepts: Annotated[list[Annotated[str, Meta(max_length=16)]], Meta(max_length=8)] = []
    fresh: Literal["oldest", "head"] = "oldest"
    poll_ms: Millis | None = None
    carrier: Annotated[str, Meta(max_length=64)] = ""
    pad: Annotated[int, Meta(ge=0, le=4096)] | None = None
    nonce: Annotated[str, Meta(max_length=64)] | UnsetType = UNSET


class Welcome(msgspec.Struct, frozen=True):
    """The gateway's first frame."""

    session: str
    user: str
    node: str
    epoch: str
    head: Count
    first: Count
    resumed: bool
    accepted: Count
    heartbeat: tuple[Seconds, Seconds]
    idle_s: Count
    max_frame: Annotated[int, Meta(ge=1, le=16 * 1024 * 1024)]
    time_ms: Count
    nonce: str | UnsetType = UNSET


class Refusal(msgspec.Struct, frozen=True):
    """Why an `ACK` carries `FAILED`. `retry_ms` None: do not try again as it is."""

    code: str
    text: str
    retry_ms: Millis | None = None


class GoAway(msgspec.Struct, frozen=True):
    """Leave within `drain_ms`, come back after a random part of `spread_ms`."""

    code: str
    drain_ms: Millis
    spread_ms: Millis
    endpoints: list[str] = []


class Error(msgspec.Struct, frozen=True):
    """The last frame of a link."""

    code: str
    text: str
    retry_ms: Millis | None = None
    nonce: str | UnsetType = UNSET


Map = TypeVar("Map", Hello, Welcome, Refusal, GoAway, Error)

_encoder = msgspec.msgpack.Encoder()
_decoders = {kind: msgspec.msgpack.Decoder(kind) for kind in (Hello, Welcome, Refusal, GoAway, Error)}


def pack(value: msgspec.Struct) -> bytes:
    """The body of a control frame."""
    return _encoder.encode(value)


def unpack(body: bytes, kind: type[Map]) -> Map:
    """The map in the body of a control frame; raises `BadHello` that says what was expected, and where."""
    try:
        return _decoders[kind].decode(body)  # type: ignore[return-value]  # the table maps each kind to its own decoder
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # RecursionError: a thousand arrays, one in the other, under a key that we ignore, are a thousand bytes. The
        # text may quote the other side's values, and is sent and logged: it is cut, in the middle: the key ends it.
        why = str(error)
        why = why if len(why) <= 200 else f"{why[:99]}…{why[-100:]}"
        raise BadHello(f"{kind.__name__}: expected the map of that name in MessagePack: {why}") from None
