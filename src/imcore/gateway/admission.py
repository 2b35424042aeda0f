"""Who may come in when there is much to do: links that hear, and what goes up, are counted and refused apart.

A flood of one never shuts the other out. Those who are in are never put out here, and nothing here looks at an inbox.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from ..messages import Refusal, Role
from .limits import Limits

__all__ = ["COME_BACK_MS", "RETRY_MS", "Admission", "retry_ms"]

COME_BACK_MS = 5000
"""Within so long, and after a second, those come back who were refused because there was too much to do."""
RETRY_MS = 1000
"""The same for a message: in the middle of it."""


class Admission:
    """One gateway's. late_ms: how late the loop was when it was last looked at, milliseconds."""

    def __init__(self, limits: Limits, late_ms: Callable[[], float]) -> None:
        self._limits = limits
        self._late_ms = late_ms
        self.links = 0
        """That messages come down on, with those whose user is known and whose HELLO is being answered."""
        self.up_links = 0
        self.waiting = 0
        """What came up and is not answered yet: HELLOs of up links whose user is known, and messages that are not
        durable."""
        self.size = 0
        """Bytes of these messages."""
        self.refused = {"links": 0, "up_links": 0}
        self._rate = limits.up_rate
        self._allowed = float(limits.up_rate)
        self._filled = time.monotonic()

    def stranger(self, role: Role) -> Refusal | None:
        """A HELLO with this role has come, and nobody knows yet whose it is: it is refused if `link` would refuse it
        now, for what does not depend on it, and it takes nothing from those who are known."""
        up = role == "up"
        count, most = (self.up_links, self._limits.up_links) if up else (self.links, self._limits.links)
        late_ms = self._limits.up_late_ms if up else self._limits.late_ms
        return self._no_link(up, self._full(count, most, "links up" if up else "links", late_ms))

    def link(self, role: Role) -> Refusal | None:
        """The user of a HELLO with this role is known. Without an objection it is in, until `left`."""
        if (refusal := self.stranger(role)) is not None:
            return refusal
        if role != "up":
            self.links += 1
            return None
        if (refusal := self._no_link(True, self._crowded(self.waiting + 1))) is None:
            self.up_links += 1
        return refusal

    def left(self, role: Role) -> None:
        """A link that was in is over."""
        if role == "up":
            self.up_links -= 1
        else:
            self.links -= 1

    def came(self, size: int) -> None:
        """A message of so many bytes has come up: it waits until `answered`."""
        self.waiting += 1
        self.size += size

    def answered(self, size: int) -> None:
        """It has its answer, and is not kept for it any more."""
        self.waiting -= 1
        self.size -= size

    def message(self) -> Refusal | None:
        """Whether one that came may go on."""
        why = self._late() if self._late_ms() > self._limits.up_late_ms else self._crowded(self.waiting)
        return None if why is None else Refusal("overloaded", why, retry_ms())

    def _no_link(self, up: bool, why: str | None) -> Refusal | None:
        if why is None:
            return None
        self.refused["up_links" if up else "links"] += 1
        return Refusal("overloaded", why, random.randint(1000, COME_BACK_MS))

    def _full(self, count: int, most: int, what: str, late_ms: int) -> str | None:
        if count >= most:
            return f"this node has {most} {what} and takes no more"
        return self._late() if self._late_ms() > late_ms else None

    def _late(self) -> str:
        return f"this node is {self._late_ms() / 1000:.1f} s late with its work and takes no more for now"

    def _crowded(self, waiting: int) -> str | None:
        """Of what goes up in all: too much at once, with this one, or too much in this second."""
        if waiting > self._limits.up_waiting:
            return f"{waiting - 1} messages and links wait for this node's answer"
        if self.size > self._limits.up_bytes:
            return f"{self.size} bytes of messages wait for this node's answer"
        if self._rate:
            now = time.monotonic()
            self._allowed = min(self._rate, self._allowed + (now - self._filled) * self._rate)
            self._filled = now
            if self._allowed < 1:
                return f"this node takes {self._rate} messages and links up a second"
            self._allowed -= 1
        return None


def retry_ms() -> int:
    """`RETRY_MS` for one of many: they do not all come back at once."""
    return random.randint(RETRY_MS // 2, RETRY_MS * 3 // 2)
