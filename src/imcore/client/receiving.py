"""What comes down, from the link to the application's loop, and back as an acknowledgement: its order, the file that
remembers it, and who waits for what. The counterpart of `sending`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from .._codec import ACK
from ..errors import ConfigError, LocalError
from ..messages import Resume, Welcome
from .connection import Connection
from .downlink import ACK_COUNT, ACK_S, Downlink, Message
from .link import ClientLink
from .state import StateFile

__all__ = ["Receiving"]


class Receiving:
    """state: path of the file, None = the server's memory of what was acknowledged decides. connection: has the link
    that brings it. fail: told why the file can't be written."""

    def __init__(
        self,
        state: str | os.PathLike[str] | None,
        device: str,
        connection: Connection,
        fail: Callable[[ConfigError], None],
    ) -> None:
        self.downlink = Downlink()
        self._path = state
        self._device = device
        self._file: StateFile | None = None
        self._connection = connection
        self._fail = fail
        self._newest = 0  # in the inbox, as an answer to what went up says
        self._iterating = False
        self._stopped = False  # the application is handed nothing any more
        self._over = False  # and nothing comes any more
        self._arrival: asyncio.Future[None] | None = None
        self._opened: asyncio.Future[None] | None = None
        self._ack_handle: asyncio.Handle | None = None
        self._ack_soon = False

    def open(self) -> None:
        """Open the file, and go on where it says. Raises `ConfigError`."""
        self._loop = asyncio.get_running_loop()
        if self._path is not None:
            self._file = StateFile(self._path, self._device)
            self.downlink = Downlink(self._file.resume)

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()

    def claim(self, user: str) -> None:
        """The server named the user; raises `ConfigError` if the file is another one's."""
        if self._file is not None:
            self._file.claim(user)

    # What a link tells.

    def begin(self, welcome: Welcome, asked: Resume | None) -> None:
        """A link that brings messages was welcomed, which asked to go on at `asked`."""
        self._newest = 0
        self.downlink.begin(welcome, asked)
        self._connection.ready(True)
        _wake(self._opened)

    def message(self, link: ClientLink, seq: int, route: str, body: bytes, room: str | None) -> None:
        """A message came."""
        if not self.downlink.receive(seq, route, body, room):
            link.die("internal", f"message {seq} came, but not the one before it: asking for it anew")
            return
        _wake(self._arrival)
        self._connection.ready(not self.downlink.waiting)
        if self.downlink.full and not self._stopped:
            link.pause()
        if self.downlink.due:  # what came again, but was taken already
            self._acknowledge_soon()

    def head(self, head: int) -> None:
        """Another link says how far the inbox goes."""
        self._newest = max(self._newest, head)
        if self.lags:
            self._connection.check()

    @property
    def lags(self) -> bool:
        """More is in the inbox than the link has brought that brings it."""
        return self._newest > self.downlink.received and not self.downlink.waiting

    # What the application does.

    async def next(self) -> Message | None:
        """The next message; the one before is acknowledged. None: there will be no more."""
        if self._iterating:
            raise LocalError("expected one loop over a client at a time")
        self.take()
        self._connection.ready(not self.downlink.waiting)
        self._acknowledge_soon()
        self._iterating = True
        try:
            while True:
                if self._stopped:
                    return None
                message = self.downlink.hand_out()
                if message is not None:
                    break
                self._arrival = self._loop.create_future()
                await self._arrival
        finally:
            self._iterating = False
        link = self._connection.down
        if link is not None and link.paused and self.downlink.drained:
            link.resume()
        return message

    def take(self) -> None:
        """The application is done with what it got last. That is in the file before anything else happens: a process
        that is killed does not see it again."""
        self.downlink.take()
        resume = self.downlink.resume
        if self._file is not None and resume is not None:
            try:
                self._file.save(resume)
            except ConfigError as error:
                self._fail(error)

    def stop(self) -> None:
        """Nothing is handed out any more."""
        self._stopped = True
        _wake(self._arrival)

    def finish(self) -> None:
        """Nothing will come any more."""
        self.stop()
        self._over = True
        _wake(self._opened)
        if self._ack_handle is not None:
            self._ack_handle.cancel()

    async def told(self) -> None:
        """Returns when the gateway knows what was taken. If there is no link and it does not know, that takes another
        one: else it would hand out again what the application has seen."""
        downlink = self.downlink
        while not self._over:
            link = self._connection.down
            if link is not None and not link.sealed:
                if link.paused:
                    link.resume()
                self._acknowledge()
                acked = downlink.acked
                if await link.sound():
                    downlink.confirm(acked)
                    if not downlink.owing:
                        return
            elif self._file is None and downlink.owing:
                self._opened = self._loop.create_future()
                self._connection.anew(last=True)
                await self._opened
            else:
                return

    # Acknowledgements.

    def _acknowledge_soon(self) -> None:
        """At the end of this turn if the application has nothing else to do, or has taken a lot; else a little
        later."""
        downlink = self.downlink
        link = self._connection.down
        if link is None or link.sealed or not downlink.due:
            return
        soon = downlink.empty or downlink.unacknowledged >= ACK_COUNT
        if self._ack_handle is not None:
            if self._ack_soon or not soon:
                return
            self._ack_handle.cancel()
        self._ack_soon = soon
        if soon:
            self._ack_handle = self._loop.call_soon(self._acknowledge)
        else:
            self._ack_handle = self._loop.call_later(ACK_S, self._acknowledge)

    def _acknowledge(self) -> None:
        if self._ack_handle is not None:
            self._ack_handle.cancel()
            self._ack_handle = None
        due, link = self.downlink.due, self._connection.down
        if link is not None and not link.sealed and due:
            link.send(ACK, due)
            self.downlink.acknowledged(due)


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)
