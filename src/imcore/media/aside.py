"""Threads of low priority for what takes long and would hold up the event loop: hashing, syncing, the books."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import ParamSpec, TypeVar

__all__ = ["Aside", "pool"]

NICE = 10

Given = ParamSpec("Given")
Result = TypeVar("Result")


def pool(threads: int, name: str) -> ThreadPoolExecutor:
    """Threads that get the processor when nobody else wants it; on Linux, where a priority is a thread's own."""
    return ThreadPoolExecutor(threads, name, _yield_to_others)


class Aside:
    """`await aside(function, …)` runs it on one of the threads. It is not cut short: a thread can't be."""

    def __init__(self, threads: int) -> None:
        self._pool = pool(threads, "imcore-media-aside")

    async def __call__(self, function: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs) -> Result:
        assert not kwargs
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *args)

    def close(self) -> None:
        """Wait for what runs."""
        self._pool.shutdown()


def _yield_to_others() -> None:
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
