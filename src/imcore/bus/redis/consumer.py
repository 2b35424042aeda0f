"""Takes messages out of the queue for the services of this process.

A shard has one consumer at a time, which holds its lease: so what one device sent is handled in order, whoever else
serves. Who gets a lease first claims what the holder before it left unacknowledged, then reads what is new. A shard
that is given away is given when all that was read from it is settled.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
from redis.asyncio.connection import AbstractConnection

from ..ports import Check, Uplink
from .pipe import Pipe
from .reader import ask, read_forever
from .services import Services

__all__ = ["Consumer"]

LEASE_MS = 3000
BATCH = 512
BLOCK_MS = 500
CROWD = 8192
"""From so many unsettled messages on, no more are read than are settled."""
GROUP = b"services"

log = logging.getLogger("imcore.bus")
_decode = msgspec.msgpack.Decoder(Uplink).decode
_encode = msgspec.msgpack.Encoder().encode


class Consumer:
    """The shards that this process consumes, and what it has not settled of them."""

    def __init__(self, pipe: Pipe, services: Services) -> None:
        self._pipe = pipe
        self._services = services
        self._take: Callable[[Sequence[Uplink]], None] | None = None
        self._routes: Mapping[str, Check | None] = {}
        self._unsettled: dict[str, Uplink] = {}
        self._by_shard: Counter[int] = Counter()
        self._answered: dict[str, list[str]] = {}  # by key: whose inboxes remember it
        self._held: set[int] = set()
        self._fresh: set[int] = set()  # held, and not asked yet for what was left
        self._leaving: set[int] = set()
        self._moved = asyncio.Event()
        self._strange: set[str] = set()

    @property
    def consumes(self) -> bool:
        """A service of this process takes messages."""
        return self._take is not None

    @property
    def unsettled(self) -> int:
        """Messages that were handed over and are not settled."""
        return len(self._unsettled)

    def holds(self, key: str) -> bool:
        """This key is that of a message which was handed over here, and may come again."""
        return key in self._unsettled

    def answered(self, key: str, user: str) -> None:
        """The user's inbox remembers this key until its message is settled."""
        self._answered.setdefault(key, []).append(user)

    def begin(self, routes: Mapping[str, Check | None], take: Callable[[Sequence[Uplink]], None]) -> None:
        """Consume."""
        self._routes, self._take = routes, take
        self.tick()

    def settle(self, messages: Iterable[Uplink]) -> None:
        """They leave the queue."""
        for message in messages:
            if self._leave(message):
                self._pipe.do(self._pipe.keys.shard(message.user), b"settle", (message.entry,))
                for user in self._answered.pop(message.key, ()):
                    self._pipe.do(self._pipe.keys.shard(user), b"forget", (user, message.key))

    def bury(self, message: Uplink, error: str) -> None:
        """It leaves the queue, and is put aside: it may come again, so its key stays remembered."""
        if self._leave(message):
            self._answered.pop(message.key, None)
            args = (message.entry, _encode(message), error)
            self._pipe.do(self._pipe.keys.shard(message.user), b"bury", args)

    def tick(self) -> None:
        """Renew what is held, give up what is too much, ask for what is free."""
        if self._take is None:
            return
        shards = self._pipe.keys.shards
        share = self._services.share(shards)
        staying = sorted(self._held - self._leaving)
        self._leaving.update(staying[share:])
        asked = range(shards) if len(staying) < share else self._held
        for shard in asked:
            self._pipe.do(shard, b"lease", (LEASE_MS,), partial(self._leased, shard))

    def lost(self) -> None:
        """Redis holds another history: what was handed over before is of the old one, and leases begin anew."""
        self._held.clear()
        self._leaving.clear()
        self._unsettled.clear()
        self._by_shard.clear()
        self._answered.clear()

    async def read(self, shards: Sequence[int]) -> None:
        """Read those of these shards that are held, until cancelled. In a cluster they are one."""
        await read_forever(partial(self._pipe.connect, shards[0]), partial(self._read, shards))

    def close(self) -> None:
        """Give up every shard; what is not settled comes to whoever holds it next."""
        self._take = None
        for shard in self._held:
            self._pipe.do(shard, b"unlease", ())
        self._held.clear()

    def _leased(self, shard: int, result: Any) -> None:
        if isinstance(result, Exception) or self._take is None:
            return
        if not result:
            self._held.discard(shard)
            self._leaving.discard(shard)
        elif shard not in self._held:
            if len(self._held - self._leaving) >= self._services.share(self._pipe.keys.shards):
                self._pipe.do(shard, b"unlease", ())
                return
            self._held.add(shard)
            self._fresh.add(shard)
            self._moved.set()

    async def _read(self, shards: Sequence[int], connection: AbstractConnection) -> None:
        self._fresh.update(self._held.intersection(shards))  # what the last connection was told may be lost
        while True:
            for shard in self._leaving.intersection(shards):
                self._hand_over(shard)
            held = sorted(self._held.intersection(shards) - self._leaving)
            if not held or len(self._unsettled) > CROWD:
                self._moved.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._moved.wait(), BLOCK_MS / 1000)
                continue
            for shard in self._fresh.intersection(held):
                await self._claim(shard, connection)
                self._fresh.discard(shard)
            names = [self._pipe.keys.queue(shard) for shard in held]
            found = await ask(
                connection, b"XREADGROUP", b"GROUP", GROUP, self._pipe.client, b"COUNT", BATCH, b"BLOCK", BLOCK_MS,
                b"STREAMS", *names, *[b">"] * len(names),
            )  # fmt: skip
            for name, entries in found or ():
                self._came(held[names.index(name)], entries)

    async def _claim(self, shard: int, connection: AbstractConnection) -> None:
        """What is pending was read by who held the lease before, and is theirs no longer."""
        after = b"0-0"
        while True:
            after, entries, *_ = await ask(
                connection, b"XAUTOCLAIM", self._pipe.keys.queue(shard), GROUP, self._pipe.client, 0, after,
                b"COUNT", BATCH,
            )  # fmt: skip
            self._came(shard, entries)
            if after == b"0-0":
                return

    def _came(self, shard: int, entries: Sequence[Any]) -> None:
        messages = []
        for entry, fields in entries:
            if not fields:
                continue
            message = _decode(fields[1])
            message.entry = int(entry.partition(b"-")[0])
            held = self._unsettled.get(message.key)
            if held is not None and held.entry == message.entry:
                continue  # it is being handled
            if message.route not in self._routes:
                self._left_waiting(message.route)
                continue
            self._unsettled[message.key] = message
            self._by_shard[shard] += 1
            messages.append(message)
        if messages and self._take is not None:
            self._take(messages)

    def _left_waiting(self, route: str) -> None:
        """Another version of the service knows this route: its messages wait until that one holds the shard."""
        if route not in self._strange:
            self._strange.add(route)
            log.warning("messages of route %r wait for a service that knows it: nobody here does", route)

    def _leave(self, message: Uplink) -> bool:
        known = self._unsettled.get(message.key)
        if known is None or known.entry != message.entry:
            return False
        del self._unsettled[message.key]
        shard = self._pipe.keys.shard(message.user)
        self._by_shard[shard] -= 1
        if len(self._unsettled) == CROWD or (shard in self._leaving and not self._by_shard[shard]):
            self._moved.set()
        return True

    def _hand_over(self, shard: int) -> None:
        """Give the shard up if nothing of it is on its way to a handler."""
        if not self._by_shard[shard]:
            self._leaving.discard(shard)
            self._held.discard(shard)
            self._pipe.do(shard, b"unlease", ())
