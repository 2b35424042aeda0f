"""A gateway with the embedded engine, the chat service and a service of the test's own, for the length of a `with`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from imcore import chat_service
from imcore.bus.embedded import EmbeddedBus
from imcore.bus.ports import Uplink
from imcore.gateway.auth import Authenticate, anonymous
from imcore.gateway.gateway import Gateway
from imcore.gateway.limits import Limits
from imcore.gateway.listeners import Listen, Tls
from imcore.gateway.web import Web
from imcore.service import Service

Result = TypeVar("Result")


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """On uvloop, as a node does."""
    return uvloop.run(work)


class Running:
    """What a test reaches for."""

    def __init__(self, gateway: Gateway, bus: EmbeddedBus, service: Service, seen: list[Uplink]) -> None:
        self.gateway = gateway
        self.bus = bus
        self.service = service
        self.seen = seen  # what the `note` service was handed, in order
        self.address = gateway.addresses[0]


@asynccontextmanager
async def running(
    data: Path,
    *,
    limits: Limits | None = None,
    authenticate: Authenticate = anonymous,
    native: bool = True,
    tls: Tls | None = None,
    web: Web | None = None,
) -> AsyncIterator[Running]:
    bus = EmbeddedBus(data)
    await bus.start()
    try:
        service = Service(bus)
        chat_service.register(service)
        seen: list[Uplink] = []

        @service.on("note")
        async def note(message: Uplink) -> None:
            seen.append(message)

        await service.start()
        limits = limits or Limits(drain_s=0.2)
        async with Gateway(
            bus, name="test", authenticate=authenticate, limits=limits, native=native, web=web
        ) as gateway:
            await gateway.listen([Listen("127.0.0.1:0", tls)])
            yield Running(gateway, bus, service, seen)
        await service.close()
    finally:
        await bus.close()


async def until(condition: Any, seconds: float = 5) -> None:
    """Wait for what another task brings about."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - whatever brings it about tells nobody
            await asyncio.sleep(0.01)
