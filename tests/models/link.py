"""A link in plain Python: the oracle of the link's tests. A stream in; what its owner is told and what it answers out.

Written from the wire and the table of moves alone. It has no carrier, no clock and no turn: room messages that go back
to the link itself are kept apart from its answers, since how the two interleave depends on how the stream was cut.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from imcore._codec import ACK, MSG, PAD, PONG, ROOM
from imcore._link import ANSWER, HAND, IGNORE, RELAY, TAKE
from imcore.errors import BadFrame, FrameError

from . import codec

Call = tuple[object, ...]


@dataclass
class LinkModel:
    """One link; `feed` it, then look at what it did."""

    moves: bytes
    limit: int
    sent: int = 0
    head: int = 0
    pong_head: bool = False
    room: str | None = None
    """The room that the link is in."""

    calls: list[Call] = field(default_factory=list)
    answers: bytes = b""
    heard: bytes = b""
    taken: int = 0
    offset: int = 0
    data: bytes = b""
    over: bool = False

    def feed(self, data: bytes) -> None:
        if self.over:
            return
        self.data += data
        begin = self.offset
        found = codec.decode(self.data, self.limit)
        for frame in found.frames:
            self.frame(frame)
            if self.over:
                return
            self.offset += codec.HEADER.size + len(frame.route.encode()) + len(frame.body)
        self.data = self.data[found.size :]
        if found.error is not None:
            self.fault(found.error, begin + found.error.offset)

    def frame(self, frame: codec.Plain) -> None:
        action = self.moves[frame.type << 3 | frame.flags]
        if action == RELAY and self.room is not None and frame.route == self.room:
            if frame.id:
                self.answers += codec.encode(ACK, frame.id)
            self.heard += codec.encode(MSG, 0, frame.route, frame.body, ROOM)
        elif action in (RELAY, HAND):
            self.calls.append(("frame", frame.type, frame.flags, frame.id, frame.route, frame.body))
        elif action == ANSWER:
            if len(frame.body) not in (0, 2):
                self.fault(BadFrame("PING", self.offset), self.offset)
            else:
                self.answers += codec.encode(PONG, frame.id, body=self.head.to_bytes(8) if self.pong_head else b"")
        elif action == TAKE:
            if frame.id > self.sent:
                self.fault(BadFrame("ACK", self.offset), self.offset)
            self.taken = max(self.taken, frame.id) if frame.id <= self.sent else self.taken
        elif action == IGNORE:
            if frame.type == PAD and len(frame.body) > 4096:
                self.fault(BadFrame("PAD", self.offset), self.offset)
        else:
            self.fault(BadFrame("moves", self.offset), self.offset)

    def fault(self, error: FrameError, at: int) -> None:
        self.over = True
        self.calls.append(("fault", type(error), error.code, at))
        self.calls.append(("end", None))
