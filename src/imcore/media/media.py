"""The media service as a whole: its folder, books, store and threads, for the length of an `async with`."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

from ..errors import ConfigError
from ..reference import Reference
from . import links
from .aside import Aside
from .body import Bodies
from .ledger import Ledger
from .limits import Limits
from .mover import Movers
from .refusal import Refusal
from .server import Server
from .store import Entry, Folder, Store
from .uploads import Uploads

__all__ = ["Authenticate", "Media"]

_log = logging.getLogger(__name__)

Authenticate = Callable[[str], str | Awaitable[str]]
"""A token to the user's name; raises `Unauthorized`."""

SHUTDOWN_S = 5.0
"""How long transfers on listeners of our own get to end, seconds: what came by then is kept."""
SWEEP_S = 60.0
"""How often what is past its time is looked for, seconds: in an index, so that only that is touched."""


class Media:
    """folder: of uploads under way, of the books, and of the files unless another store keeps them. secret: signs
    links; None = one is made and kept in the folder. store: None = the folder. Entering raises `ConfigError` or
    `EngineError`."""

    def __init__(
        self,
        folder: str | os.PathLike[str],
        authenticate: Authenticate,
        limits: Limits | None = None,
        *,
        secret: bytes | None = None,
        store: Store | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self._folder = Path(folder)
        self._authenticate = authenticate
        self._secret = secret
        self._store = store
        self._runner: web.AppRunner | None = None
        self._servers: list[asyncio.Server] = []

    def add_routes(self, application: web.Application) -> None:
        """To an application that has not started; requests are answered once this is entered."""
        Server(self).add_routes(application)

    async def __aenter__(self) -> Self:
        under_way = self._folder / "uploads"
        try:
            under_way.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"media: {self._folder}: {error.strerror}") from None
        self.keys = links.Keys(links.kept(self._folder) if self._secret is None else self._secret)
        self._aside = Aside(4)
        self._movers = Movers(max(2, os.cpu_count() or 2))
        self.bodies = Bodies(self._movers)
        self.store: Store = self._store or Folder(self._folder / "files", self._aside)
        self._ledger = Ledger(self._folder / "media.sqlite")
        self.uploads = Uploads(under_way, self._ledger, self.store, self.limits, self._aside)
        await self.uploads.load()
        self._sweeper = asyncio.create_task(self._sweep(), name="imcore media")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.close()
        if self._runner is not None:
            await self._runner.cleanup()
        self._sweeper.cancel()
        await asyncio.wait([self._sweeper])
        self._movers.close()
        self._aside.close()
        self._ledger.close()

    async def serve(
        self,
        sockets: Sequence[socket.socket],
        tls: ssl.SSLContext | None,
        front: Callable[[web.Application], object] = lambda application: None,
    ) -> None:
        """Answer on listening sockets of our own, until the end. front: adds routes beside ours."""
        if self._runner is None:
            application = web.Application()
            self.add_routes(application)
            front(application)
            self._runner = web.AppRunner(
                application,
                handle_signals=False,
                access_log=None,
                keepalive_timeout=self.limits.idle_s,
                shutdown_timeout=SHUTDOWN_S,
            )
            await self._runner.setup()
        loop = asyncio.get_running_loop()
        for sock in sockets:
            self._servers.append(
                await loop.create_server(
                    self._connection, sock=sock, ssl=tls, ssl_handshake_timeout=self.limits.idle_s if tls else None
                )
            )

    def _connection(self) -> web.RequestHandler:
        """One that was accepted. aiohttp would wait for the first head for ever; later ones it does not."""
        assert self._runner is not None
        assert self._runner.server is not None
        handler = self._runner.server()
        asyncio.get_running_loop().call_later(self.limits.idle_s, _end_if_silent, handler)
        return handler

    async def user(self, token: str) -> str:
        """Whose token it is; raises `Unauthorized`."""
        found = self._authenticate(token)
        return await found if inspect.isawaitable(found) else found

    def reference(self, id: str, entry: Entry) -> Reference:
        """What its owner may send to others."""
        return Reference(id, self.keys.key(id), entry.size, entry.sha256, entry.type, entry.name)

    async def delete(self, id: str, user: str) -> None:
        """A file of the user's own. Raises `Refusal`."""
        if await self.uploads.owner(id) != user:
            raise Refusal(404, "there is no such file of yours")
        await self._remove(id)

    async def sweep(self) -> None:
        """What is past its time goes."""
        uploads, files = await self.uploads.over()
        await self.uploads.expire(uploads)
        for id in files:
            await self._remove(id)

    async def _remove(self, id: str) -> None:
        await self.store.delete(id)
        await self.uploads.drop(id)

    async def _sweep(self) -> None:
        while True:
            try:
                await self.sweep()
            except Exception:
                _log.exception("what is past its time could not be removed")
            await asyncio.sleep(SWEEP_S)


def _end_if_silent(handler: web.RequestHandler) -> None:
    if handler.transport is not None and not handler._request_count:
        handler.transport.abort()
