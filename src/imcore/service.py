"""The business side: handlers for messages on their way up, push and broadcast for what goes down.

Handlers run at once for different devices and in order for one device. A handler that raised runs again, after growing
delays; one that keeps failing has its message put aside with the error. Nothing here looks into a payload.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from .bus.ports import Bus, Check, Uplink
from .errors import ConfigError, EncodeError

__all__ = ["Handler", "Service"]

Handler = Callable[[Uplink], Awaitable[None]]
Function = TypeVar("Function", bound=Handler)

TURN = 64
"""Messages that a worker handles before it lets the loop go round, even if no handler waits for anything."""

log = logging.getLogger("imcore.service")


class _Lane:
    """What one device sent and is not handled yet, in order."""

    __slots__ = ("messages", "tries")

    def __init__(self) -> None:
        self.messages: deque[Uplink] = deque()
        self.tries = 0


class Service:
    """Business code on a bus.

    At most `parallel` handlers run at once; the rest wait. A message is tried `max_tries` times, with `retry_s` seconds
    before the second try and twice as long before each one after that, while what the same device sent later waits.
    At `close` handlers have `grace_s` seconds to return; what they leave comes again at the next start. Route and body
    that go down take `max_frame` bytes together at most, as the gateways and clients allow.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        parallel: int = 1024,
        max_tries: int = 5,
        retry_s: float = 0.5,
        grace_s: float = 5.0,
        max_frame: int = 65_536,
    ) -> None:
        self.max_frame = max_frame
        self._bus = bus
        self._parallel = parallel
        self._max_tries = max_tries
        self._retry_s = retry_s
        self._grace_s = grace_s
        self._handlers: dict[str, Handler] = {}
        self._checks: dict[str, Check | None] = {}
        self._lanes: dict[tuple[str, str], _Lane] = {}
        self._ready: deque[_Lane] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._retries: dict[_Lane, asyncio.TimerHandle] = {}
        self._hiring = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = False

    def on(self, route: str, *, check: Check | None = None) -> Callable[[Function], Function]:
        """Decorator: this coroutine function handles the messages of `route`.

        `check` looks at each message before it is accepted: None, or a text that says what was expected, with which
        the message is refused for good. A handler may run again with the same message: pass `key=message.key` to
        `push`. Raises `ConfigError` if the route is taken, or the service runs already.
        """
        if self._loop is not None:
            raise ConfigError(f"handler for route {route!r}: expected before start(), the service runs already")
        if route in self._handlers:
            raise ConfigError(f"route {route!r} has a handler already; one route, one handler")
        if len(route.encode()) > 255:
            raise ConfigError(f"route {route[:20]!r}…: expected at most 255 bytes of UTF-8, got {len(route.encode())}")

        def register(handler: Function) -> Function:
            self._handlers[route] = handler
            self._checks[route] = check
            return handler

        return register

    async def push(self, user: str, route: str, body: bytes, *, key: str | None = None) -> int:
        """Append to the user's inbox and wake the user's devices; returns the sequence number once it is durable.

        A key that was given before for this user appends nothing and returns the number that it was given at first.
        `message.key` is remembered for as long as its message may come again. Raises `EngineError`, and `EncodeError`
        for what no frame could carry.
        """
        if not isinstance(body, bytes):
            raise EncodeError(f"push expects a body of bytes, got {type(body).__name__}; encode it first")
        if not isinstance(key, str | None):
            raise EncodeError(f"push expects a key of str or None, got {type(key).__name__}")
        size = len(route.encode())
        if size > 255 or size + len(body) > self.max_frame:
            raise EncodeError(
                f"push expects a route of at most 255 bytes, and at most {self.max_frame} bytes with its body, "
                f"got {size} and {size + len(body)}"
            )
        return await self._bus.inbox.append(user, route, body, key)

    async def broadcast(self, room: str, body: bytes) -> None:
        """Send a transient message to the members of a room: not stored, dropped for a link that can't keep up."""
        await self._bus.push.broadcast(room, body)

    async def start(self) -> None:
        """Take messages, first those that an earlier process left. The bus has been started."""
        self._loop = asyncio.get_running_loop()
        self._bus.queue.consume(self._checks, self._take)

    async def close(self) -> None:
        """Take nothing new, give running handlers `grace_s` seconds, then cancel them."""
        self._closing = True
        self._ready.clear()
        for timer in self._retries.values():
            timer.cancel()
        self._retries.clear()
        if self._workers:
            _, late = await asyncio.wait(self._workers, timeout=self._grace_s)
            for worker in late:
                worker.cancel()
            if late:
                log.warning("%d handlers did not return in %s s; their messages come again", len(late), self._grace_s)
                await asyncio.wait(late)
        self._lanes.clear()

    def _take(self, messages: Sequence[Uplink]) -> None:
        if self._closing:
            return
        lanes, ready = self._lanes, self._ready
        for message in messages:
            place = message.user, message.device
            lane = lanes.get(place)
            if lane is None:
                lane = lanes[place] = _Lane()
                ready.append(lane)
            lane.messages.append(message)
        self._hire()

    def _hire(self) -> None:
        """Get workers for the lanes that are ready, after those who are about to be free have had their turn."""
        if not self._hiring and self._ready:
            assert self._loop is not None
            self._hiring = True
            self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        assert self._loop is not None
        self._hiring = False
        for _ in range(min(len(self._ready), self._parallel - len(self._workers))):
            worker = self._loop.create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._ended)

    def _ended(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        if not worker.cancelled() and (error := worker.exception()) is not None:
            log.critical("a worker of the service failed", exc_info=error)
        if not self._closing:
            self._hire()

    async def _work(self) -> None:
        """Handle what is ready, one message of a lane at a time, until nothing is."""
        ready, handlers, settle, lanes = self._ready, self._handlers, self._bus.queue.settle, self._lanes
        handled = 0
        while ready:
            lane = ready.popleft()
            message = lane.messages[0]
            try:
                await handlers[message.route](message)
            except (Exception, asyncio.CancelledError) as error:
                if isinstance(error, asyncio.CancelledError) and self._closing:
                    raise
                if not self._failed(lane, message, error):  # what a handler awaited may be cancelled: that is a failure
                    continue
            else:
                settle(message)
            lane.tries = 0
            lane.messages.popleft()
            if not lane.messages:
                del lanes[message.user, message.device]
            elif not self._closing:
                ready.append(lane)
            handled += 1
            if handled % TURN == 0:
                await asyncio.sleep(0)

    def _failed(self, lane: _Lane, message: Uplink, error: BaseException) -> bool:
        """Whether the lane goes on behind this message; otherwise it waits for the next try."""
        lane.tries += 1
        if lane.tries >= self._max_tries:
            log.error(
                "handler of route %r failed %d times on message %s; it is put aside",
                message.route, lane.tries, message.key, exc_info=error,
            )  # fmt: skip
            self._bus.queue.bury(message, f"{type(error).__name__}: {error}")
            return True
        delay = self._retry_s * 2 ** (lane.tries - 1)
        log.warning(
            "handler of route %r failed on message %s, try %d of %d, next in %.1f s",
            message.route, message.key, lane.tries, self._max_tries, delay, exc_info=error,
        )  # fmt: skip
        if not self._closing:
            assert self._loop is not None
            self._retries[lane] = self._loop.call_later(delay, self._again, lane)
        return False

    def _again(self, lane: _Lane) -> None:
        del self._retries[lane]
        self._ready.append(lane)
        self._hire()
