"""The queue and the inboxes of an engine in plain Python: dicts and lists, no batches, no disk, no cache."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["InboxModel", "QueueModel"]


@dataclass
class QueueModel:
    """One number per device; what was accepted is handed over until it is settled."""

    accepted: dict[tuple[str, str], int] = field(default_factory=dict)
    unsettled: list[tuple[str, str, int]] = field(default_factory=list)
    dead: list[tuple[str, str, int]] = field(default_factory=list)
    """Put aside, oldest first."""

    def put(self, user: str, device: str, id: int) -> bool:
        """Whether it is handed over."""
        if id <= self.accepted.get((user, device), 0):
            return False
        self.accepted[user, device] = id
        self.unsettled.append((user, device, id))
        return True

    def withdraw(self, user: str, device: str, id: int) -> None:
        """The number counts as accepted."""
        self.accepted[user, device] = max(id, self.accepted.get((user, device), 0))


@dataclass
class InboxModel:
    """One user's inbox."""

    limit: int
    bodies: list[bytes] = field(default_factory=list)
    """All that ever came; number n is at n - 1."""
    first: int = 1
    keys: dict[str, int] = field(default_factory=dict)
    cursors: dict[str, int] = field(default_factory=dict)

    @property
    def head(self) -> int:
        """The newest number."""
        return len(self.bodies)

    def append(self, body: bytes, key: str | None) -> int:
        """The number."""
        if key is not None and key in self.keys:
            return self.keys[key]
        self.bodies.append(body)
        if key is not None:
            self.keys[key] = self.head
        self.first = max(self.first, self.head - self.limit + 1)
        return self.head

    def taken(self, device: str, seq: int) -> None:
        """Messages go when all devices have them."""
        if device in self.cursors:
            self.cursors[device] = max(self.cursors[device], min(seq, self.head))
            self.first = max(self.first, min(self.cursors.values()) + 1)

    def open(self, device: str, resume: tuple[bool, int] | None, fresh: str) -> tuple[int, bool]:
        """Where delivery begins, and whether nothing is missing. `resume`: whether the epoch is right, and the seq."""
        known = self.cursors.get(device)
        if resume is not None:
            right, seq = resume
            first, resumed = (seq + 1, True) if right and self.first - 1 <= seq <= self.head else (self.first, False)
        elif known is not None:
            first, resumed = max(known + 1, self.first), known + 1 >= self.first
        else:
            first, resumed = (self.head + 1 if fresh == "head" else self.first), True
        if known is None:
            self.cursors[device] = first - 1
            self.taken(device, first - 1)
        if resume is not None and resumed:
            self.taken(device, resume[1])
        return first, resumed

    def kept(self) -> list[tuple[int, bytes]]:
        """What can be read."""
        return [(seq, self.bodies[seq - 1]) for seq in range(self.first, self.head + 1)]
