"""Rooms, and the requests about them that wait for an answer. A room that was joined is joined again on every new
link.

Rooms are joined where messages come down, and published to where messages go up; that may be one link or two. What
finds no link waits for the next one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from itertools import count

from .._codec import JOIN, LEAVE, MSG, ROOM
from ..errors import LocalError, Refused, Unknown
from ..messages import Refusal
from .link import ClientLink

__all__ = ["PUBLISH_MOST", "Rooms"]

PUBLISH_MOST = 1024 * 1024
"""Bytes that may wait for the link when something is published to a room."""

WAIT_MOST = 3600.0
"""The most that a refusal can make us wait, seconds."""

_log = logging.getLogger(__name__)


FIRST_ID = 1 << 63
"""Of requests on a link that carries no messages: no number of a message comes so far."""


class Rooms:
    """number: gives a request its id, one that no message has. anew: called when what is wanted can only be asked for
    on another link. due: when something is to be published, and may be now. on_left: told of a room that can't be
    joined again."""

    def __init__(
        self,
        number: Callable[[], int | None],
        anew: Callable[[], None],
        due: Callable[[], None],
        on_left: Callable[[str, Refused], object] | None = None,
    ) -> None:
        self._number = number
        self._anew = anew
        self._due = due
        self._on_left = on_left
        self._link: ClientLink | None = None
        self._wanted: dict[str, asyncio.Future[None]] = {}  # done = joined, on this link or one before it
        self._asked: dict[int, tuple[ClientLink, int, str, asyncio.Future[None] | None]] = {}
        self._here: set[str] = set()  # joined on the link of now
        self._ids = count(FIRST_ID)
        self._unsaid: deque[tuple[str, bytes, bool, asyncio.Future[None]]] = deque()
        self.waiting = 0
        """Bytes that wait for a link."""

    async def join(self, room: str) -> None:
        """Returns when the gateway has confirmed; raises `Refused`."""
        joined = self._wanted.get(room)
        if joined is None:
            joined = self._wanted[room] = asyncio.get_running_loop().create_future()
            self._ask_join(room)
        await asyncio.shield(joined)

    async def leave(self, room: str) -> None:
        """Returns when the gateway has confirmed, or the link is over anyway."""
        joined = self._wanted.pop(room, None)
        if joined is not None and not joined.done():
            joined.set_exception(LocalError(f"room {room!r} was left before it was joined"))
            joined.exception()
        if self.wants:
            self._due()
        if self._link is not None:
            left = asyncio.get_running_loop().create_future()
            self._ask(LEAVE, room, left)
            await left

    async def publish(self, link: ClientLink | None, room: str, body: bytes, confirm: bool) -> None:
        """Put a message for the room on a link; returns when it is there, or with `confirm` when the gateway has
        answered. Raises `Refused`, `Unknown`."""
        said = asyncio.get_running_loop().create_future()
        self._unsaid.append((room, body, confirm, said))
        self.waiting += len(body)
        if link is not None:
            self.carry(link)
        elif self.wants:
            self._due()
        await said

    def carry(self, link: ClientLink) -> None:
        """Publish on this link what waits for one."""
        alone = True  # of what would be alone on it nobody asks whether it fits
        while self._unsaid and not link.sealed:
            room, body, confirm, said = self._unsaid[0]
            if link.role == "up" and not self._hears(room):
                break
            number = self._number() if confirm else 0
            if number is None or (len(body) > link.room and not alone):
                break
            alone = False
            self._unsaid.popleft()
            self.waiting -= len(body)
            if said.done():  # nobody waits for it any more
                continue
            link.send(MSG, number, room, body, ROOM)
            if confirm:
                self._asked[number] = (link, MSG, room, said)
                link.due()
            else:
                said.set_result(None)

    def begin(self, link: ClientLink) -> None:
        """A new link brings messages: it joins what is wanted."""
        if self._link is not None:
            self.end(self._link)
        self._link = link
        for room in self._wanted:
            self._ask_join(room)
        if self.wants:
            self._due()

    @property
    def joining(self) -> bool:
        """A room was asked for, and is not joined yet."""
        return any(not joined.done() for joined in self._wanted.values())

    @property
    def wants(self) -> bool:
        """A link up would publish something."""
        return bool(self._unsaid) and self._hears(self._unsaid[0][0])

    def waits(self, link: ClientLink) -> bool:
        """An answer of this link is due."""
        return any(asked[0] is link for asked in self._asked.values())

    def end(self, link: ClientLink) -> None:
        """The link is over."""
        if link is self._link:
            self._link = None
            self._here.clear()
        for number in [number for number, asked in self._asked.items() if asked[0] is link]:
            _, type, room, answered = self._asked.pop(number)
            if answered is None or answered.done():
                continue
            if type == MSG:
                text = f"the link broke before the answer: room {room!r} may have it, or not"
                answered.set_exception(Unknown(number, text))
                answered.exception()
            elif type == LEAVE:
                answered.set_result(None)

    def close(self, why: Exception) -> None:
        """No link will come."""
        for link in {asked[0] for asked in self._asked.values()}:
            self.end(link)
        for _, _, _, said in self._unsaid:
            if not said.done():
                said.set_exception(why)
                said.exception()
        for joined in self._wanted.values():
            if not joined.done():
                joined.set_exception(why)
                joined.exception()  # perhaps nobody waits any more
        self._wanted.clear()

    def answer(self, link: ClientLink, number: int, refusal: Refusal | None) -> bool:
        """The link brought an answer; False if it is not to one of these requests."""
        asked = self._asked.get(number)
        if asked is None or asked[0] is not link:
            return False
        del self._asked[number]
        _, type, room, answered = asked
        if refusal is None:
            if answered is not None and not answered.done():
                answered.set_result(None)
            if type == JOIN:
                self._here.add(room)
                if self.wants:
                    self._due()
        elif type == JOIN and refusal.retry_ms is not None:
            wait = min(max(refusal.retry_ms / 1000, 0.1), WAIT_MOST)
            asyncio.get_running_loop().call_later(wait, self._join_again, room, answered)
        else:
            error = Refused(refusal.code, refusal.text)
            if type == JOIN and self._wanted.get(room) is answered:
                del self._wanted[room]
                if answered is not None and answered.done():
                    self._tell_left(room, error)
                if self.wants:
                    self._due()
            if answered is not None and not answered.done():
                answered.set_exception(error)
                answered.exception()
        return True

    def _hears(self, room: str) -> bool:
        """False as long as we want to be in a room, and the gateway does not know it on the link of now: what goes up
        beside would reach nobody."""
        if room not in self._wanted:
            return True
        return self._link is not None and (room in self._here or self._link.polls)

    def _tell_left(self, room: str, error: Refused) -> None:
        _log.warning("room %r could not be joined again: %s", room, error)
        if self._on_left is not None:
            try:
                self._on_left(room, error)
            except Exception as raised:
                asyncio.get_running_loop().call_exception_handler({"message": "on_left failed", "exception": raised})

    def _join_again(self, room: str, joined: asyncio.Future[None] | None) -> None:
        if self._wanted.get(room) is joined:
            self._ask_join(room)

    def _ask_join(self, room: str) -> None:
        if self._link is not None:
            self._ask(JOIN, room, self._wanted[room])

    def _ask(self, type: int, room: str, answered: asyncio.Future[None]) -> None:
        link = self._link
        assert link is not None
        number = self._number() if link.role == "both" else next(self._ids)
        assert number is not None
        self._asked[number] = (link, type, room, answered)
        if link.sealed:
            self._anew()
        else:
            link.send(type, number, room)
