"""What queue and inbox share: the users in memory, how one comes into memory, and the counters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress

from ...errors import EngineError
from .clock import Clock
from .fold import Fold, load
from .journal import Journal
from .store import Reader
from .users import Limits, User, Users

__all__ = ["COUNTERS", "Core"]

COUNTERS = (
    "accepted", "repeated", "withdrawn", "refused", "settled", "dead", "replayed", "dropped",
    "appended", "delivered", "expired",
)  # fmt: skip
"""Uplink: messages accepted, repeats and withdrawn numbers answered, refused, settled by their handler, put aside as
dead, handed to their handler again or given up after that. Inbox: appended, delivered to all devices that count,
expired before that. All but `repeated` and `refused` count since the database was made, whatever was killed since."""

Loaded = Callable[[User | EngineError], None]


class Core:
    """The state of the engine on the loop's thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        users: Users,
        limits: Limits,
        journal: Journal,
        fold: Fold,
        reader: Reader,
        dead_keys: set[str],
        totals: Mapping[str, int],
    ) -> None:
        self.loop = loop
        self.users = users
        self.limits = limits
        self.journal = journal
        self.fold = fold
        self.reader = reader
        self.dead_keys = dead_keys
        """Keys of messages that were put aside."""
        self.counters = dict.fromkeys(COUNTERS, 0) | {
            "accepted": totals["accepted"],
            "withdrawn": totals["withdrawn"],
            "settled": totals["left"] - totals["buried"],
            "dead": totals["buried"],
            "replayed": totals["replayed"],
            "dropped": totals["dropped"],
            "appended": totals["appended"],
            "delivered": totals["gone"] - totals["expired"],
            "expired": totals["expired"],
        }
        self.closing = False
        self.clock = Clock()
        self._wanted: dict[str, list[Loaded]] = {}
        self._fresh: list[str] = []

    def touch(self, user: User) -> None:
        """The tables lack something durable of this user."""
        if not user.dirty:
            user.dirty = True
            self.fold.dirty.append(user)

    def load(self, name: str, then: Loaded) -> None:
        """Bring a user into memory; those who ask in one turn are brought by one trip. `then` are called in order."""
        try:
            name.encode()
        except UnicodeEncodeError as error:
            then(EngineError(f"user {name!r}: expected text that UTF-8 can carry: {error.reason}"))
            return
        waiting = self._wanted.get(name)
        if waiting is not None:
            waiting.append(then)
            return
        self._wanted[name] = [then]
        self._fresh.append(name)
        if len(self._fresh) == 1:
            self.loop.call_soon(self._ask)

    async def user(self, name: str) -> User:
        """The user, from memory or from the tables. Raises `EngineError`."""
        while (user := self.users.get(name)) is None:
            future: asyncio.Future[None] = self.loop.create_future()

            def arrived(what: User | EngineError, future: asyncio.Future[None] = future) -> None:
                if future.done():
                    return
                if isinstance(what, EngineError):
                    future.set_exception(what)
                else:
                    future.set_result(None)

            self.load(name, arrived)
            await future
        user.used = True
        return user

    async def gathered(self) -> None:
        """Wait for those who are being brought into memory, so that what waits for them is on its way too."""
        for name in list(self._wanted):
            with suppress(EngineError):
                await self.user(name)

    def abandon(self) -> None:
        """The engine closes: who still waits for a user will wait no longer."""
        wanted, self._wanted = self._wanted, {}
        for then in [each for waiting in wanted.values() for each in waiting]:
            then(EngineError("the engine is closed"))

    def _ask(self) -> None:
        names, self._fresh = self._fresh, []
        self.reader.ask(lambda connection: load(connection, names)).add_done_callback(
            lambda future: self._arrived(names, future)
        )

    def _arrived(self, names: list[str], future: asyncio.Future[list[User]]) -> None:
        error = future.exception()
        if error is not None:
            failure = error if isinstance(error, EngineError) else EngineError(str(error))
            for name in names:
                for then in self._wanted.pop(name, ()):
                    then(failure)
            return
        for user in future.result():
            self.users[user.name] = user
            for then in self._wanted.pop(user.name, ()):
                then(user)
