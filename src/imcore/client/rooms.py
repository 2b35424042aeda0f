"""Rooms, and the requests about them that wait for an answer. A room that was joined is joined again on every new
link."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from .._codec import JOIN, LEAVE, MSG, ROOM
from ..errors import LocalError, Refused, Unknown
from ..messages import Refusal
from .link import ClientLink

__all__ = ["Rooms"]

WAIT_MOST = 3600.0
"""The most that a refusal can make us wait, seconds."""

_log = logging.getLogger(__name__)


class Rooms:
    """number: gives a request its id, one that no message has. on_left: told of a room that can't be joined again."""

    def __init__(self, number: Callable[[], int], on_left: Callable[[str, Refused], object] | None = None) -> None:
        self._number = number
        self._on_left = on_left
        self._link: ClientLink | None = None
        self._wanted: dict[str, asyncio.Future[None]] = {}  # done = joined, on this link or one before it
        self._asked: dict[int, tuple[int, str, asyncio.Future[None] | None]] = {}

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
        if self._link is not None:
            left = asyncio.get_running_loop().create_future()
            self._ask(LEAVE, room, left)
            await left

    def publish(self, link: ClientLink, room: str, body: bytes, confirm: bool) -> asyncio.Future[None] | None:
        """Put a message for the room on the link; the future ends as the gateway answers, or in `Unknown`."""
        if not confirm:
            link.send(MSG, 0, room, body, ROOM)
            return None
        answered = asyncio.get_running_loop().create_future()
        number = self._number()
        self._asked[number] = (MSG, room, answered)
        link.send(MSG, number, room, body, ROOM)
        return answered

    def begin(self, link: ClientLink) -> None:
        """A new link was welcomed."""
        self.end()
        self._link = link
        for room in self._wanted:
            self._ask_join(room)

    def end(self) -> None:
        """The link is over."""
        self._link = None
        asked, self._asked = self._asked, {}
        for number, (type, room, answered) in asked.items():
            if answered is None or answered.done():
                continue
            if type == MSG:
                text = f"the link broke before the answer: room {room!r} may have it, or not"
                answered.set_exception(Unknown(number, text))
            elif type == LEAVE:
                answered.set_result(None)

    def close(self, why: Exception) -> None:
        """No link will come."""
        self.end()
        for joined in self._wanted.values():
            if not joined.done():
                joined.set_exception(why)
                joined.exception()  # perhaps nobody waits any more
        self._wanted.clear()

    def answer(self, number: int, refusal: Refusal | None) -> bool:
        """The link brought an answer; False if it is not to one of these requests."""
        asked = self._asked.pop(number, None)
        if asked is None:
            return False
        type, room, answered = asked
        if refusal is None:
            if answered is not None and not answered.done():
                answered.set_result(None)
        elif type == JOIN and refusal.retry_ms is not None:
            wait = min(max(refusal.retry_ms / 1000, 0.1), WAIT_MOST)
            asyncio.get_running_loop().call_later(wait, self._join_again, room, answered)
        else:
            error = Refused(refusal.code, refusal.text)
            if type == JOIN and self._wanted.get(room) is answered:
                del self._wanted[room]
                if answered is not None and answered.done():
                    self._tell_left(room, error)
            if answered is not None and not answered.done():
                answered.set_exception(error)
                answered.exception()
        return True

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
        assert self._link is not None
        number = self._number()
        self._asked[number] = (type, room, answered)
        self._link.send(type, number, room)
