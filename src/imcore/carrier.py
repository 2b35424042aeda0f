"""Links on asyncio's transports: for TLS, and for platforms without epoll. It passes bytes and looks at none."""

from __future__ import annotations

import asyncio
from typing import cast

from ._link import Link

__all__ = ["TransportCarrier"]


class TransportCarrier(asyncio.BufferedProtocol):
    """One stream transport under one link: `loop.create_server(lambda: TransportCarrier(link()), …)`."""

    __slots__ = ("link", "transport")

    def __init__(self, link: Link) -> None:
        self.link = link

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        try:
            self.link.carry(self)
        except RuntimeError:  # ended before it began; the loop would keep the connection
            asyncio.get_running_loop().call_soon(self.transport.abort)  # uvloop is not done with making it

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.link.hub.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.link.filled(nbytes)

    def connection_lost(self, exc: Exception | None) -> None:
        self.link.lost(exc)

    def pause_writing(self) -> None:
        self.link.block(True)

    def resume_writing(self) -> None:
        self.link.block(False)

    # What the link calls. A transport that is closing already takes none of it, and some say so by raising.

    def write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)

    def pause(self, on: bool) -> None:
        if self.transport.is_closing():
            return
        if on:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def end(self) -> None:
        """All was written: TCP says so and waits for the other side, TLS closes."""
        if self.transport.is_closing():
            return
        if not self.transport.can_write_eof():
            self.transport.close()
            return
        try:
            self.transport.write_eof()
        except OSError:  # the other side has broken it, and the loop does not know yet
            self.transport.abort()

    def abort(self) -> None:
        self.transport.abort()
