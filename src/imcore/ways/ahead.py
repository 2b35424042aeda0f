"""A second connection beside the one that a gateway proves itself on, made while it does: who goes in waits for none.

Where connecting takes long this is a round trip less before the first message, and where packets are lost one chance
less to wait for. Where it is quick there is nothing to gain, and no gateway is asked for more connections.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import NamedTuple

from ..points import Point
from .candidate import Candidate
from .dial import Connect, Stream
from .resolve import is_address

__all__ = ["Ahead"]

LONG_S = 0.05
"""Connecting takes long from here on, seconds."""
KEPT_S = 5.0
"""How long one is kept for who may come, seconds: less than a gateway waits for a HELLO."""


class _Made(NamedTuple):
    sock: socket.socket
    """Connecting, or connected."""
    took_s: float
    """How long the one before it took."""
    end: asyncio.TimerHandle


class Ahead:
    """through: what makes connections for a candidate."""

    def __init__(self, through: Callable[[Candidate], Connect]) -> None:
        self._through = through
        self._made: dict[Candidate, list[_Made]] = {}

    def knocking(self, candidate: Candidate) -> Connect:
        """What connects for a proof; and begins once more, where that took long. Only straight: a proxy that is asked
        for two at a time may refuse one."""
        connect = self._through(candidate)
        if candidate.proxy or not is_address(candidate.machine):
            return connect

        async def and_begin(point: Point) -> Stream:
            began = time.monotonic()
            stream = await connect(point)
            took_s = time.monotonic() - began
            if took_s >= LONG_S:
                self._begin(candidate, took_s)
            return stream

        return and_begin

    def entering(self, candidate: Candidate) -> Connect:
        """What connects to go in: it takes what was begun, if there is such a one and it came to something."""

        async def take_or_connect(point: Point) -> Stream:
            while made := self._made.get(candidate):
                one = made.pop(0)
                one.end.cancel()
                if await _stands(one):
                    return Stream(one.sock, took_s=one.took_s)
            return await self._through(candidate)(point)

        return take_or_connect

    def drop(self) -> None:
        """None of them is needed any more, or they lead nowhere."""
        for made in self._made.values():
            for one in made:
                one.end.cancel()
                one.sock.close()
        self._made.clear()

    def _begin(self, candidate: Candidate, took_s: float) -> None:
        sock = socket.socket(socket.AF_INET6 if ":" in candidate.machine else socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.connect_ex((candidate.machine, candidate.point.port))  # if it fails, that is seen by who takes it
        end = asyncio.get_running_loop().call_later(KEPT_S, self._let_go, candidate, sock)
        self._made.setdefault(candidate, []).append(_Made(sock, took_s, end))

    def _let_go(self, candidate: Candidate, sock: socket.socket) -> None:
        sock.close()
        left = [one for one in self._made.get(candidate, ()) if one.sock is not sock]
        if left:
            self._made[candidate] = left
        else:
            self._made.pop(candidate, None)


async def _stands(made: _Made) -> bool:
    """Whether it is connected by now, or soon, and nothing has come on it; else it is closed. It began before another
    one's proof was asked for: what is not connected now has lost a packet, and a new one is sooner there."""
    loop, sock = asyncio.get_running_loop(), made.sock
    writable = asyncio.Event()
    loop.add_writer(sock, writable.set)
    stands = False
    try:
        async with asyncio.timeout(made.took_s / 2):
            await writable.wait()
        stands = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0 and _is_silent(sock)
    except TimeoutError:
        pass
    finally:
        loop.remove_writer(sock)
        if not stands:
            sock.close()
    return stands


def _is_silent(sock: socket.socket) -> bool:
    """Nothing has come, nor its end."""
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False
