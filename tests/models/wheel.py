"""The timer wheel as a dictionary that is searched from end to end: the oracle of the compiled one.

It is told each id and each expiry, in the order that the compiled wheel chose, and asserts that they were right.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["WheelModel"]


@dataclass
class Timer:
    deadline: int
    waits: bool = False
    """Armed, or hastened, inside of an advance to a tick that had passed: it expires in the next one."""


class WheelModel:
    """What `TimerWheel` must do. Ids are the compiled wheel's, and never come twice."""

    def __init__(self, now: int = 0) -> None:
        self.now = now
        self.advancing = False
        self.timers: dict[int, Timer] = {}
        self.stale: set[int] = set()

    def __len__(self) -> int:
        return len(self.timers)

    @property
    def earliest(self) -> int | None:
        return min((timer.deadline for timer in self.timers.values()), default=None)

    def arm(self, id: int, deadline: int) -> None:
        assert id not in self.timers
        assert id not in self.stale
        self.timers[id] = Timer(deadline, waits=self.advancing and deadline <= self.now)

    def refresh(self, id: int, deadline: int) -> None:
        if deadline < self.timers[id].deadline:
            raise ValueError
        self.timers[id].deadline = deadline

    def hasten(self, id: int, deadline: int) -> None:
        timer = self.timers[id]
        if timer.deadline > self.now:
            timer.waits = self.advancing and deadline <= self.now
        timer.deadline = deadline

    def cancel(self, id: int) -> None:
        del self.timers[id]
        self.stale.add(id)

    def due(self) -> set[int]:
        return {id for id, timer in self.timers.items() if timer.deadline <= self.now and not timer.waits}

    def begin(self, now: int) -> None:
        """An advance begins."""
        if now < self.now:
            raise ValueError
        self.now = now
        self.advancing = True

    def expire(self, id: int) -> None:
        """The compiled wheel says that this one has expired."""
        assert id in self.due()
        self.cancel(id)

    def end(self) -> None:
        """The advance ends: nothing was forgotten."""
        assert not self.due()
        self.advancing = False
        for timer in self.timers.values():
            timer.waits = False
