"""A deadline of one connection: put off by a store, and one timer of the loop's however often it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Deadline"]


class Deadline:
    """Calls `over` when the time that `expect` gave is up. One at a time; `drop` it when its owner ends."""

    __slots__ = ("_at", "_handle", "_loop", "_over")

    def __init__(self, over: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._over = over
        self._at: float | None = None
        self._handle: asyncio.TimerHandle | None = None

    def expect(self, seconds: float) -> None:
        """In so many seconds, instead of what was expected before."""
        self._at = at = self._loop.time() + seconds
        if self._handle is not None:
            if self._handle.when() <= at:
                return  # it will look when it is called
            self._handle.cancel()
        self._handle = self._loop.call_at(at, self._due)

    def rest(self) -> None:
        """Nothing is expected."""
        self._at = None

    def drop(self) -> None:
        """Nothing will be expected any more."""
        self._at = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _due(self) -> None:
        self._handle = None
        if self._at is None:
            return
        if self._loop.time() < self._at:
            self._handle = self._loop.call_at(self._at, self._due)
            return
        self._at = None
        self._over()
