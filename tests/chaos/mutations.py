"""Ways to break the promise on purpose: a chaos run that does not notice them proves nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from imcore.bus.embedded.inbox import EmbeddedInbox
from imcore.bus.embedded.queue import EmbeddedQueue
from imcore.bus.ports import Opening, Sink, Uplink
from imcore.messages import Refusal

__all__ = ["MUTATIONS", "mutate"]


class _Nobody:
    def answered(self, id: int, refusal: Refusal | None) -> None:
        """It was answered long ago."""


def ack_before_fsync() -> None:
    """A message is confirmed before it is on its way to the disk."""
    put = EmbeddedQueue.put

    def hasty(self: EmbeddedQueue, message: Uplink, sink: Sink) -> None:
        sink.answered(message.id, None)
        self._core.loop.call_later(0.05, put, self, message, _Nobody())

    EmbeddedQueue.put = hasty  # type: ignore[method-assign]


def forget_the_dedupe() -> None:
    """A repeat is processed like a new message, and a repeated key appends again."""
    put, append, opens = EmbeddedQueue.put, EmbeddedInbox.append, EmbeddedInbox.open

    def forgetful(self: EmbeddedQueue, message: Uplink, sink: Sink) -> None:
        user = self._users.get(message.user)
        if user is not None:
            device = user.device(message.device)
            device.pending = min(device.pending, message.id - 1)
            device.accepted = min(device.accepted, message.id - 1)
        put(self, message, sink)

    def unkeyed(self: EmbeddedInbox, user: str, route: str, body: bytes, key: str | None = None) -> Any:
        return append(self, user, route, body)

    async def knows_nothing(self: EmbeddedInbox, *args: Any, **options: Any) -> Opening:
        opening = await opens(self, *args, **options)
        return Opening(opening.epoch, opening.head, opening.first, opening.resumed, 0)

    EmbeddedQueue.put = forgetful  # type: ignore[method-assign]
    EmbeddedInbox.append = unkeyed  # type: ignore[method-assign]
    EmbeddedInbox.open = knows_nothing  # type: ignore[method-assign]


def skip_the_resume() -> None:
    """Whoever comes back hears only what is new."""
    opens = EmbeddedInbox.open

    async def from_now_on(self: EmbeddedInbox, *args: Any, **options: Any) -> Opening:
        opening = await opens(self, *args, **options)
        return Opening(opening.epoch, opening.head, opening.head + 1, True, opening.accepted)

    EmbeddedInbox.open = from_now_on  # type: ignore[method-assign]


MUTATIONS: dict[str, Callable[[], None]] = {
    each.__name__: each for each in (ack_before_fsync, forget_the_dedupe, skip_the_resume)
}


def mutate(name: str) -> None:
    """Break it; "" = leave it whole."""
    if name:
        MUTATIONS[name]()
