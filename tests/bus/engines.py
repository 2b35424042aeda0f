"""The engines that the suite runs against, and what a test needs around one: links, handlers, waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import uvloop

from imcore.bus.embedded import EmbeddedBus
from imcore.bus.ports import Bus, Uplink, Wake
from imcore.messages import Refusal

__all__ = ["ENGINES", "Engine", "Link", "Taker", "run", "until", "uplink"]


Engine = Callable[..., Bus]
"""Makes a bus of a folder, and its limits by name; two buses of one folder see the same data, one after the other."""

ENGINES: dict[str, Engine] = {"embedded": EmbeddedBus}


class Link:
    """A sink that remembers what it was told."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Refusal | None]] = []

    def answered(self, id: int, refusal: Refusal | None) -> None:
        """Note it."""
        self.answers.append((id, refusal))

    @property
    def durable(self) -> list[int]:
        """The numbers that were confirmed, in the order of the answers."""
        return [id for id, refusal in self.answers if refusal is None]


class Taker:
    """Takes messages and wake-ups, and settles nothing by itself."""

    def __init__(self) -> None:
        self.messages: list[Uplink] = []
        self.wakes: list[Wake] = []
        self.rooms: list[tuple[str, bytes]] = []

    def take(self, messages: Sequence[Uplink]) -> None:
        """For `consume`."""
        self.messages += messages

    def attach(self, bus: Bus, node: str = "n") -> Taker:
        """Listen to the pushes and take the route `chat`."""
        bus.push.attach(node, self.wakes.extend, lambda room, body: self.rooms.append((room, body)))
        bus.queue.consume({"chat": None}, self.take)
        return self


def uplink(id: int, *, user: str = "alice", device: str = "phone", route: str = "chat", body: bytes = b"") -> Uplink:
    """A message as the gateway would hand it over."""
    return Uplink(user, device, id, route, body or b"body %d" % id, 1_700_000_000_000)


async def until(holds: Callable[[], bool], what: str = "the condition", timeout_s: float = 10.0) -> None:
    """Wait until it holds."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not holds():
        assert asyncio.get_running_loop().time() < deadline, f"waited {timeout_s} s in vain for {what}"
        await asyncio.sleep(0.002)


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine on the loop that a node runs on."""
    uvloop.run(asyncio.wait_for(main, 50))
