"""What the engine holds in memory of a user: numbers, devices, cursors, and the messages that no table has yet.

The cache is bounded: who did nothing for a while is dropped and read again from the tables when needed. Most users have
one device, no message and no key: what not every one has takes no memory until it is there. Nothing here runs SQL;
`fold` brings state to the tables and back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container

import msgspec

from ..ports import Wake

__all__ = ["Device", "Limits", "User", "Users"]

ANSWERS_KEPT = 16
"""Keys of messages that are settled already which an inbox goes on remembering."""
KEYS_KEPT = 1000
"""A program's own keys which an inbox remembers."""
DEVICES_KEPT = 64
"""Devices that a user may have; the one unseen for longest is forgotten."""


class Limits(msgspec.Struct, frozen=True):
    """What is kept for a user at most. What is over is expired, oldest first, and counted."""

    count: int
    """Messages in an inbox."""
    size: int
    """Bytes of bodies in an inbox; what lies in the tables counts with its average."""
    age_ms: int
    """How old a message may become."""
    device_ttl_ms: int
    """A device that was not seen for so long holds nothing back any more."""


class Device:
    """Where one device stands, both ways."""

    __slots__ = ("accepted", "name", "pending", "seen_ms", "taken", "user")

    def __init__(self, user: User, name: str, accepted: int = 0, taken: int = -1, seen_ms: int = 0) -> None:
        self.user = user
        self.name = name
        self.accepted = accepted
        """The highest message number that is durable."""
        self.pending = accepted
        """The highest message number that was put: durable, or on its way to the disk."""
        self.taken = taken
        """Everything up to here has been taken in; -1: the device has no cursor, nothing is kept for it."""
        self.seen_ms = seen_ms


