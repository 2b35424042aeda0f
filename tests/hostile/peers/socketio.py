"""Socket.IO: python-socketio's client, which begins with polling and goes over to WebSocket, and connects again by
itself: `python -m tests.hostile.peers.socketio HOST TALK`. Messages are answered, and sent again when they were not.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress

import socketio

from ..talk import Talk, say

__all__: list[str] = []

ANSWER_S = 10.0
SETTLE_S = 5.0


async def main(host: str, talk: Talk) -> None:
    """Until its input ends."""
    phone = socketio.AsyncClient(reconnection=True)
    phone.on("connect", lambda: say("state", "OPEN"))
    phone.on("disconnect", lambda *reason: say("state", "WAITING", *reason))

    def came(number: str, *offset: object) -> None:  # the offset is what recovery goes by
        say("echo", number.rstrip())
        missing.symmetric_difference_update({int(number)})

    phone.on("echo", came)
    phone.on("news", lambda number, *offset: say("news", number))
    waiting: list[int] = []
    missing: set[int] = set()
    """Confirmed, or come back, and not both."""

    async def speak() -> None:
        """One after the other, so that order holds; what is not answered is sent again."""
        while True:
            while waiting and phone.connected:
                with suppress(socketio.exceptions.TimeoutError, socketio.exceptions.BadNamespaceError):
                    await phone.call("echo", talk.text(waiting[0]), timeout=ANSWER_S)
                    say("confirmed", waiting[0])
                    missing.symmetric_difference_update({waiting.pop(0)})
            await asyncio.sleep(0.02)

    async def enter() -> None:
        while True:
            try:
                await phone.connect(f"http://{host}", retry=False)
                return
            except socketio.exceptions.ConnectionError as error:
                say("state", "WAITING", error)
                await asyncio.sleep(1)

    say("start")
    tasks = [asyncio.create_task(speak()), asyncio.create_task(enter())]
    async for number in talk.numbers():
        say("sent", number)
        waiting.append(number)
    with suppress(TimeoutError):
        async with asyncio.timeout(SETTLE_S):
            while waiting or missing:  # noqa: ASYNC110 - it is two lines, and nothing hangs on it
                await asyncio.sleep(0.05)
    for task in tasks:
        task.cancel()
    await phone.disconnect()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Talk(**json.loads(sys.argv[2]))))
