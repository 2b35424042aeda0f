"""A node: the roles that a configuration names in one process, started in order and drained on the way out.

It owns the engine, the service and the gateway, and decides nothing about messages.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import msgspec
from aiohttp import web

from .bus.embedded import EmbeddedBus
from .config import Config, Listen, load
from .errors import ConfigError
from .gateway import identity, site
from .gateway.auth import Authenticate, anonymous, jwt_authenticator
from .gateway.gateway import Gateway
from .gateway.listeners import is_loopback
from .gateway.web import Web
from .service import Service

__all__ = ["Node"]


class Node:
    """`async with Node(listen=["0.0.0.0:8080"], authenticate=my_tokens) as node: await node.serve_forever()`.

    config: what the file says, or the defaults. listen: addresses instead of the configuration's, `host:port`.
    authenticate: token to user, instead of the configuration's `[auth]`. data: folder of the engine instead of the
    configuration's. `http` is the aiohttp application that answers HTTP on the same addresses: add routes before the
    node starts. Raises `ConfigError` for what can't be, such as anonymous users on other than loopback addresses.
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        listen: Sequence[str] | None = None,
        authenticate: Authenticate | None = None,
        data: str | os.PathLike[str] | None = None,
    ) -> None:
        config = config or Config()
        if listen is not None:
            config = msgspec.structs.replace(config, listen=[Listen(address=address) for address in listen])
        if data is not None:
            config = msgspec.structs.replace(config, node=msgspec.structs.replace(config.node, data=os.fspath(data)))
        self.config = config
        self._authenticate = authenticate or _authenticator(config)
        self._stopped = asyncio.Event()
        self.bus = EmbeddedBus(
            config.node.data,
            node=config.node.name,
            inbox_count=config.inbox.count,
            inbox_size=config.inbox.size,
            inbox_age_s=config.inbox.age_s,
            device_ttl_s=config.inbox.device_ttl_s,
            backlog=config.bus.backlog,
        )
        self.service = Service(self.bus)
        self.http = web.Application()
        self.gateway = Gateway(
            self.bus,
            name=config.node.name,
            authenticate=self._authenticate,
            limits=config.link_limits(),
            web=Web(self.http, config.limits.drain_s),
        )

    @classmethod
    def from_config(cls, path: str | os.PathLike[str]) -> Self:
        """The node that a TOML file describes; raises `ConfigError`."""
        return cls(load(path))

    @property
    def addresses(self) -> list[str]:
        """Where it listens, as bound: `127.0.0.1:8080`."""
        return self.gateway.addresses

    async def __aenter__(self) -> Self:
        """Start: the engine, then the service, then the gateway. Raises `ConfigError` or `EngineError`."""
        async with AsyncExitStack() as stack:
            await self.bus.start()
            stack.push_async_callback(self.bus.close)
            await self.service.start()
            stack.push_async_callback(self.service.close)
            node = self.config.node
            site.add_routes(self.http, node.name, identity.load(node.key) if node.key else identity.kept(node.data))
            await stack.enter_async_context(self.gateway)
            await self.gateway.listen(self.config.listen)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, in the other order: links drain, handlers finish, and what was answered is on disk."""
        await self._stack.__aexit__(kind, error, trace)

    async def serve_forever(self) -> None:
        """Until `stop`, or until the task is cancelled."""
        await self._stopped.wait()

    def stop(self) -> None:
        """End `serve_forever`: for signal handlers on the loop."""
        self._stopped.set()


def _authenticator(config: Config) -> Authenticate:
    if config.auth.mode == "jwt":
        return jwt_authenticator(config.auth.keys)
    open_to_others = [listen.address for listen in config.listen if not is_loopback(listen.address)]
    if open_to_others:
        raise ConfigError(
            f"auth: anonymous users are for loopback addresses only, and {open_to_others[0]} is not one: "
            'set auth.mode = "jwt" with keys, or pass `authenticate`'
        )
    return anonymous
