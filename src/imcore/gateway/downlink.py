"""The way down: for each link a window over its user's inbox, sent strictly by sequence number.

A wake-up that carries just the next message saves a look into the inbox; any other only says how far the inbox goes.
One that is lost is made up for at the client's next heartbeat, when the inbox is asked. A slow client simply stops
being sent to, and is served from its inbox when it drains. Where a link stands is three numbers in the link itself
(`head`, `sent`, `taken`), so that an idle one costs nothing here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from ..bus.ports import Bus, Wake
from ..bus.variants import MARK, chosen
from ..errors import EngineError
from .limits import Limits

if TYPE_CHECKING:
    from .link import ServerLink

__all__ = ["Downlink"]

_log = logging.getLogger(__name__)


class Downlink:
    """spawn: runs the reading of an inbox as a task that the gateway owns."""

    def __init__(self, bus: Bus, limits: Limits, spawn: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self._bus = bus
        self._window = limits.window
        self._bytes = limits.window_bytes
        self._spawn = spawn

    def wake(self, link: ServerLink, wake: Wake) -> None:
        """The inbox has grown."""
        seq, sent = wake.seq, link.sent
        if seq > link.head:
            link.head = seq
        if seq == sent + 1 and not link.reading and sent - link.taken < self._window and link.queued < self._bytes:
            _deliver(link, seq, wake.route, wake.body)
        else:
            self.pump(link)

    def taken(self, link: ServerLink) -> None:
        """The client has acknowledged."""
        self._bus.inbox.taken(link.user, link.device, link.taken)
        self.pump(link)

    def asked(self, link: ServerLink) -> None:
        """The client's heartbeat: has it everything? A wake-up may have been lost on its way here."""
        self._bus.inbox.newest(link.user, link.goes_to)

    def pump(self, link: ServerLink) -> None:
        """Send what the inbox holds, as far as the window goes."""
        if not link.reading and link.sent < link.head and self._room(link):
            link.reading = True
            self._spawn(self._read(link))

    def _room(self, link: ServerLink) -> int:
        """How many more messages may be sent now."""
        return max(0, self._window - (link.sent - link.taken)) if link.queued < self._bytes else 0

    async def _read(self, link: ServerLink) -> None:
        try:
            while link.open and link.sent < link.head and (room := self._room(link)):
                messages = await self._bus.inbox.read(link.user, link.sent, room, self._bytes - link.queued)
                if not link.open:
                    return
                if not messages or messages[0].seq != link.sent + 1:
                    link.farewell("slow", "the inbox no longer has what comes next: resume", 0)
                    return
                for message in messages:
                    _deliver(link, message.seq, message.route, message.body)
        except EngineError as error:
            _log.error("the inbox of %s can't be read: %s", link.user, error)
            link.close()  # the client comes back with its resume point
        finally:
            link.reading = False


def _deliver(link: ServerLink, seq: int, route: str, body: bytes) -> None:
    if route[:1] == MARK:
        route, body = chosen(route, body, link.accepts)
    link.deliver(seq, route, body)
