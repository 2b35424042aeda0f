"""The business side: handlers for messages on their way up, push and broadcast for what goes down.

Nothing here looks into a payload. `lanes` says in which order handlers run, and what happens when they fail.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec

from .bus.ports import Bus, Check
from .bus.variants import MARK, packed
from .errors import ConfigError, EncodeError
from .lanes import Handler, Lanes, Tries
from .messages import Role

__all__ = ["Handler", "Online", "Service"]

Function = TypeVar("Function", bound=Handler)


class Online(msgspec.Struct, frozen=True):
    """A device that has a link now."""

    device: str
    since_ms: int
    """When its HELLO came, milliseconds since 1970."""
    client: str
    """Which program it says it is."""
    node: str
    way: Role
    """What the link is for: `up`, `down` or `both`."""


class Service:
    """Business code on a bus.

    At most `parallel` handlers run at once; the rest wait. A message is tried `max_tries` times, with `retry_s` seconds
    before the second try and twice as long before each one after that (half a minute at most), while what the same
    device sent later waits; that the engine takes nothing (`EngineError`: the disk is full, say) is nobody's last try.
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
        self._tries = Tries(max_tries, retry_s)
        self._grace_s = grace_s
        self._handlers: dict[str, Handler] = {}
        self._checks: dict[str, Check | None] = {}
        self._lanes: Lanes | None = None

    def on(self, route: str, *, check: Check | None = None) -> Callable[[Function], Function]:
        """Decorator: this coroutine function handles the messages of `route`.

        `check` looks at each message before it is accepted: None, or a text that says what was expected, with which
        the message is refused for good. A handler may run again with the same message: pass `key=message.key` to
        `push`. One that ends with a push should return it (`return service.push(…)`) rather than wait for it: the
        device's next message is then handled while the disk works. Raises `ConfigError` if the route is taken, or the
        service runs already.
        """
        if self._lanes is not None:
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

    def push(
        self,
        user: str,
        route: str,
        body: bytes,
        *,
        key: str | None = None,
        variants: Mapping[str, bytes] | None = None,
    ) -> asyncio.Future[int]:
        """Append to the user's inbox and wake the user's devices: await it for the sequence number, once it is durable.

        Pushes to one user are appended in the order of the calls. A key that was given before for this user appends
        nothing and returns the number that it was given at first; `message.key` is remembered for as long as its
        message may come again. `variants` are payloads for clients that name them in `HELLO.accepts`: each device gets
        the first that it names, or `body`. Raises `EncodeError` for what no frame could carry; what it returns,
        `EngineError`.
        """
        if not isinstance(body, bytes):
            raise EncodeError(f"push expects a body of bytes, got {type(body).__name__}; encode it first")
        if key is not None and not isinstance(key, str):
            raise EncodeError(f"push expects a key of str or None, got {type(key).__name__}")
        size, largest = len(route.encode()), max(map(len, (body, *variants.values()))) if variants else len(body)
        if size > 255 or size + largest > self.max_frame:
            raise EncodeError(
                f"push expects a route of at most 255 bytes, and at most {self.max_frame} bytes with its body, "
                f"got {size} and {size + largest}"
            )
        if route[:1] == MARK:
            raise EncodeError(f"push expects a route that does not begin with a zero byte, got {route[:20]!r}")
        if variants:
            route, body = packed(route, body, variants)
        return self._bus.inbox.append(user, route, body, key)

    async def online(self, user: str) -> list[Online]:
        """The user's devices that have a link now, by their coming. Raises `EngineError`."""
        standing = sorted(await self._bus.routes.online(user), key=lambda route: route.order)
        return [Online(each.device, each.order // 1000, each.client, each.node, each.way) for each in standing]

    async def broadcast(self, room: str, body: bytes) -> None:
        """Send a transient message to the members of a room: not stored, dropped for a link that can't keep up."""
        await self._bus.push.broadcast(room, body)

    async def start(self) -> None:
        """Take messages, first those that an earlier process left. The bus has been started."""
        self._lanes = Lanes(self._bus.queue, self._handlers, self._parallel, self._tries)
        if self._handlers:
            self._bus.queue.consume(self._checks, self._lanes.take)

    async def close(self) -> None:
        """Take nothing new, give running handlers `grace_s` seconds, then cancel them."""
        if self._lanes is not None:
            await self._lanes.close(self._grace_s)
