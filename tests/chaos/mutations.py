"""Ways to break the promise on purpose, on either engine: a chaos run that does not notice them proves nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from imcore.bus.embedded.inbox import EmbeddedInbox
from imcore.bus.embedded.queue import EmbeddedQueue
from imcore.bus.ports import Nobody, Opening, Sink, Uplink
from imcore.bus.redis import way
from imcore.bus.redis.inbox import RedisInbox
from imcore.bus.redis.queue import RedisQueue

__all__ = ["MUTATIONS", "mutate"]

LOOKS = b"if accepted and not above(id, accepted) then"
"""Where Redis tells a repeat from what is new."""
LATE_S = 0.05


def ack_before_durable() -> None:
    """A message is confirmed before it is on its way to the disk, or to Redis."""
    stored, sent = EmbeddedQueue.put, RedisQueue.put

    def hasty(self: EmbeddedQueue, message: Uplink, sink: Sink) -> None:
        sink.answered(message.id, None)
        self._core.loop.call_later(LATE_S, stored, self, message, Nobody())

    def hasty_over_redis(self: RedisQueue, message: Uplink, sink: Sink) -> None:
        if self._objection(message, False, sink) is not None:
            sent(self, message, sink)
            return
        sink.answered(message.id, None)
        asyncio.get_running_loop().call_later(LATE_S, sent, self, message, Nobody())

    EmbeddedQueue.put = hasty  # type: ignore[method-assign]  # broken on purpose
    RedisQueue.put = hasty_over_redis  # type: ignore[method-assign]  # broken on purpose


def forget_the_dedupe() -> None:
    """A repeat is processed like a new message, and a repeated key appends again."""
    put = EmbeddedQueue.put

    def forgetful(self: EmbeddedQueue, message: Uplink, sink: Sink) -> None:
        user = self._users.get(message.user)
        if user is not None:
            device = user.device(message.device)
            device.pending = min(device.pending, message.id - 1)
            device.accepted = min(device.accepted, message.id - 1)
        put(self, message, sink)

    EmbeddedQueue.put = forgetful  # type: ignore[method-assign]  # broken on purpose
    for name in ("source", "draining_source"):
        script = getattr(way, name)()
        assert LOOKS in script
        setattr(way, name, partial(bytes, script.replace(LOOKS, b"if false then")))
    for inbox in (EmbeddedInbox, RedisInbox):
        append = inbox.append

        def unkeyed(self: Any, user: str, route: str, body: bytes, key: str | None = None, append: Any = append) -> Any:
            return append(self, user, route, body)

        inbox.append = unkeyed  # type: ignore[method-assign]  # broken on purpose
    _change_openings(lambda opening: Opening(opening.epoch, opening.head, opening.first, opening.resumed, 0))


def skip_the_resume() -> None:
    """Whoever comes back hears only what is new."""
    _change_openings(lambda opening: Opening(opening.epoch, opening.head, opening.head + 1, True, opening.accepted))


def _change_openings(change: Callable[[Opening], Opening]) -> None:
    for inbox in (EmbeddedInbox, RedisInbox):
        opens = inbox.open

        async def changed(self: Any, *args: Any, opens: Any = opens, **options: Any) -> Opening:
            return change(await opens(self, *args, **options))

        inbox.open = changed  # type: ignore[method-assign]  # broken on purpose


MUTATIONS: dict[str, Callable[[], None]] = {
    each.__name__: each for each in (ack_before_durable, forget_the_dedupe, skip_the_resume)
}


def mutate(name: str) -> None:
    """Break it; "" = leave it whole."""
    if name:
        MUTATIONS[name]()