class User:
    """One inbox and the devices that belong to it."""

    __slots__ = (
        "answers", "assigned", "devices", "dirty", "expired", "expired_stored", "first", "folding", "forgotten", "head",
        "keys", "name", "prune_at", "size", "stored", "stored_size", "swept", "tail", "used",
    )  # fmt: skip

    def __init__(self, name: str, head: int = 0, first: int = 1, stored_size: int = 0, expired: int = 0) -> None:
        self.name = name
        self.head = head
        """The newest durable number."""
        self.assigned = head
        """The newest number given out."""
        self.first = first
        """The oldest number kept; head + 1 if nothing is."""
        self.stored = head
        """The newest number that has gone to the table."""
        self.swept = first
        """The table has nothing below this number."""
        self.expired = self.expired_stored = expired
        """How many were let go of before all devices that count had them; and so many as the table says."""
        self.stored_size = stored_size
        self.size = stored_size
        self.tail: list[Wake] | tuple[()] = ()
        """What is kept above `stored`; a list from the first message on until nothing is."""
        self.devices: tuple[Device, ...] = ()
        self.keys: dict[str, int] | None = None
        """A program's own keys; None: there are none."""
        self.answers: dict[str, int] | None = None
        """Keys that are those of messages in the queue: a handler may come again with them until they are settled."""
        self.prune_at = 2 * ANSWERS_KEPT
        self.forgotten: tuple[str, ...] = ()
        """Devices whose rows the table still has."""
        self.dirty = False
        self.folding = False
        self.used = True

    def known_device(self, name: str) -> Device | None:
        """The device of that name, if there is one."""
        for device in self.devices:
            if device.name == name:
                return device
        return None

    def device(self, name: str) -> Device:
        """The device of that name, made if there is none."""
        device = self.known_device(name)
        if device is None:
            if len(self.devices) >= DEVICES_KEPT:
                idle = [d for d in self.devices if d.pending == d.accepted]
                if idle:
                    oldest = min(idle, key=lambda d: d.seen_ms)
                    self.devices = tuple(d for d in self.devices if d is not oldest)
                    self.forgotten += (oldest.name,)
            device = Device(self, name)
            self.devices += (device,)
        return device

    def append(
        self, wake: Wake, key: str | None, open_keys: Container[str], dead_keys: Container[str] = frozenset()
    ) -> None:
        """The message is durable. `open_keys` are those of the messages that are not settled, `dead_keys` those of the
        messages that were put aside: both may come to their handlers again."""
        self.head = wake.seq
        if self.tail:
            self.tail.append(wake)
        else:
            self.tail = [wake]
        self.size += len(wake.body)
        if key is None:
            return
        if key in open_keys:
            if self.answers is None:
                self.answers = {}
            answers = self.answers
            answers[key] = wake.seq
            if len(answers) >= self.prune_at:
                for old in list(answers)[:-ANSWERS_KEPT]:
                    if old not in open_keys and old not in dead_keys:
                        del answers[old]
                self.prune_at = 2 * max(len(answers), ANSWERS_KEPT)
        else:
            if self.keys is None:
                self.keys = {}
            self.keys[key] = wake.seq
            if len(self.keys) > KEYS_KEPT:
                del self.keys[next(iter(self.keys))]

    def known(self, key: str) -> int | None:
        """The number that was given to this key."""
        answered = self.answers.get(key) if self.answers else None
        return answered or (self.keys.get(key) if self.keys else None)

    def drop(self, first: int) -> int:
        """Let go of everything below `first`; returns how many messages that were."""
        dropped = first - self.first
        if dropped <= 0:
            return 0
        in_table = min(first - 1, self.stored) - self.first + 1
        if in_table > 0:
            part = self.stored_size * in_table // (self.stored - self.first + 1)
            self.stored_size -= part
            self.size -= part
        self.size -= self.cut(first)
        self.first = first
        return dropped

    def cut(self, first: int) -> int:
        """Take what is below `first` out of `tail`; returns its bytes."""
        tail = self.tail
        if not tail or tail[0].seq >= first:
            return 0
        gone = first - tail[0].seq
        size = sum(len(wake.body) for wake in tail[:gone])
        if gone < len(tail):
            del tail[:gone]
        else:
            self.tail = ()
        return size

    def expire(self, first: int) -> int:
        """Let go of everything below `first` though somebody may lack it; returns how many messages that were."""
        dropped = self.drop(first)
        self.expired += dropped
        return dropped

    def trim(self, limits: Limits) -> int:
        """Expire what is over the limits of count and size; returns how many messages that were."""
        dropped = self.expire(max(self.first, self.head - limits.count + 1))
        while self.size > limits.size and self.first < self.head:
            over, in_table = self.size - limits.size, self.stored - self.first + 1
            if in_table > 0:
                dropped += self.expire(self.first + min(in_table, 1 + over * in_table // max(1, self.stored_size)))
            else:
                dropped += self.expire(self.first + 1)
        return dropped

    def floor(self, stale_ms: int, connected: Callable[[str, str], bool]) -> int:
        """Up to which number all devices that count have taken everything, or -1 if there are none."""
        floor = -1
        for device in self.devices:
            taken = device.taken
            if taken < 0 or (device.seen_ms < stale_ms and not connected(self.name, device.name)):
                continue
            if floor < 0 or taken < floor:
                floor = taken
        return floor

    def idle(self) -> bool:
        """Whether the tables hold all that there is to know, and nothing is on its way."""
        return not (self.dirty or self.folding or self.tail or self.assigned != self.head) and all(
            device.pending == device.accepted for device in self.devices
        )


class Users(dict[str, User]):
    """The users in memory. A clock's hand goes round: who was not used since it last came is dropped."""

    def __init__(self) -> None:
        super().__init__()
        self._ring: deque[User] = deque()  # an ordered dict would take four times as much

    def __setitem__(self, name: str, user: User) -> None:
        super().__setitem__(name, user)
        self._ring.append(user)

    def sweep(self, count: int) -> None:
        """Move the hand by `count` users at most."""
        ring = self._ring
        for _ in range(min(count, len(ring))):
            user = ring.popleft()
            if user.used or not user.idle():
                user.used = False
                ring.append(user)
            else:
                del self[user.name]
                user.devices = ()  # user and device know each other: a circle that only the collector would find
