"""What a gateway has and has done, as plain figures: for metrics of whoever runs it."""

from __future__ import annotations

import msgspec

__all__ = ["Counters"]


class Counters(msgspec.Struct, frozen=True, kw_only=True):
    """Of one node at one moment. What has a limit is called like it; what only grows counts from the start."""

    links: int
    """That messages come down on."""
    up_links: int
    """For what goes up alone."""
    up_waiting: int
    """Messages and up links that wait for their answer."""
    up_bytes: int
    """Bytes of these messages."""
    late_ms: float
    """How late the loop was when it was last looked at."""
    users: int
    """Who has said HELLO and is connected."""
    rooms: int
    """With members here."""
    connections: int
    """Of frames, whether they have said HELLO or not, and exchanges of the tunnel."""
    http: int
    """Connections of HTTP, on which exchanges come and go."""
    frames_in: int
    frames_out: int
    bytes_in: int
    """Of frames; HTTP around them not counted."""
    bytes_out: int
    relayed: int
    """Messages that came for rooms here, from members, services and other nodes."""
    dropped: int
    """Room messages that a link lost because too much waited for it."""
    not_relayed: int
    """Room messages that other nodes did not get because too much waited for the bus, or it was away."""
    refused_links: int
    """Because of `limits.links` or `limits.late_ms`."""
    refused_up_links: int
    """Because of `limits.up_links` or what else holds for what goes up."""
    refused: dict[str, int]
    """Requests on links (messages, joins) that were refused, by the code that they were told."""
    errors: dict[str, int]
    """Links that were ended with an `ERROR`, by its code; those refused too."""
