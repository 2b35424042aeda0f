"""The demo's run: a node, its users, and what breaks between them; every message is booked in an `Account`.

Everything is real but the network, which is loopback through relays that can be cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from .. import chat_service, config
from ..client import Client, State
from ..node import Node
from .account import Account
from .certificate import self_signed
from .options import said
from .relay import Relay

__all__ = ["Break", "Trial"]

BACK_S = 30.0
"""How long everyone may take to be connected again after a break."""
AT_BREAKS = 4
"""Messages that each user sends while something is broken."""
LAST_S = 20.0
"""How long the last messages may take."""


class Break(msgspec.Struct, frozen=True):
    """Something broke, and was whole again."""

    what: str
    start: float
    """On the monotonic clock, seconds."""
    end: float
    """Everyone was connected again, and all that had been sent so far had come."""


class User:
    """One person with one device, who sends to the next one and hears from the one before."""

    def __init__(
        self,
        name: str,
        to: str,
        points: list[str],
        tls: ssl.SSLContext | None,
        account: Account,
        moved: Callable[[], None],
    ) -> None:
        self.name = name
        self.to = to
        self.drops = 0
        """How often the link for what comes down was lost."""
        self._points = points
        self._tls = tls
        self._account = account
        self._moved = moved
        self._sending: set[asyncio.Task[None]] = set()
        self.client: Client | None = None

    async def come(self) -> None:
        """Start the client; what it hears is booked."""
        self._stack = AsyncExitStack()
        client = Client(self._points, self.name, "demo", tls=self._tls, on_state=self._stands)
        self.client = await self._stack.enter_async_context(client)
        self._hearing = asyncio.get_running_loop().create_task(self._hear(self.client))

    def _stands(self, state: State, text: str) -> None:
        self.drops += state is State.WAITING
        self._moved()

    async def go(self) -> None:
        """Wait for what is on its way up, then leave in good order."""
        while self._sending:
            await asyncio.wait(self._sending)
        await self.end()

    async def end(self) -> None:
        """Leave now."""
        self.client = None
        for task in self._sending:
            task.cancel()
        await self._stack.aclose()
        await asyncio.wait({self._hearing, *self._sending})

    def send(self, number: int) -> None:
        """Send a number; it is booked now, and confirmed when it is durable."""
        assert self.client is not None
        self._account.sent[self.name, self.to][number] = time.monotonic()
        task = asyncio.get_running_loop().create_task(self._send(self.client, number))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, client: Client, number: int) -> None:
        await client.send("chat", msgspec.json.encode({"to": self.to, "text": str(number)}), timeout=None)
        self._account.confirmed += 1

    async def _hear(self, client: Client) -> None:
        async for message in client:
            heard = said(message.route, message.body)
            if heard is not None:
                self._account.received[heard.sender, self.name].append((int(heard.text), time.monotonic()))
                self._moved()


class Trial:
    """users: at least 2. messages: in all. seconds: over which they are sent. tell: told what happens, for people."""

    def __init__(self, folder: Path, *, users: int, messages: int, seconds: float, tell: Callable[[str], None]) -> None:
        self.account = Account()
        self.breaks: list[Break] = []
        self._folder = folder
        self._count = users
        self._messages = messages
        self._seconds = seconds
        self._tell = tell
        self._next = 0
        self._moved = asyncio.Event()

    async def run(self) -> None:
        """Send everything through every break, and wait for what is still on its way."""
        files, trust = self_signed(self._folder)
        settings = config.Config(
            node=config.Node(name="demo", data=str(self._folder / "data")),
            listen=[config.Listen(address="127.0.0.1:0"), config.Listen(address="127.0.0.1:0", tls=files)],
            limits=config.Limits(drain_s=0.5, spread_s=0.5),
        )
        async with AsyncExitStack() as stack:
            self._raw = await stack.enter_async_context(Relay())
            self._tls = await stack.enter_async_context(Relay())
            await self._start(settings)
            stack.push_async_callback(self._stop)
            self._users = [self._user(number, trust) for number in range(self._count)]
            for user in self._users:
                await user.come()
                stack.push_async_callback(user.end)
            await self._whole(BACK_S)
            await self._story(settings)
            with contextlib.suppress(TimeoutError):  # then the account shows what is missing
                await self._whole(LAST_S)
            await asyncio.sleep(0.2)  # what comes twice would come now

    def _user(self, number: int, trust: ssl.SSLContext) -> User:
        name, to = f"user-{number}", f"user-{(number + 1) % self._count}"
        points = (self._raw.point, f"tls://{self._tls.point}", f"http://{self._raw.point}")
        return User(name, to, [points[number % len(points)]], trust, self.account, self._moved.set)

    async def _story(self, settings: config.Config) -> None:
        """Four stretches of sending, and what breaks between them."""
        self._tell(
            f"{self._count} users connected: each third one over TLS, each third one through the HTTP tunnel; sending"
        )
        await self._stretch(self._users)

        start = time.monotonic()
        cut = self._raw.cut() + self._tls.cut()
        await self._mended(f"{cut} connections cut", start, self._users)
        await self._stretch(self._users)

        start = time.monotonic()
        away, others = self._users[0], self._users[1:]
        await away.go()
        self._tell(f"{away.name} goes; the others go on sending")
        await self._stretch(others)
        await away.come()
        await self._mended(f"{away.name} away and back", start, self._users)

        start = time.monotonic()
        await self._stop()
        self._tell("the node stops; everyone goes on sending")
        for user in self._users:
            self._one(user)
        await self._start(settings)
        await self._mended("the node stopped and started", start, self._users)
        await self._stretch(self._users)

    async def _stretch(self, senders: list[User]) -> None:
        """A quarter of the messages, evenly; without those that are sent at the breaks."""
        count = (self._messages - AT_BREAKS * self._count) // 4
        began = time.monotonic()
        for number in range(count):
            self._one(senders[number % len(senders)])
            ahead = began + (number + 1) * self._seconds / 4 / count - time.monotonic()
            if ahead > 0.001 or number % 32 == 0:
                await asyncio.sleep(max(ahead, 0))

    def _one(self, user: User) -> None:
        self._next += 1
        user.send(self._next)

    async def _mended(self, what: str, start: float, senders: list[User]) -> None:
        for user in senders:
            self._one(user)
        await self._whole(BACK_S)
        self.breaks.append(Break(what, start, time.monotonic()))
        self._tell(
            f"{what}: all connected, and all that was sent has come, {time.monotonic() - start:.1f} s after it began"
        )

    async def _whole(self, patience: float) -> None:
        """Everyone is connected, and all that was sent has come. Raises `TimeoutError`."""
        async with asyncio.timeout(patience):
            while self.account.missing or any(
                user.client is None or user.client.state is not State.OPEN for user in self._users
            ):
                self._moved.clear()
                await self._moved.wait()

    async def _start(self, settings: config.Config) -> None:
        node = Node(settings)
        chat_service.register(node.service)
        self._node = await node.__aenter__()
        self._raw.target, self._tls.target = self._node.addresses

    async def _stop(self) -> None:
        self._raw.target = self._tls.target = None
        await self._node.__aexit__(None, None, None)
