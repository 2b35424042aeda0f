"""When a phone says something, whoever it is of, and how it tells what happened.

It sends rising numbers until its input ends; the lines `quiet` and `talk` on its input have it pause and go on. What
happened it prints as lines: the clock (monotonic, seconds, of the machine), what it was, a word about it: `start`,
`state OPEN sentence`, `sent 3`, `confirmed 3`, `refused 3`, `echo 3`, `news 17`, `gap`. Of many at once, what is said
of the seventh is `sent@7` and so on.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress

__all__ = ["Talk", "say"]


def say(what: str, *words: object) -> None:
    """One line, at once and whole, whichever thread says it."""
    line = " ".join([f"{time.monotonic():.4f}", what, *map(str, words)])
    os.write(1, f"{line}\n".encode())


class Talk:
    """every_s: how often, seconds. size: bytes that each message has at least. at_once: messages each time. loud: set
    while something may be said."""

    def __init__(self, every_s: float = 0.25, size: int = 0, at_once: int = 1) -> None:
        self._every_s, self._size, self._at_once = every_s, size, at_once
        self._over, self.loud = asyncio.Event(), asyncio.Event()
        self.loud.set()

    async def numbers(self) -> AsyncIterator[int]:
        """Each when it is time for it; ends with the input."""
        listening = asyncio.create_task(self._listen())
        numbers = itertools.count(1)
        while True:
            await self.loud.wait()
            if self._over.is_set():
                await listening
                return
            for _ in range(self._at_once):
                yield next(numbers)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), self._every_s)

    def text(self, number: int) -> str:
        """What is sent for it."""
        return str(number).ljust(self._size)

    async def _listen(self) -> None:
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            if line == b"quiet\n":
                self.loud.clear()
            else:
                self.loud.set()
        self._over.set()
        self.loud.set()
