"""Messages of many users through one engine, as devices and a service have them go, whatever happens to its Redis."""

from __future__ import annotations

import asyncio

from imcore.bus.ports import Uplink
from imcore.bus.redis import RedisBus
from imcore.errors import EngineError
from tests.bus.engines import Link, Taker, until, uplink

__all__ = ["Flow"]

AGAIN_S = 0.02


class Flow:
    """A device sends the next when the one before is durable, and a refused one again. What comes out is put into the
    sender's inbox, and settled."""

    def __init__(self, bus: RedisBus) -> None:
        self._bus = bus
        self._on = True
        self.users = [f"user {number}" for number in range(12)]
        self.durable = dict.fromkeys(self.users, 0)
        self.stored = dict.fromkeys(self.users, 0)
        self.failed: list[str] = []
        """Why something was not taken, and came again."""

    async def run(self) -> None:
        """Until it is told to end, and all that is durable is in its inbox."""
        taker = Taker().attach(self._bus)
        async with asyncio.TaskGroup() as tasks:
            sending = [tasks.create_task(self._send(user)) for user in self.users]
            while not all(one.done() for one in sending) or self.stored != self.durable:
                messages, taker.messages = taker.messages, []
                await asyncio.gather(*(self._store(message) for message in messages))
                await asyncio.sleep(0.002)

    async def goes_on(self) -> None:
        """Everybody's messages are taken and stored."""
        goal = {user: count + 5 for user, count in self.stored.items()}
        await until(lambda: all(self.stored[user] >= goal[user] for user in goal), "everybody to go on", timeout_s=40)

    def end(self) -> None:
        """No more are sent."""
        self._on = False

    async def _send(self, user: str) -> None:
        link = Link()
        while self._on:
            number, told = self.durable[user] + 1, len(link.answers)
            self._bus.queue.put(uplink(number, user=user), link)
            await until(lambda told=told: len(link.answers) > told, "an answer", timeout_s=40)  # type: ignore[misc]  # mypy can't infer the default
            id, refusal = link.answers[-1]
            assert id == number
            if refusal is None:
                self.durable[user] = number
            else:
                self.failed.append(str(refusal))
                await asyncio.sleep(AGAIN_S)

    async def _store(self, message: Uplink) -> None:
        while True:
            try:
                number = await self._bus.inbox.append(message.user, "chat", message.body, message.key)
            except EngineError as error:
                self.failed.append(str(error))
                await asyncio.sleep(AGAIN_S)
            else:
                assert number == message.id  # none is missing, none is there twice, and they are in order
                self.stored[message.user] = number
                self._bus.queue.settle([message])
                return
