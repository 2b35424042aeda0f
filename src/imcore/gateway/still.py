"""A connection on which nothing moves for as long as its client has asked (wire: `/im/still`), and then a word.

So a client finds out for how long a network remembers who is silent, on a connection that nobody needs, and the
gateway speaks first: what matters is whether a message would have come through. It costs the gateway a connection and
a timer; how many there may be is bounded.
"""

from __future__ import annotations

import asyncio
import re
from typing import Protocol
from urllib.parse import parse_qsl

from ..proof import NONCE, still_page

__all__ = ["STILL_MOST", "Still", "read_still"]

STILL_MOST = 10_000
"""Connections of a gateway that may be still at a time: beyond it others are sent away, and lose nothing by it."""

_DIGITS = re.compile(r"[0-9]{1,8}")


class Host(Protocol):
    """The connection."""

    def send(self, data: bytes) -> None: ...
    def answered(self) -> None: ...


def read_still(query: bytes, most_s: int) -> tuple[str, int]:
    """The nonce, and for how long, milliseconds. Raises `ValueError` that says what was expected."""
    asked = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    fields = dict(asked)
    nonce, silence = fields.get("n", ""), fields.get("ms", "")
    if len(asked) != 2 or not NONCE.fullmatch(nonce):
        raise ValueError("n: expected 1 to 64 letters, digits, - or _, once, and beside it only ms")
    if not _DIGITS.fullmatch(silence) or not 1 <= int(silence) <= most_s * 1000:
        raise ValueError(f"ms: expected 1 to {most_s * 1000} milliseconds")
    return nonce, int(silence)


class Still:
    """The answer to one request: a guest on its connection, as an application is (`web.Guest`). among: all that there
    are."""

    begun = False
    """It has not begun to speak, as long as it is there."""

    def __init__(self, host: Host, nonce: str, silence_ms: int, among: set[Still]) -> None:
        self._host = host
        self._page = still_page(nonce)
        self._silence_s = silence_ms / 1000
        self._among = among
        self._timer: asyncio.TimerHandle | None = None
        among.add(self)

    def data(self, data: bytes) -> None:
        """A body says nothing."""

    def end(self) -> None:
        """The request is whole: the silence begins."""
        self._timer = asyncio.get_running_loop().call_later(self._silence_s, self._speak)

    def rest(self, data: bytes) -> None:
        """Nothing is switched to."""

    def block(self, on: bool) -> None:
        """What it says is a few bytes."""

    def leave(self) -> None:
        """There is something else to do."""
        self.lost(None)

    def lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._among.discard(self)

    def _speak(self) -> None:
        self._timer = None
        self._among.discard(self)
        self._host.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nCache-Control: no-store, no-transform\r\n"
            b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(self._page), self._page)
        )
        self._host.answered()
