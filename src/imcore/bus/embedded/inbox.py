"""The inbox: a user's messages, numbered without gaps, kept until all devices that count have them or limits say no.

A number is given out when `append` is called and counts when its batch is durable. Recent messages are read from
memory, older ones from the table.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Container, Sequence

from ...errors import EngineError
from ...messages import Resume
from ..ports import Opening, Stored, Wake
from .core import Core
from .journal import DOWN, Down
from .store import in_list
from .users import Device, User

__all__ = ["EmbeddedInbox"]

SEEN_MS = 3_600_000
"""A device's last sign of life is written down again after so long."""
AGED = 1000
"""Messages that one look for over-aged ones takes in."""


class EmbeddedInbox:
    """Follows `ports.Inbox`."""

    def __init__(
        self,
        core: Core,
        epoch: str,
        open_keys: Container[str],
        connected: Callable[[str, str], bool],
        wake: Callable[[Sequence[Wake]], None],
    ) -> None:
        self._core = core
        self._users = core.users
        self._journal = core.journal
        self._epoch = epoch
        self._open_keys = open_keys
        self._connected = connected
        self._wake = wake
        self._keys: dict[tuple[str, str], int] = {}
        self._asked: list[tuple[str, Callable[[int], None]]] = []

    def attach(self, changed: Callable[[Callable[[str], bool]], None]) -> None:
        """History is lost between two lives of the process only, never while links stand."""

    async def open(self, user: str, device: str, resume: Resume | None, fresh: str, *, down: bool = True) -> Opening:
        """A device comes. Raises `EngineError` if its state can't be read."""
        state = self._users.get(user)
        if state is None:
            state = await self._core.user(user)
        state.used = True
        known = state.known_device(device)
        if not down:
            return Opening(self._epoch, state.head, state.head + 1, True, known.accepted if known else 0)
        if known is None:
            known = state.device(device)
        first, resumed = self._begin(state, known, resume, fresh)
        now = self._core.clock.now_ms  # one number for all who come within a second
        if known.taken < 0 or abs(now - known.seen_ms) > SEEN_MS:
            known.seen_ms = now
            # What follows `first` is kept from here on; what another epoch's resume point means is not known.
            known.taken = max(known.taken, first - 1)
            self._journal.marks[known] = None
            self._core.touch(state)
            self._journal.lazily()
            self.settle_floor(state)
        if resume is not None and resumed:
            self._take(state, known, resume.seq)
        return Opening(self._epoch, state.head, first, resumed, known.accepted)

    def append(self, user: str, route: str, body: bytes, key: str | None = None) -> asyncio.Future[int]:
        """Append: the number, once it is durable. Fails with `EngineError`, and then nothing was appended."""
        future: asyncio.Future[int] = self._core.loop.create_future()
        state = self._users.get(user)
        if state is None:
            self._core.load(user, lambda state: self._append(state, route, body, key, future))
        else:
            self._append(state, route, body, key, future)
        return future

    async def read(self, user: str, after: int, count: int, size: int) -> list[Stored]:
        """The messages after number `after`, from memory or from the table. Raises `EngineError`."""
        state = self._users.get(user)
        if state is None:
            state = await self._core.user(user)
        state.used = True
        after = max(after, state.first - 1)
        if after >= state.head:
            return []
        found: list[Stored] = []
        if not state.tail or after + 1 < state.tail[0].seq:
            head = state.head
            found = await self._core.reader.ask(lambda connection: _read(connection, user, after, head, count, size))
            found = [message for message in found if message.seq >= state.first]
            after = found[-1].seq if found else max(after, state.first - 1)
            size -= sum(len(message.body) for message in found)
        tail = state.tail
        if tail and after + 1 >= tail[0].seq:
            start = after + 1 - tail[0].seq
            for wake in tail[start : start + max(0, count - len(found))]:
                size -= len(wake.body)
                if found and size < 0:
                    break
                found.append(Stored(wake.seq, wake.route, wake.body))
        return found

    def newest(self, user: str, then: Callable[[int], None]) -> None:
        """The newest number: from memory, or from the table of who is not there, without bringing anybody in. Those who
        ask in one turn are answered by one trip."""
        state = self._users.get(user)
        if state is not None:
            then(state.head)
            return
        self._asked.append((user, then))
        if len(self._asked) == 1:
            self._core.loop.call_soon(self._ask)

    def taken(self, user: str, device: str, seq: int) -> None:
        """The device has taken in everything up to `seq`."""
        state = self._users.get(user)
        if state is not None:
            self._taken(state, device, seq)
        else:
            self._core.load(
                user, lambda user: None if isinstance(user, EngineError) else self._taken(user, device, seq)
            )

    def landed(self, down: Down) -> None:
        """The batch is durable: its messages count, wake-ups go out, and who waited goes on."""
        counters, limits, touch = self._core.counters, self._core.limits, self._core.touch
        open_keys, dead_keys = self._open_keys, self._core.dead_keys
        appended, full = down.appended, set[User]()
        for wake, key, user in zip(appended, down.keys, down.owners, strict=True):
            user.append(wake, key, open_keys, dead_keys)
            if not user.dirty:
                touch(user)
            if user.size > limits.size or wake.seq - user.first >= limits.count:
                full.add(user)
            if key is not None:
                del self._keys[user.name, key]
        for user in full:  # once a part: to take the first out of a long list costs as much as to take a hundred
            counters["expired"] += user.trim(limits)
        if appended:
            counters["appended"] += len(appended)
            self._wake(appended)
        for future, wake in zip(down.futures, appended, strict=True):
            if not future.done():
                future.set_result(wake.seq)
        for future, seq in down.followers:
            if not future.done():
                future.set_result(seq)

    def failed(self, downs: Sequence[Down], error: EngineError) -> None:
        """Nothing of these is durable, and their numbers are free again."""
        self._keys.clear()
        for down in downs:
            for user in down.owners:
                user.assigned = user.head
        for down in downs:
            for future in [*down.futures, *(future for future, _ in down.followers)]:
                if not future.done():
                    future.set_exception(error)

    def settle_floor(self, user: User) -> None:
        """Let go of what all devices that count have taken."""
        floor = user.floor(self._core.clock.before(self._core.limits.device_ttl_ms), self._connected)
        if floor >= user.first:
            self._core.counters["delivered"] += user.drop(floor + 1)
            self._core.touch(user)

    async def expire_aged(self) -> bool:
        """Expire some of what is too old; True if there may be more."""
        limit = self._core.clock.before(self._core.limits.age_ms)
        aged = await self._core.reader.ask(lambda connection: _aged(connection, limit))
        for name, seq in aged:
            user = await self._core.user(name)
            self._core.counters["expired"] += user.expire(min(seq, user.stored) + 1)
            self._core.touch(user)
        return len(aged) > 0

    def _append(
        self, user: User | EngineError, route: str, body: bytes, key: str | None, future: asyncio.Future[int]
    ) -> None:
        journal = self._journal
        if isinstance(user, EngineError) or self._core.closing:
            if not future.done():
                future.set_exception(user if isinstance(user, EngineError) else EngineError("the engine is closed"))
            return
        user.used = True
        if key is not None:
            known = user.known(key)
            if known is not None:
                if not future.done():
                    future.set_result(known)
                return
            coming = self._keys.get((user.name, key))
            if coming is not None:
                journal.down.followers.append((future, coming))
                journal.soon()
                return
        seq = user.assigned = user.assigned + 1
        if key is not None:
            self._keys[user.name, key] = seq
        down = journal.down
        if len(down.appended) >= DOWN:
            down = journal.next_down()
        down.appended.append(Wake(user.name, seq, route, body))
        down.keys.append(key)
        down.owners.append(user)
        down.futures.append(future)
        journal.soon()

    def _ask(self) -> None:
        asked, self._asked = self._asked, []
        names = list({user for user, _ in asked})

        def answer(future: asyncio.Future[dict[str, int]]) -> None:
            if future.exception() is not None:
                return  # they will ask again
            heads = future.result()
            for user, then in asked:
                then(heads.get(user, 0))

        self._core.reader.ask(lambda connection: _heads(connection, names)).add_done_callback(answer)

    def _begin(self, user: User, device: Device, resume: Resume | None, fresh: str) -> tuple[int, bool]:
        """Where delivery begins, and whether nothing is missing (wire: "Messages down")."""
        if resume is not None:
            if resume.epoch != self._epoch or resume.seq > user.head or resume.seq + 1 < user.first:
                return user.first, False
            return resume.seq + 1, True
        if device.taken >= 0:
            return max(device.taken + 1, user.first), device.taken + 1 >= user.first
        return (user.head + 1 if fresh == "head" else user.first), True

    def _taken(self, user: User, name: str, seq: int) -> None:
        device = user.known_device(name)
        if device is not None and device.taken >= 0:  # a device that only sends has no cursor to move
            self._take(user, device, seq)

    def _take(self, user: User, device: Device, seq: int) -> None:
        seq = min(seq, user.head)
        if seq <= device.taken:
            return
        user.used = True
        device.taken = seq
        device.seen_ms = self._core.clock.now_ms
        self._journal.marks[device] = None
        self._core.touch(user)
        self._journal.lazily()
        self.settle_floor(user)


def _read(connection: sqlite3.Connection, user: str, after: int, head: int, count: int, size: int) -> list[Stored]:
    found: list[Stored] = []
    total = 0
    rows = connection.execute(
        "SELECT seq, route, body FROM inbox WHERE user = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
        (user, after, head, count),
    )
    for seq, route, body in rows:
        total += len(body)
        if found and total > size:
            break
        found.append(Stored(seq, route, body))
    return found


def _heads(connection: sqlite3.Connection, names: Sequence[str]) -> dict[str, int]:
    heads: dict[str, int] = {}
    for sql, values in in_list("SELECT name, head FROM user WHERE name", names):
        heads.update(connection.execute(sql, values).fetchall())
    return heads


def _aged(connection: sqlite3.Connection, limit_ms: int) -> list[tuple[str, int]]:
    return connection.execute(
        "SELECT user, max(seq) FROM (SELECT user, seq FROM inbox WHERE time_ms < ? ORDER BY time_ms LIMIT ?) "
        "GROUP BY user",
        (limit_ms, AGED),
    ).fetchall()
