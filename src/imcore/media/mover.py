"""Bytes between a socket and a file, moved by threads of low priority: the event loop only waits for readiness.

So a video on its way costs a text nothing but processor time that nobody else wants. A transfer goes in turns; in a
turn a thread moves what the socket has or takes, and then somebody else's transfer is next. Nothing here knows HTTP.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from .aside import pool
from .pace import Pace
from .refusal import Refusal

__all__ = ["Move", "Movers", "Sink"]

TURN = 4 * 1024 * 1024
"""Bytes of one turn, at most."""
BUFFER = 1024 * 1024
"""Bytes that a thread reads at once."""
MANY, PIECE = 32, 128 * 1024
"""Of more transfers than this, pieces of so many bytes: a thread gives way after each of them."""
LINGER_MS = 20
"""How long a thread waits for a socket itself, if no other transfer waits for a thread."""
WORTH = 512 * 1024
"""Bytes that should have come before a socket is read again (tcp(7), SO_RCVLOWAT)."""
WORTH_S = 0.5
"""But it is not waited for them for longer than this, seconds."""
UNSENT = 1024 * 1024
"""Bytes that the kernel may hold for a reader and has not sent (tcp(7), TCP_NOTSENT_LOWAT)."""


_give_way = getattr(os, "sched_yield", lambda: None)


class Sink(Protocol):
    """Where received bytes go."""

    def take(self, data: memoryview) -> None:
        """On a thread. Keep nothing of `data`. What it raises ends the transfer."""


class Move:
    """One transfer. idle_s: how long the other side may do nothing, seconds."""

    def __init__(self, pace: Pace, idle_s: float) -> None:
        self.pace = pace
        self.idle_s = idle_s
        self._stopped: Refusal | None = None
        self._waiting: asyncio.Future[None] | None = None

    def stop(self, why: Refusal) -> None:
        """End it: at the end of this turn, and at once if it waits."""
        self._stopped = why
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def check(self) -> None:
        """Raises what it was stopped with."""
        if self._stopped is not None:
            raise self._stopped

    async def wait(self, ready: asyncio.Future[None]) -> None:
        """Until the socket is ready, or it is time to look what there is. Raises `Refusal` if the transfer is
        stopped."""
        self.check()
        self._waiting = ready
        look = asyncio.get_running_loop().call_later(min(self.idle_s, WORTH_S), _wake, ready)
        try:
            await ready
        finally:
            look.cancel()
            self._waiting = None
        self.check()


class Movers:
    """threads: how many transfers move at the same time; the others take turns."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._local = threading.local()
        self._pool = pool(threads, "imcore-media")
        self._moves = 0

    def close(self) -> None:
        """Once no transfer is left."""
        self._pool.shutdown()

    async def hand(self, sink: Sink, data: bytes) -> None:
        """Give the sink what came by another way."""
        await asyncio.get_running_loop().run_in_executor(self._pool, sink.take, memoryview(data))

    async def receive(self, sock: socket.socket, sink: Sink, count: int, move: Move) -> None:
        """`count` bytes from a socket that does not block. Raises OSError if it breaks or the sink fails, `Refusal`."""

        def step(most: int) -> int:
            buffer = self._buffer()
            size = sock.recv_into(buffer, most)
            if not size:
                raise ConnectionResetError("the other side went away")
            sink.take(buffer[:size])
            return size

        await self._turns(sock, step, count, move, writes=False)

    async def send(self, sock: socket.socket, file: int, start: int, count: int, move: Move) -> None:
        """`count` bytes of a file from `start` on, to a socket that does not block. Raises OSError, `Refusal`."""
        at = start

        def step(most: int) -> int:
            nonlocal at
            size = os.sendfile(sock.fileno(), file, at, most)
            if not size:
                raise OSError("the file became shorter")
            at += size
            return size

        with suppress(AttributeError, OSError):  # a platform without it sends as it likes
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
        await self._turns(sock, step, count, move, writes=True)

    async def _turns(
        self, sock: socket.socket, step: Callable[[int], int], count: int, move: Move, *, writes: bool
    ) -> None:
        loop = asyncio.get_running_loop()
        moved_at = loop.time()
        self._moves += 1
        try:
            while count:
                move.check()
                if not writes:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, min(count, WORTH))
                most = await move.pace.take(min(count, TURN))
                turn = loop.run_in_executor(self._pool, self._turn, sock, step, most, writes)
                moved, blocked = await _to_the_end(turn)
                count -= moved
                move.pace.give_back(most - moved)
                if moved:
                    moved_at = loop.time()
                elif loop.time() - moved_at > move.idle_s:
                    raise Refusal(408, f"nothing moved for {move.idle_s:g} s")
                if blocked and count:
                    await _ready(loop, sock, move, writes)
        finally:
            self._moves -= 1
            if not writes:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)

    def _turn(self, sock: socket.socket, step: Callable[[int], int], most: int, writes: bool) -> tuple[int, bool]:
        """On a thread: how much was moved, and whether the socket had to be waited for."""
        moved = 0
        poll = None
        while moved < most:
            try:
                moved += step(min(most - moved, PIECE if self._moves > MANY else BUFFER))
                _give_way()  # who has waited meanwhile need not wait for the end of our slice
            except BlockingIOError:
                if self._moves > self._threads:
                    return moved, True
                if poll is None:
                    poll = select.poll()
                    poll.register(sock, select.POLLOUT if writes else select.POLLIN)
                if not poll.poll(LINGER_MS):
                    return moved, True
        return moved, False

    def _buffer(self) -> memoryview:
        buffer: memoryview | None = getattr(self._local, "buffer", None)
        if buffer is None:
            buffer = self._local.buffer = memoryview(bytearray(BUFFER))
        return buffer


async def _to_the_end(turn: asyncio.Future[tuple[int, bool]]) -> tuple[int, bool]:
    """A thread can't be cancelled, and what it uses must stay until it is done."""
    try:
        return await asyncio.shield(turn)
    except asyncio.CancelledError:
        await asyncio.wait([turn])
        if not turn.cancelled():
            turn.exception()
        raise


async def _ready(loop: asyncio.AbstractEventLoop, sock: socket.socket, move: Move, writes: bool) -> None:
    ready: asyncio.Future[None] = loop.create_future()
    add, remove = (loop.add_writer, loop.remove_writer) if writes else (loop.add_reader, loop.remove_reader)
    add(sock.fileno(), _wake, ready)
    try:
        await move.wait(ready)
    finally:
        remove(sock.fileno())


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
