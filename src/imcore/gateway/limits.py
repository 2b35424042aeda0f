"""What a gateway allows a link, in one struct: each figure has a unit and a safe default."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

__all__ = ["Limits", "place"]


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds and times of a gateway's links."""

    max_frame: Annotated[int, Meta(ge=4096, le=16 * 1024 * 1024)] = 64 * 1024
    """A frame's length (route and body) once HELLO is accepted, bytes."""
    heartbeat: tuple[Annotated[int, Meta(ge=1)], Annotated[int, Meta(ge=1, le=65535)]] = (30, 600)
    """Shortest and longest time between a client's signs of life, seconds."""
    idle_s: Annotated[int, Meta(ge=1)] = 120
    """An `up` link that is silent for so long is closed, seconds."""
    handshake_s: Annotated[float, Meta(gt=0)] = 10.0
    """From the connection to a complete HELLO, and TLS's own handshake, seconds."""
    window: Annotated[int, Meta(ge=1)] = 128
    """Inbox messages on their way to one link that it has not acknowledged."""
    window_bytes: Annotated[int, Meta(ge=4096)] = 256 * 1024
    """Bytes that wait for one link: beyond it the oldest room messages of them are dropped, and it is not read from."""
    unanswered: Annotated[int, Meta(ge=1)] = 1024
    """Messages of one link that are not durable yet: beyond it the link is not read from."""
    links: Annotated[int, Meta(ge=1)] = 1_000_000
    """Links of the node that messages come down on: beyond it new ones are refused, with a time to come back."""
    late_ms: Annotated[int, Meta(ge=10)] = 1000
    """How late the loop may be: beyond it new links are refused, with a time to come back."""
    up_links: Annotated[int, Meta(ge=1)] = 100_000
    """`up` links of the node: beyond it new ones are refused, with a time to come back."""
    up_rate: Annotated[int, Meta(ge=0)] = 0
    """Messages and `up` links that the node takes a second: beyond it they are refused; 0 = any."""
    up_waiting: Annotated[int, Meta(ge=1)] = 50_000
    """Messages and `up` links of the node that are not answered yet: beyond it more are refused."""
    up_bytes: Annotated[int, Meta(ge=4096)] = 256 * 1024 * 1024
    """Bytes of these messages: beyond it more are refused."""
    up_late_ms: Annotated[int, Meta(ge=10)] = 500
    """How late the loop may be: beyond it messages and `up` links are refused, with a time to come back."""
    rooms_per_link: Annotated[int, Meta(ge=0, le=65535)] = 64
    """Rooms that one link may be in."""
    publish: Literal["members", "none"] = "members"
    """Who may publish to a room beside the services."""
    devices: Literal["all", "one", "one-per-kind"] = "all"
    """Which of a user's devices may be on at a time: beyond it the newest link stays."""
    drain_s: Annotated[float, Meta(ge=0)] = 5.0
    """How long links get to leave when the gateway stops, seconds."""
    spread_s: Annotated[float, Meta(ge=0)] = 5.0
    """Over how long they are asked to come back elsewhere, seconds."""


def place(devices: Literal["all", "one", "one-per-kind"], device: str) -> str:
    """For which of the user's places (`ports.Route`) a device stands. Its kind is what precedes the first colon of its
    name, or all of it: `phone:6f2a` and `phone` are of one kind."""
    if devices == "all":
        return device
    return device.partition(":")[0] if devices == "one-per-kind" else ""
