"""Which frame may come when, from which side: a table (wire: "The life of a link"). An illegal frame is a missing key.

Sans-I/O: nothing here reads, writes or waits. `moves` turns one row of the table into the form that a link looks frames
up in without a step of Python: one byte for each type and each combination of flags.
"""

from __future__ import annotations

from enum import Enum

from ._codec import ACK, DUP, ERROR, FAILED, GOAWAY, HELLO, JOIN, LEAVE, MSG, PAD, PING, PONG, ROOM, WELCOME
from ._link import ANSWER, HAND, IGNORE, RELAY, TAKE

__all__ = ["HELLO_LIMIT", "LEGAL", "Phase", "moves"]

HELLO_LIMIT = 4096
"""The limit on a frame's length, in bytes, until `HELLO` is accepted."""


class Phase(Enum):
    """Where a link stands, seen from the side that receives."""

    GATEWAY_NEW = "the gateway waits for HELLO"
    GATEWAY_DOWN = "the gateway, role down"
    GATEWAY_UP = "the gateway, role up"
    GATEWAY_BOTH = "the gateway, role both"
    CLIENT_NEW = "the client waits for WELCOME"
    CLIENT_OPEN = "the client, welcomed"
    CLIENT_TUNNEL = "the client, welcomed, in the tunnel"


_Row = dict[int | tuple[int, int], int]

# What is done with a legal frame: HAND it to the link's owner, ANSWER a ping, IGNORE what is only a sign of life, TAKE
# a cumulative acknowledgement, RELAY to the other members of a room. A key is a frame type, with the flags that change
# what the frame is; flags that do not are looked through.
_ALIVE: _Row = {PING: ANSWER, PONG: IGNORE, PAD: IGNORE, ERROR: HAND}
_DOWN: _Row = {ACK: TAKE, JOIN: HAND, LEAVE: HAND}
_UP: _Row = {MSG: HAND, (MSG, FAILED): HAND, (MSG, ROOM): RELAY}
_CLIENT: _Row = {
    PAD: IGNORE,
    MSG: HAND,
    (MSG, ROOM): HAND,
    ACK: HAND,
    (ACK, FAILED): HAND,
    GOAWAY: HAND,
    ERROR: HAND,
}

LEGAL: dict[Phase, _Row] = {
    Phase.GATEWAY_NEW: {HELLO: HAND, PAD: IGNORE, ERROR: HAND},
    Phase.GATEWAY_DOWN: {**_ALIVE, **_DOWN},
    Phase.GATEWAY_UP: {**_ALIVE, **_UP},
    Phase.GATEWAY_BOTH: {**_ALIVE, **_DOWN, **_UP},
    Phase.CLIENT_NEW: {WELCOME: HAND, PAD: IGNORE, ERROR: HAND},
    Phase.CLIENT_OPEN: {PING: ANSWER, PONG: HAND, **_CLIENT},
    Phase.CLIENT_TUNNEL: {PING: HAND, **_CLIENT},  # nobody can answer there: when it comes is what it says
}

_TELLING = {MSG: ROOM | FAILED, ACK: FAILED}
"""The flags that make another frame of a type; the others are looked through."""


def action(phase: Phase, type: int, flags: int) -> int:
    """What is done with a frame that comes in this phase; 0 = it may not come."""
    telling = flags & _TELLING.get(type, 0)
    return LEGAL[phase].get((type, telling) if telling else type, 0)


def moves(phase: Phase, *, relay: bool = True) -> bytes:
    """The phase's row for a `Link`: 128 actions, at index `type << 3 | flags`. relay: False hands room messages to the
    link's owner instead of relaying them."""
    row = bytes(action(phase, type, flags) for type in range(16) for flags in range((DUP | ROOM | FAILED) + 1))
    return row if relay else row.replace(bytes([RELAY]), bytes([HAND]))
