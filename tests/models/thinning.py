"""What waits for a link that can't keep up, in plain Python: the oracle of the test of rooms' thinning."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["ThinningModel"]


@dataclass
class ThinningModel:
    """window: bytes that may wait before rooms' messages make room for newer ones."""

    window: int
    waiting: list[tuple[bool, bytes]] = field(default_factory=list)
    """Of a room or the link's own, and the frame; oldest first. Nothing of it has begun to go out."""
    dropped: int = 0

    @property
    def size(self) -> int:
        return sum(len(frame) for _, frame in self.waiting)

    def own(self, frame: bytes) -> None:
        self.waiting.append((False, frame))

    def of_a_room(self, frame: bytes) -> None:
        own = sum(len(kept) for of_room, kept in self.waiting if not of_room)
        if own and own + len(frame) > self.window:  # older ones could not make room enough
            self.dropped += 1
            return
        while self.waiting and self.size + len(frame) > self.window:
            self.waiting.remove(next(each for each in self.waiting if each[0]))
            self.dropped += 1
        self.waiting.append((True, frame))
