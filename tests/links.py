"""Links for tests: one that writes down what it is told, and the three ways in which bytes come to it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import pytest
import uvloop

from imcore._hub import Hub
from imcore._link import HAND, Link
from imcore.carrier import TransportCarrier
from imcore.errors import FrameError
from imcore.session import Phase, moves

T = TypeVar("T")
Loops = Callable[[], asyncio.AbstractEventLoop]

LOOPS: Final[list[Loops]] = [asyncio.new_event_loop, uvloop.new_event_loop]
BOTH: Final = moves(Phase.GATEWAY_BOTH)
ALL: Final = bytes([HAND]) * 128

on_both_loops = pytest.mark.parametrize("loops", LOOPS, ids=["asyncio", "uvloop"])


def run(main: Coroutine[Any, Any, T], loops: Loops = asyncio.new_event_loop) -> T:
    with asyncio.Runner(loop_factory=loops) as runner:
        return runner.run(main)


class Recorder(Link):
    """A link that writes down what it is told. `react` is called with each entry, and may do and raise anything."""

    def __init__(self, hub: Hub, moves: bytes = BOTH, max_frame: int = 65536) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.react: Callable[[tuple[object, ...]], None] = lambda call: None

    def __new__(cls, hub: Hub, moves: bytes = BOTH, max_frame: int = 65536) -> Recorder:
        return super().__new__(cls, hub, moves, max_frame)

    def told(self, *call: object) -> None:
        self.calls.append(call)
        self.react(call)

    def on_frame(self, type: int, flags: int, id: int, route: str, body: bytes) -> None:
        self.told("frame", type, flags, id, route, body)

    def on_fault(self, error: FrameError) -> None:
        self.told("fault", type(error), error.code, error.offset)

    def on_taken(self) -> None:
        self.told("taken", self.taken)

    def on_deadline(self) -> None:
        self.told("deadline")

    def on_end(self, error: Exception | None) -> None:
        self.told("end", error if error is None else type(error))

    def named(self, name: str) -> list[tuple[object, ...]]:
        return [call for call in self.calls if call[0] == name]


class Fake:
    """A carrier that keeps what it is told."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.events: list[str] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def pause(self, on: bool) -> None:
        self.events.append("pause" if on else "resume")

    def end(self) -> None:
        self.events.append("end")

    def abort(self) -> None:
        self.events.append("abort")


async def settle(until: Callable[[], object], seconds: float = 10) -> None:
    """Let the loop turn until something holds."""
    end = asyncio.get_running_loop().time() + seconds
    while not until():
        assert asyncio.get_running_loop().time() < end, "it never came to hold"
        await asyncio.sleep(0)


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class Peer:
    """The other end of a link: a socket, or who feeds it and reads what its carrier was given."""

    def __init__(self, link: Link, sock: socket.socket | None, fake: Fake | None) -> None:
        self.link = link
        self.sock = sock
        self.fake = fake
        self.got = b""

    async def send(self, data: bytes) -> None:
        """All of it has come to the link when this returns, if the link still cared."""
        if self.sock is None:
            self.link.feed(data)
            return
        before = self.link.hub.bytes_in
        while data and self.link.open:
            try:
                size = self.sock.send(data)
            except BlockingIOError:
                size = 0
            except OSError:
                return
            data = data[size:]
            before += size
            await self.arrived(before)

    async def arrived(self, count: int) -> None:
        await settle(lambda: self.link.hub.bytes_in >= count or not self.link.open)

    def read(self) -> bytes:
        """What has come since the beginning."""
        if self.fake is not None:
            return b"".join(self.fake.written)
        assert self.sock is not None
        try:
            while data := self.sock.recv(1 << 20):
                self.got += data
        except (BlockingIOError, ConnectionResetError):
            pass
        return self.got

    def shut(self) -> None:
        if self.sock is not None:
            self.sock.close()


_opened: list[socket.socket] = []
"""Closed with the hub."""


def pair(buffer: int | None = None) -> tuple[socket.socket, socket.socket]:
    """Two connected TCP sockets."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        if buffer is not None:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        there = socket.socket()
        if buffer is not None:
            there.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        there.connect(server.getsockname())
        here, _ = server.accept()
    here.setblocking(False)
    there.setblocking(False)
    _opened.append(there)
    return here, there


CARRIERS: Final = ["descriptor", "transport", "fed"]
on_each_carrier = pytest.mark.parametrize("carrier", CARRIERS)


async def join(link: Link, carrier: str, sockets: Callable[[], tuple[socket.socket, socket.socket]] = pair) -> Peer:
    """Put the link on one of the three carriers."""
    if carrier == "fed":
        fake = Fake()
        link.carry(fake)
        return Peer(link, None, fake)
    here, there = sockets()
    there.setblocking(False)
    if carrier == "descriptor":
        link.attach(here)
    else:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: TransportCarrier(link), sock=here)
    return Peer(link, there, None)


@asynccontextmanager
async def hubs(window: int = 256 * 1024, tick_ms: int = 10, native: bool = True) -> AsyncIterator[Hub]:
    hub = Hub(asyncio.get_running_loop(), window=window, tick_ms=tick_ms, native=native)
    try:
        yield hub
    finally:
        hub.close()
        while _opened:
            _opened.pop().close()
        await asyncio.sleep(0)
