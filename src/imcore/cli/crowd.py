"""Those who talk in a demo: users in a ring, each with a client of the real kind, who send when they are told to. Every
message is booked in an `Account`."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager

import msgspec

from ..client import Client, State
from ..errors import ImcoreError
from .account import Account, Break
from .options import said
from .terminal import Failed

__all__ = ["Crowd", "User"]

SENDING_MOST = 1000
"""Messages of one user that wait for their answer."""


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
        self.failure: ImcoreError | None = None
        """Why this client can't go on."""
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

    async def ready(self) -> None:
        """Returns when more can be sent: a client's outbox is not endless."""
        while len(self._sending) >= SENDING_MOST:
            await asyncio.wait(self._sending)

    def send(self, number: int) -> None:
        """Send a number; it is booked now, and confirmed when it is durable."""
        assert self.client is not None
        self._account.sent[self.name, self.to][number] = time.monotonic()
        task = asyncio.get_running_loop().create_task(self._send(self.client, number))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, client: Client, number: int) -> None:
        with self._watched():
            await client.send("chat", msgspec.json.encode({"to": self.to, "text": str(number)}), timeout=None)
            self._account.confirmed += 1

    async def _hear(self, client: Client) -> None:
        with self._watched():
            async for message in client:
                heard = said(message.route, message.body)
                if heard is not None:
                    self._account.received[heard.sender, self.name].append((int(heard.text), time.monotonic()))
                    self._moved()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """What fails is kept, and told when all is to be whole."""
        try:
            yield
        except ImcoreError as error:
            self.failure = error
            self._moved()


class Crowd:
    """count: how many they are."""

    def __init__(self, count: int) -> None:
        self.account = Account()
        self.users: list[User] = []
        self._count = count
        self._next = 0
        self._moved = asyncio.Event()

    async def join(self, points: list[str], tls: ssl.SSLContext | None, stack: AsyncExitStack) -> None:
        """One more comes, and goes with the stack."""
        number = len(self.users)
        name, to = f"user-{number}", f"user-{(number + 1) % self._count}"
        user = User(name, to, points, tls, self.account, self._moved.set)
        await user.come()
        stack.push_async_callback(user.end)
        self.users.append(user)

    def say(self, user: User) -> None:
        """The next number is sent."""
        self._next += 1
        user.send(self._next)

    async def talk(self, count: int, seconds: float, senders: Sequence[User] | None = None) -> None:
        """So many messages by these, or by all in turn, evenly over the time."""
        by = senders or self.users
        began = time.monotonic()
        for number in range(count):
            await by[number % len(by)].ready()
            self.say(by[number % len(by)])
            ahead = began + (number + 1) * seconds / count - time.monotonic()
            if ahead > 0.001 or number % 32 == 0:
                await asyncio.sleep(max(ahead, 0))

    async def whole(self, patience_s: float) -> None:
        """Everyone is connected, and all that was sent has come. Raises `TimeoutError`, `Failed`."""
        async with asyncio.timeout(patience_s):
            while self.account.missing or any(
                user.client is None or user.client.state is not State.OPEN for user in self.users
            ):
                for user in self.users:
                    if user.failure is not None:
                        raise Failed(f"{user.name} can't go on: {user.failure}")
                self._moved.clear()
                await self._moved.wait()

    def survived(self, what: str, start: float) -> Break:
        """That happened, and is over."""
        end = time.monotonic()
        _, met = self.account.latencies([(start, end)])
        return Break(what, start, end, round(met[-1] * 1000, 1) if met else 0.0)
