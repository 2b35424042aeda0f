"""One link's way down: a window over the user's inbox, sent strictly by sequence number.

A wake-up that carries just the next message saves a look into the inbox; any other only says how far the inbox goes. A
slow client simply stops being sent to, and is served from its inbox when it drains.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any

from .._link import Link
from ..bus.ports import Inbox, Wake
from ..errors import EngineError

__all__ = ["Down"]

_log = logging.getLogger(__name__)


class Down:
    """window: messages that may be unacknowledged. window_bytes: bytes that may wait to be sent. spawn: runs the
    reading of the inbox as a task that the gateway owns. lost_history: told when the inbox lacks what comes next."""

    __slots__ = (
        "behind",
        "device",
        "inbox",
        "link",
        "lost_history",
        "reading",
        "spawn",
        "user",
        "window",
        "window_bytes",
    )

    def __init__(
        self,
        link: Link,
        inbox: Inbox,
        user: str,
        device: str,
        *,
        window: int,
        window_bytes: int,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        lost_history: Callable[[], None],
    ) -> None:
        self.link = link
        self.inbox = inbox
        self.user = user
        self.device = device
        self.window = window
        self.window_bytes = window_bytes
        self.spawn = spawn
        self.lost_history = lost_history
        self.reading = False

    def wake(self, wake: Wake) -> None:
        """The inbox has grown."""
        link = self.link
        if wake.seq > link.head:
            link.head = wake.seq
        if wake.seq == link.sent + 1 and not self.reading and self._room():
            link.deliver(wake.seq, wake.route, wake.body)
        else:
            self.pump()

    def taken(self) -> None:
        """The client has acknowledged."""
        self.inbox.taken(self.user, self.device, self.link.taken)
        self.pump()

    def pump(self) -> None:
        """Send what the inbox holds, as far as the window goes."""
        if not self.reading and self.link.sent < self.link.head and self._room():
            self.reading = True
            self.spawn(self._read())

    def _room(self) -> int:
        """How many more messages may be sent now."""
        link = self.link
        return max(0, self.window - (link.sent - link.taken)) if link.queued < self.window_bytes else 0

    async def _read(self) -> None:
        link = self.link
        try:
            while link.open and link.sent < link.head and (room := self._room()):
                messages = await self.inbox.read(self.user, link.sent, room, self.window_bytes - link.queued)
                if not link.open:
                    return
                if not messages or messages[0].seq != link.sent + 1:
                    self.lost_history()
                    return
                for message in messages:
                    link.deliver(message.seq, message.route, message.body)
        except EngineError as error:
            _log.error("the inbox of %s can't be read: %s", self.user, error)
            link.close()  # the client comes back with its resume point
        finally:
            self.reading = False
