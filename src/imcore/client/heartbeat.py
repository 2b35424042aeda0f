"""Heartbeats: when to ping, how long to wait for the answer, and what the answer says. Sans-I/O, but for one question
to the kernel: whether what we sent is still getting through."""

from __future__ import annotations

import math
import os
import random
import socket
import sys

from ..ways.still import USUAL_S, Still

if sys.platform == "linux":
    import fcntl
    import termios

__all__ = ["Heartbeat", "acknowledged", "unsent"]

DOUBTS_MOST = 5
PATIENCE_S = 3.0
"""The least time that an answer gets, seconds."""
PATIENCE_RTT = 5
"""And in round trips."""
OVERDUE_S = 1.0
"""How long the answer to a message may take at least before somebody asks whether the link lives, seconds."""


class Heartbeat:
    """One link's. least_s, most_s: the gateway's bounds on the time between pings (wire: `Welcome.heartbeat`). rtt: the
    first round trip, measured on the handshake, seconds."""

    __slots__ = (
        "_heard",
        "_interval",
        "_next",
        "_since",
        "_suspect",
        "_suspected",
        "_token",
        "bounds",
        "rtt",
        "waiting",
    )

    def __init__(self, least_s: float, most_s: float, rtt: float) -> None:
        self.bounds = least_s, most_s
        """The gateway's, seconds."""
        self._interval = min(max(USUAL_S, least_s), most_s)
        self._since = 0.0
        self._heard = 0.0
        self._next = 0.0
        self._token = 0
        self._suspect = -1
        self._suspected = 0.0  # since when
        self.rtt = rtt
        """The smoothed round trip, seconds."""
        self.waiting = False
        """A ping is not answered yet."""

    def follow(self, still: Still) -> None:
        """So long may a link be silent on this network: from the next pause on."""
        self._interval = still.within(*self.bounds)

    def ping(self, now: float) -> tuple[int, bytes]:
        """Token and body of the ping that goes now. The body says when the next sign of life comes at the latest: the
        next ping, or the end of the wait for this one."""
        self._token += 1
        self._since = now
        self.waiting = True
        seconds = math.ceil(self._interval + self.patience)
        return self._token, min(seconds, 65535).to_bytes(2, "big")

    @property
    def patience(self) -> float:
        """How long the answer may take with nothing else coming, seconds."""
        return max(PATIENCE_S, PATIENCE_RTT * self.rtt)

    def overdue(self, doubts: int) -> float:
        """How long the answer to a message may take with nothing else coming, before it is asked for a sign of life.
        doubts: links before this one that were given up because an answer was, and no better one was found."""
        return max(OVERDUE_S, PATIENCE_RTT * self.rtt) * (1 << min(doubts, DOUBTS_MOST))

    def pong(self, token: int, now: float) -> bool:
        """An answer; False if it is not that of the last ping."""
        if not self.waiting or token != self._token:
            return False
        self.waiting = False
        self._heard = now
        self.rtt += (now - self._since - self.rtt) / 4
        return True

    def pause(self, now: float) -> float:
        """Seconds until the next ping: a little early, so that many clients do not fall into step, and that a second
        question about what is missing (`doubt`) usually falls within the interval too."""
        pause = self._interval * random.uniform(0.8, 0.9)
        self._next = now + pause
        return pause

    def left(self, now: float) -> float:
        """Seconds until the ping that `pause` gave the time of; 0 or less if it is due."""
        return self._next - now

    @property
    def silence(self) -> float:
        """From the answer before to the ping that is on its way, seconds; 0 = it is not known, or it was longer than it
        was meant to be: then the machine slept."""
        seconds = self._since - self._heard if self._heard else 0.0
        return seconds if seconds <= self._interval else 0.0

    def doubt(self, received: int, now: float) -> bool:
        """The head is ahead of what came. True if it was already, with the same number, a while ago: a push was lost.
        What is asked in quick succession says nothing: it is on its way."""
        if self._suspect != received:
            self._suspect, self._suspected = received, now
        return now - self._suspected >= self.overdue(0)

    def trust(self) -> None:
        """The head is not ahead."""
        self._suspect = -1


def acknowledged(fd: int) -> int:
    """Bytes that the other side's kernel has acknowledged since the connection began (tcp(7), TCP_INFO); 0 where that
    can't be asked: then nothing is on its way, as far as anybody can tell."""
    if sys.platform != "linux" or fd < 0:
        return 0
    try:
        with socket.socket(fileno=os.dup(fd)) as sock:
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED + 8)
    except OSError:
        return 0
    return int.from_bytes(info[_BYTES_ACKED:], sys.byteorder)


_BYTES_ACKED = 120
"""Where `tcpi_bytes_acked` lies in Linux's `struct tcp_info`."""


def unsent(fd: int) -> int:
    """Bytes that the other side's kernel has not acknowledged, 0 where that can't be asked (tcp(7), SIOCOUTQ)."""
    if sys.platform != "linux" or fd < 0:
        return 0
    try:
        return int.from_bytes(fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return 0
