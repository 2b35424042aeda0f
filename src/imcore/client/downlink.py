"""What comes down: every inbox message once and in order, from the link to the application (wire: "Messages down").

Sans-I/O. Two numbers matter: what the application has *taken* (it came back for the next one), which is the resume
point; and what *this link* has brought, above which nothing may be acknowledged on it. What lies between them waits
here, bounded.
"""

from __future__ import annotations

from collections import deque

import msgspec

from ..messages import Resume, Welcome

__all__ = ["ACK_COUNT", "ACK_S", "Downlink", "Gap", "Message"]

ACK_S = 0.1
"""How long an acknowledgement may wait for others, seconds."""
ACK_COUNT = 32
"""And for how many messages."""
COUNT = 1_000
"""Messages that wait for the application before the link is not read any more."""
SIZE = 4 * 1024 * 1024
"""And their bytes."""


class Gap(msgspec.Struct, frozen=True):
    """History that is lost: it expired before this device took it, or the server lost it."""

    lost: range | None
    """The numbers that are missing; None: not known, as the numbers begin anew or it was not known where this device
    stood. What follows may then also have been seen before."""


class Message(msgspec.Struct, frozen=True):
    """A message as the application sees it."""

    seq: int
    """Its number in the inbox; 0 = transient: not stored, not acknowledged."""
    route: str
    """The service, or the room, that it came by."""
    body: bytes
    room: str | None = None
    """The room, if it came by one."""
    gap: Gap | None = None
    """What is missing before it."""


class Downlink:
    """resume: where an earlier process stopped, if that is known."""

    def __init__(self, resume: Resume | None = None, *, count: int = COUNT, size: int = SIZE) -> None:
        self._point = resume  # the resume point, as long as nothing of this history was taken
        self._epoch = resume.epoch if resume else None
        self._taken = resume.seq if resume else 0
        self._known = self._taken  # the newest number that was handed to the inbox
        self._received = 0  # the newest that this link has brought
        self._acked = 0  # the newest that was acknowledged on it
        self._confirmed = 0  # the newest that the server is known to have been told
        self._gap: Gap | None = None
        self._unsettled = False  # history was lost, and nothing was taken since
        self._count = count
        self._size = size
        self._inbox: deque[tuple[int, Message]] = deque()  # with the history that the number belongs to
        self._held = 0
        self._history = 0  # counts epochs
        self._handed: tuple[int, int] | None = None  # history and number of what the application works on
        self.dropped = 0
        """Transient messages that found the inbox full."""

    @property
    def resume(self) -> Resume | None:
        """The resume point for the next `HELLO`. It stays in a history that was lost until something of the new one is
        taken, so that the gap is told again to who was not there to hear it."""
        if self._epoch is None or self._unsettled:
            return self._point
        return Resume(self._epoch, self._taken)

    def begin(self, welcome: Welcome, asked: Resume | None) -> None:
        """A new link was welcomed, which asked to go on at `asked`."""
        before = welcome.first - 1
        if self._epoch is None:
            self._epoch = welcome.epoch
            self._taken = self._known = before
            if not welcome.resumed:
                self._unsettled = True
                self._add_gap(Gap(None))
        elif welcome.epoch != self._epoch or self._beyond(welcome, asked):
            if not self._unsettled:
                self._point = Resume(self._epoch, self._taken)
                self._unsettled = True
            self._epoch = welcome.epoch
            self._history += 1
            self._taken = self._known = before
            self._add_gap(Gap(None))
        elif before > self._known:
            self._add_gap(Gap(range(self._known + 1, welcome.first)))
            self._known = before
        self._received = self._acked = self._confirmed = before

    def receive(self, seq: int, route: str, body: bytes, room: str | None = None) -> bool:
        """The link brought a message. False: the one before it is missing, so the link can't be trusted."""
        if seq == 0:
            if self.full:
                self.dropped += 1
            else:
                self._put(Message(0, route, body, room))
            return True
        if seq <= self._received:
            return True
        if seq != self._received + 1:
            return False
        self._received = seq
        if seq > self._known:
            self._known = seq
            self._put(Message(seq, route, body, room, self._gap))
            self._gap = None
        return True

    def hand_out(self) -> Message | None:
        """The application's next message, if one is there. The one before must be `take`n first."""
        if not self._inbox:
            return None
        history, message = self._inbox.popleft()
        self._held -= len(message.body)
        self._handed = (history, message.seq)
        return message

    def take(self) -> None:
        """The application is done with what was handed out last."""
        if self._handed is not None:
            history, seq = self._handed
            self._handed = None
            if history == self._history and seq > self._taken:
                self._taken = seq
                self._unsettled = False

    @property
    def due(self) -> int:
        """The number to acknowledge on this link, 0 = nothing new: what is taken, as far as the link has brought it."""
        number = min(self._taken, self._received)
        return number if number > self._acked else 0

    @property
    def unacknowledged(self) -> int:
        """How many messages an acknowledgement would cover now."""
        return max(0, min(self._taken, self._received) - self._acked)

    def acknowledged(self, seq: int) -> None:
        """`ACK` of `seq` was sent."""
        self._acked = seq

    @property
    def acked(self) -> int:
        """The newest number that was acknowledged on this link."""
        return self._acked

    def confirm(self, seq: int) -> None:
        """The gateway has read the acknowledgement of `seq`."""
        self._confirmed = max(self._confirmed, seq)

    @property
    def owing(self) -> bool:
        """The server may not know of everything that was taken."""
        return self._taken > self._confirmed

    @property
    def waiting(self) -> bool:
        """Something that this link has brought is not taken yet."""
        return self._taken < self._received

    @property
    def empty(self) -> bool:
        """Nothing waits for the application."""
        return not self._inbox

    @property
    def full(self) -> bool:
        """No more should be read from the link."""
        return len(self._inbox) >= self._count or self._held >= self._size

    @property
    def drained(self) -> bool:
        """Half of the room is free again."""
        return len(self._inbox) <= self._count // 2 and self._held <= self._size // 2

    @property
    def received(self) -> int:
        """The newest number that this link has brought."""
        return self._received

    def behind(self, head: int) -> bool:
        """The inbox's newest number is ahead although the gateway has every reason to send: a push was lost?"""
        return head > self._received and self._acked >= self._received

    @staticmethod
    def _beyond(welcome: Welcome, asked: Resume | None) -> bool:
        """Our resume point lies beyond their head: their numbers are not those that we know."""
        return asked is not None and asked.epoch == welcome.epoch and not welcome.resumed and welcome.first <= asked.seq

    def _put(self, message: Message) -> None:
        self._inbox.append((self._history, message))
        self._held += len(message.body)

    def _add_gap(self, gap: Gap) -> None:
        if self._gap is None or gap.lost is None:
            self._gap = gap
        elif self._gap.lost is not None:
            self._gap = Gap(range(self._gap.lost.start, gap.lost.stop))
