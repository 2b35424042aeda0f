"""The demo's run: a node, its users, and what breaks between them; every message is booked in an `Account`.

Everything is real but the network, which is loopback through relays that can be cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from .. import chat_service, config
from ..node import Node
from .account import Break
from .certificate import self_signed
from .crowd import Crowd, User
from .relay import Relay

__all__ = ["AT_BREAKS", "Trial"]

BACK_S = 30.0
"""How long everyone may take to be connected again after a break."""
AT_BREAKS = 4
"""Messages that each user sends while something is broken."""
LAST_S = 20.0
"""How long the last messages may take."""


class Trial:
    """users: at least 2. messages: in all. seconds: over which they are sent. tell: told what happens, for people."""

    def __init__(self, folder: Path, *, users: int, messages: int, seconds: float, tell: Callable[[str], None]) -> None:
        self.crowd = Crowd(users)
        self.breaks: list[Break] = []
        self._folder = folder
        self._count = users
        self._messages = messages
        self._seconds = seconds
        self._tell = tell

    async def run(self) -> None:
        """Send everything through every break, and wait for what is still on its way."""
        files, trust = self_signed(self._folder)
        settings = config.Config(
            node=config.Node(name="demo", data=str(self._folder / "data")),
            listen=[config.Listen(address="127.0.0.1:0"), config.Listen(address="127.0.0.1:0", tls=files)],
            limits=config.Limits(drain_s=0.5, spread_s=0.5),
            inbox=config.Inbox(count=self._messages),  # of one who is away nothing may expire
        )
        async with AsyncExitStack() as stack:
            self._raw = await stack.enter_async_context(Relay())
            self._tls = await stack.enter_async_context(Relay())
            await self._start(settings)
            stack.push_async_callback(self._stop)
            points = (self._raw.point, f"tls://{self._tls.point}", f"http://{self._raw.point}")
            for number in range(self._count):
                await self.crowd.join([points[number % len(points)]], trust, stack)
            await self.crowd.whole(BACK_S)
            await self._story(settings)
            with contextlib.suppress(TimeoutError):  # then the account shows what is missing
                await self.crowd.whole(LAST_S)
            await asyncio.sleep(0.2)  # what comes twice would come now

    async def _story(self, settings: config.Config) -> None:
        """Four stretches of sending, and what breaks between them."""
        users = self.crowd.users
        self._tell(
            f"{self._count} users connected: each third one over TLS, each third one through the HTTP tunnel; sending"
        )
        await self._stretch(users)

        start = time.monotonic()
        cut = self._raw.cut() + self._tls.cut()
        await self._mended(f"{cut} connections cut", start)
        await self._stretch(users)

        start = time.monotonic()
        away, others = users[0], users[1:]
        await away.go()
        self._tell(f"{away.name} goes; the others go on sending")
        await self._stretch(others)
        await away.come()
        await self._mended(f"{away.name} away and back", start)

        start = time.monotonic()
        await self._stop()
        self._tell("the node stops; everyone goes on sending")
        for user in users:
            self.crowd.say(user)
        await self._start(settings)
        await self._mended("the node stopped and started", start)
        await self._stretch(users)

    async def _stretch(self, senders: list[User]) -> None:
        """A quarter of the messages; without those that are sent at the breaks."""
        await self.crowd.talk((self._messages - AT_BREAKS * self._count) // 4, self._seconds / 4, senders)

    async def _mended(self, what: str, start: float) -> None:
        for user in self.crowd.users:
            self.crowd.say(user)
        await self.crowd.whole(BACK_S)
        self.breaks.append(self.crowd.survived(what, start))
        self._tell(
            f"{what}: all connected, and all that was sent has come, {time.monotonic() - start:.1f} s after it began"
        )

    async def _start(self, settings: config.Config) -> None:
        node = Node(settings)
        chat_service.register(node.service)
        self._node = await node.__aenter__()
        self._raw.target, self._tls.target = self._node.addresses

    async def _stop(self) -> None:
        self._raw.target = self._tls.target = None
        await self._node.__aexit__(None, None, None)
