"""One hub for all clients of an event loop: the first one makes it, the last one closes it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from .._hub import Hub

__all__ = ["shared_hub"]

WINDOW = 4 * 1024 * 1024
"""Bytes that wait for a link before it is not read any more. Far above what a client ever queues: if both sides stopped
reading until the other one reads, neither ever would."""

_hubs: dict[asyncio.AbstractEventLoop, tuple[Hub, int]] = {}


@contextmanager
def shared_hub() -> Iterator[Hub]:
    """The running loop's hub, for as long as the block lasts."""
    loop = asyncio.get_running_loop()
    hub, users = _hubs.get(loop) or (Hub(loop, window=WINDOW), 0)
    _hubs[loop] = (hub, users + 1)
    try:
        yield hub
    finally:
        hub, users = _hubs.pop(loop)
        if users > 1:
            _hubs[loop] = (hub, users - 1)
        else:
            hub.close()
