"""A node: the roles that a configuration names in one process, started in order and drained on the way out.

It owns the engine, the services (business, access, media) and the gateway, and decides nothing about messages.
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
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from .access.own import own_points
from .access.server import AccessService
from .access.store import FileStore
from .bus.embedded import EmbeddedBus
from .bus.ports import Bus
from .config import Config, Listen, load
from .errors import ConfigError
from .gateway import identity, site
from .gateway.auth import Authenticate, anonymous, jwt_authenticator
from .gateway.counters import Counters
from .gateway.gateway import Gateway
from .gateway.listeners import address_text, bound, is_loopback
from .gateway.web import Web
from .media import links
from .media.media import Media
from .media.s3 import objects
from .messages import Role
from .service import Service

__all__ = ["Node"]


class Node:
    """`async with Node(listen=["0.0.0.0:8080"], authenticate=my_tokens) as node: await node.serve_forever()`.

    config: what the file says, or the defaults. listen: addresses instead of the configuration's, `host:port`.
    authenticate: token to user, instead of the configuration's `[auth]`. data: folder of the engine instead of the
    configuration's. `http` is the aiohttp application that answers HTTP on the same addresses: add routes before the
    node starts. `access` is its access service, where it has that role and has started. Raises `ConfigError` for what
    can't be, such as anonymous users on other than loopback addresses.
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
            if not os.fspath(data):
                raise ConfigError("data: expected a folder, got ''")
            config = msgspec.structs.replace(config, node=msgspec.structs.replace(config.node, data=os.fspath(data)))
        self.config = config
        self.media_addresses: list[str] = []
        """Of the media service's own listeners, as bound."""
        self._authenticate = authenticate or _authenticator(config)
        self._stopped = asyncio.Event()
        self.access: AccessService
        self.bus = _engine(config)
        self.service = Service(self.bus)
        self.http = web.Application()
        self.media = _media(config, self._authenticate) if "media" in config.node.roles else None
        self.gateway = Gateway(
            self.bus,
            name=config.node.name,
            authenticate=self._authenticate,
            limits=config.link_limits(),
            serves=_served(config.node.roles),
            web=Web(self.http, config.limits.drain_s),
        )

    @classmethod
    def from_config(cls, path: str | os.PathLike[str]) -> Self:
        """The node that a TOML file describes; raises `ConfigError`."""
        return cls(load(path))

    def _access(self, key: Ed25519PrivateKey) -> AccessService:
        settings = self.config.access
        access = AccessService(
            settings,
            loads=self.bus.loads,
            keys=[identity.load(path, f"access.keys[{number}]") for number, path in enumerate(settings.keys)] or [key],
            store=FileStore(self.config.node.data),
            authenticate=self._authenticate,
        )
        access.add_routes(self.http)
        return access

    @property
    def addresses(self) -> list[str]:
        """Where it listens, as bound: `127.0.0.1:8080`."""
        return self.gateway.addresses if self._keeps_links else self.media_addresses

    @property
    def counters(self) -> Counters:
        """What its gateway has now, and has done since it started."""
        return self.gateway.counters

    @property
    def _keeps_links(self) -> bool:
        """It has a gateway; one that takes no links where access is alone, only HTTP."""
        return bool(_served(self.config.node.roles)) or "access" in self.config.node.roles

    async def __aenter__(self) -> Self:
        """Start: engine, service, media service, then the gateway. Raises `ConfigError` or `EngineError`."""
        async with AsyncExitStack() as stack:
            roles = self.config.node.roles
            if self._keeps_links or "service" in roles:
                await self.bus.start()
                stack.push_async_callback(self.bus.close)
            if "service" in roles:
                await self.service.start()
                stack.push_async_callback(self.service.close)
            if self.media is not None:
                await self._serve_media(self.media, stack)
            if self._keeps_links:
                node = self.config.node
                key = self._add_site(self.http)
                if "access" in roles:
                    self.access = await stack.enter_async_context(self._access(key))
                await stack.enter_async_context(self.gateway)
                await self.gateway.listen(self.config.listen)
                if "access" in roles and not self.config.access.points:
                    self.access.begin(own_points(node.name, self.gateway.places))
            self._stack = stack.pop_all()
        return self

    def _add_site(self, application: web.Application) -> Ed25519PrivateKey:
        """By it clients know whom they have reached; returns the key that proves it."""
        node = self.config.node
        os.makedirs(node.data, exist_ok=True)
        key = identity.load(node.key) if node.key else identity.kept(node.data)
        site.add_routes(application, node.name, key)
        return key

    async def _serve_media(self, media: Media, stack: AsyncExitStack) -> None:
        """On listeners of its own, if it has any or is alone; else on the gateway's, where HTTP is told apart."""
        await stack.enter_async_context(media)
        own = self.config.media.listen or ([] if self._keeps_links else self.config.listen)
        if not own:
            media.add_routes(self.http)
            return
        for listen in own:
            sockets, context = await bound(listen)
            await media.serve(sockets, context, self._add_site)
            self.media_addresses += [address_text(sock) for sock in sockets]

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


def _served(roles: Sequence[str]) -> frozenset[Role]:
    """Which links a process with these roles takes."""
    down, up = "downlink" in roles, "uplink" in roles
    taken: dict[Role, bool] = {"down": down, "up": up, "both": down and up}
    return frozenset(role for role, takes in taken.items() if takes)


def _media(config: Config, authenticate: Authenticate) -> Media:
    media = config.media
    folder = media.folder or os.path.join(config.node.data, "media")
    secret = links.load(media.key) if media.key else None
    store = objects(**msgspec.structs.asdict(media.s3)) if media.store == "s3" else None
    return Media(folder, authenticate, config.media_limits(), secret=secret, store=store)


def _engine(config: Config) -> Bus:
    inbox, bus = config.inbox, config.bus
    limits = {
        "inbox_count": inbox.count,
        "inbox_size": inbox.size,
        "inbox_age_s": inbox.age_s,
        "device_ttl_s": inbox.device_ttl_s,
        "backlog": bus.backlog,
    }
    if bus.engine == "embedded":
        return EmbeddedBus(config.node.data, node=config.node.name, **limits)
    try:
        from .bus.redis import RedisBus  # what it needs is an extra
    except ImportError as error:
        raise ConfigError(f'bus: engine = "redis" needs redis-py: pip install "imcore[redis]" ({error})') from None
    return RedisBus(bus.url, space=bus.space, shards=bus.shards, **limits)


def _authenticator(config: Config) -> Authenticate:
    if config.auth.mode == "jwt":
        return jwt_authenticator(config.auth.keys)
    listens = [*config.listen, *config.media.listen]
    open_to_others = [listen.address for listen in listens if not is_loopback(listen.address)]
    if open_to_others:
        raise ConfigError(
            f"auth: anonymous users are for loopback addresses only, and {open_to_others[0]} is not one: "
            'set auth.mode = "jwt" with keys, or pass `authenticate`'
        )
    return anonymous
