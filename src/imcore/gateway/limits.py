"""What a gateway allows a link, in one struct: each figure has a unit and a safe default."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ..errors import ConfigError

__all__ = ["Limits", "place"]


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds and times of a gateway's links. Raises `ConfigError` for what is out of range, or can't be together."""

    max_frame: Annotated[int, Meta(ge=4096, le=16 * 1024 * 1024)] = 64 * 1024
    """A frame's length (route and body) once HELLO is accepted, bytes."""
    heartbeat: tuple[Annotated[int, Meta(ge=1)], Annotated[int, Meta(ge=1, le=65535)]] = (30, 600)
    """Shortest and longest time between a client's signs of life, seconds."""
    idle_s: Annotated[int, Meta(ge=1, le=65535)] = 120
    """An `up` link that is silent for so long is closed, seconds."""
    handshake_s: Annotated[float, Meta(gt=0, le=3600)] = 10.0
    """From the connection to a complete HELLO, and TLS's own handshake, seconds."""
    window: Annotated[int, Meta(ge=1)] = 128
    """Inbox messages on their way to one link that it has not acknowledged."""
    window_bytes: Annotated[int, Meta(ge=4096, le=1024 * 1024 * 1024)] = 256 * 1024
    """Bytes that wait for one link: beyond it the oldest room messages among them are dropped, its inbox is read later,
    and it is not read from."""
    unanswered: Annotated[int, Meta(ge=1)] = 1024
    """Messages of one link that are not durable yet: beyond it the link is not read from."""
    links: Annotated[int, Meta(ge=1)] = 1_000_000
    """Links of the node that messages come down on: beyond it new ones are refused, with a time to come back."""
    user_links: Annotated[int, Meta(ge=1)] = 128
    """Links of one user on the node: beyond it those of further devices are refused."""
    late_ms: Annotated[int, Meta(ge=10)] = 1000
    """How late the loop may be: beyond it new links are refused, with a time to come back."""
    up_links: Annotated[int, Meta(ge=1)] = 100_000
    """`up` links of the node: beyond it new ones are refused, with a time to come back."""
    up_rate: Annotated[int, Meta(ge=0)] = 0
    """Messages and `up` links that the node takes a second: beyond it they are refused; 0 = any."""
    up_waiting: Annotated[int, Meta(ge=1)] = 50_000
    """Messages and `up` links of the node that are not answered yet: beyond it more are refused."""
    up_bytes: Annotated[int, Meta(ge=4096)] = 256 * 1024 * 1024
    """Bytes of these messages: beyond it more are refused. At least `max_frame`."""
    up_late_ms: Annotated[int, Meta(ge=10)] = 500
    """How late the loop may be: beyond it messages and `up` links are refused, with a time to come back. At most
    `late_ms`: what goes up gives way first."""
    rooms_per_link: Annotated[int, Meta(ge=0, le=65535)] = 64
    """Rooms that one link may be in."""
    publish: Literal["members", "none"] = "members"
    """Who may publish to a room beside the services."""
    devices: Literal["all", "one", "one-per-kind"] = "all"
    """Which of a user's devices may be on at a time: beyond it the newest link stays."""
    drain_s: Annotated[float, Meta(ge=0, le=86400)] = 5.0
    """How long links get to leave when the gateway stops, seconds."""
    spread_s: Annotated[float, Meta(ge=0, le=86400)] = 5.0
    """Over how long they are asked to come back elsewhere, seconds."""

    def __post_init__(self) -> None:
        for field in msgspec.structs.fields(self):
            value = getattr(self, field.name)
            try:
                msgspec.convert(value, field.type)
            except msgspec.ValidationError as error:
                raise ConfigError(f"{field.name}: {error}, got {value!r}") from None
        if self.heartbeat[0] > self.heartbeat[1]:
            raise ConfigError(f"heartbeat: expected [shortest, longest], got {list(self.heartbeat)}")
        if self.up_late_ms > self.late_ms:
            raise ConfigError(
                f"up_late_ms: expected at most late_ms ({self.late_ms}), since what goes up gives way first, got "
                f"{self.up_late_ms}: lower it, or raise late_ms"
            )
        if self.up_bytes < self.max_frame:
            raise ConfigError(
                f"up_bytes: expected at least max_frame ({self.max_frame}), or the largest messages never pass, got "
                f"{self.up_bytes}: raise it, or lower max_frame"
            )


def place(devices: Literal["all", "one", "one-per-kind"], device: str) -> str:
    """For which of the user's places (`ports.Route`) a device stands. Its kind is what precedes the first colon of its
    name, or all of it: `phone:6f2a` and `phone` are of one kind."""
    if devices == "all":
        return device
    return device.partition(":")[0] if devices == "one-per-kind" else ""
