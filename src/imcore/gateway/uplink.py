"""One link's way up: MSG → queue → ACK, in order of arrival (wire: "Messages up").

A repeat is answered again and not processed again. Behind a refusal every later number is refused until the refused one
comes again, as itself or given up: so one integer for each device recognises every repeat.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from .._codec import FAILED
from ..bus.ports import Uplink, UplinkQueue
from ..errors import BadFrame
from ..messages import Refusal
from .admission import Admission

if TYPE_CHECKING:
    from .link import ServerLink

__all__ = ["Up"]

_HELD_BACK = Refusal("overloaded", "a lower number was refused: send that one first, or give it up", 0)
_OURS = Refusal("no_route", "routes that begin with @ are the channel's own", None)


class Up:
    """One link's messages. admission: the node's, of what goes up. unanswered: how many may be on their way to the disk
    before the link is no longer read, and how many refusals may stand behind these."""

    __slots__ = (
        "accepted",
        "admission",
        "answers",
        "at_the_door",
        "full",
        "held",
        "late",
        "link",
        "puts",
        "queue",
        "unanswered",
        "waiting",
    )

    def __init__(self, link: ServerLink, queue: UplinkQueue, admission: Admission, unanswered: int) -> None:
        self.link = link
        self.queue = queue
        self.admission = admission
        self.unanswered = unanswered
        self.accepted = link.accepted  # the highest number known to be durable for this device
        self.held = 0  # the number that was refused and has not come again; 0 = none
        self.waiting: list[tuple[int, int]] = []  # what the queue has not answered, as it came: id, and bytes
        self.puts = 0  # handed to the queue
        self.answers = 0  # and decided
        self.at_the_door = False  # inside a call of the queue's
        self.full = False
        # refusals whose turn has not come: the puts that stand before each, its id, and why
        self.late: deque[tuple[int, int, Refusal]] | None = None

    def message(self, flags: int, id: int, route: str, body: bytes) -> None:
        """A `MSG` that is not for a room."""
        if id == 0:
            self.link.on_fault(BadFrame("MSG: expected a number from 1 on, got id 0 and no ROOM", self.link.offset))
        elif id <= self.accepted:
            self.link.confirm(id)
        elif self.held and id != self.held:
            self._refuse(id, _HELD_BACK)
        elif flags & FAILED:
            if body:
                self.link.on_fault(BadFrame("MSG with FAILED: expected an empty body", self.link.offset))
                return
            self._begin(id, 0)
            self.queue.withdraw(self.link.user, self.link.device, id, self)
            self.at_the_door = False
        elif route[:1] == "@":
            self._begin(id, 0)
            self.answered(id, _OURS)
            self.at_the_door = False
        else:
            self._begin(id, len(body))
            where = self.link.route
            assert where is not None
            self.queue.put(Uplink(where.user, where.device, id, route, body, time.time_ns() // 1_000_000), self)
            self.at_the_door = False

    def objection(self) -> Refusal | None:
        """The queue has looked whether it is a repeat (`ports.Sink`)."""
        return self.admission.message()

    def answered(self, id: int, refusal: Refusal | None) -> None:
        """The queue has decided (`ports.Sink`)."""
        before = self._before(id)
        _, size = self.waiting.pop(before)
        self.admission.answered(size)
        if refusal is None:
            if id > self.accepted:
                self.accepted = id
            self.answers += 1
            self.link.confirm(id)
            if self.late:
                self._send_late()
        else:
            self._refused(id, refusal, before)
        few = self.unanswered // 2
        if self.full and self.puts - self.answers <= few and (not self.late or len(self.late) <= few):
            self.full = False
            self.link.proceed()

    def _before(self, id: int) -> int:
        """How many that came before it wait for their answer: none, but for what is refused out of its turn."""
        if self.at_the_door:
            return len(self.waiting) - 1
        if self.waiting[0][0] == id:
            return 0
        return next(place for place, (number, _) in enumerate(self.waiting) if number == id)

    def _refused(self, id: int, refusal: Refusal, before: int) -> None:
        if not self.held or id < self.held:
            self.held = id
        if self.at_the_door:  # others that came before may still be on their way to the disk
            self.puts -= 1
            self._refuse(id, refusal)
        elif before:  # its turn comes behind them, and before what was refused since
            self.puts -= 1
            turn, late = self.answers + before, self.late or ()
            ahead = [each for each in late if each[0] <= turn]
            behind = [(puts - 1, number, why) for puts, number, why in late if puts > turn]
            self.late = deque([*ahead, (turn, id, refusal), *behind])
        else:
            self.answers += 1
            self.link.refuse(id, refusal)
            if self.late:
                self._send_late()

    def _begin(self, id: int, size: int) -> None:
        self.admission.came(size)
        self.waiting.append((id, size))
        self.held = 0
        self.at_the_door = True
        self.puts += 1
        if self.puts - self.answers >= self.unanswered:
            self._hold()

    def _refuse(self, id: int, refusal: Refusal) -> None:
        if self.puts == self.answers:
            self.link.refuse(id, refusal)
            return
        if self.late is None:
            self.late = deque()
        self.late.append((self.puts, id, refusal))
        if len(self.late) >= self.unanswered:
            self._hold()

    def _hold(self) -> None:
        if not self.full:
            self.full = True
            self.link.hold()

    def _send_late(self) -> None:
        while self.late and self.late[0][0] <= self.answers:
            _, id, refusal = self.late.popleft()
            self.link.refuse(id, refusal)
