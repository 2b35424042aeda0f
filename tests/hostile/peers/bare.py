"""WebSocket: the `websockets` library, whose client connects again by itself (`async for … in connect(…)`).

`python -m tests.hostile.peers.bare serve FILE` and `… device HOST TALK`. It has no acknowledgements: the echo is
one.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from contextlib import suppress
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from ..node import NEWS_S, last, quiet
from ..talk import Talk, say

__all__: list[str] = []


async def server(told: Path) -> None:
    """Until killed. told: keeps the number of the last news over its deaths."""
    here: set[ServerConnection] = set()

    async def talk(connection: ServerConnection) -> None:
        here.add(connection)
        try:
            async for text in connection:
                await connection.send(f"echo {text!s}")
        finally:
            here.discard(connection)

    async with serve(talk, "0.0.0.0", 80):
        print("READY", flush=True)
        for number in itertools.count(last(told) + 1):
            await asyncio.sleep(NEWS_S)
            while quiet(told):  # noqa: ASYNC110 - it is a file
                await asyncio.sleep(NEWS_S)
            for connection in list(here):
                with suppress(ConnectionClosed):
                    await connection.send(f"news {number}")
            told.write_text(str(number))  # noqa: ASYNC240 - a few bytes


async def device(host: str, talk: Talk) -> None:
    """Until its input ends. Of what is said while there is no connection the newest is sent when there is one; nothing
    keeps the rest."""
    here: ClientConnection | None = None
    newest: int | None = None

    async def send() -> None:
        nonlocal newest
        if here is not None and newest is not None:
            number, newest = newest, None
            say("sent", number)
            with suppress(ConnectionClosed):
                await here.send(talk.text(number))

    async def stay() -> None:
        nonlocal here
        async for connection in connect(f"ws://{host}"):
            say("state", "OPEN")
            here = connection
            await send()
            try:
                async for text in connection:
                    what, number = str(text).split()
                    say(what, number)
                    if what == "echo":
                        say("confirmed", number)
            except ConnectionClosed as error:
                say("state", "WAITING", error)
            here = None

    say("start")
    staying = asyncio.create_task(stay())
    async for number in talk.numbers():
        newest = number
        await send()
    staying.cancel()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(server(Path(sys.argv[2])))
    else:
        asyncio.run(device(sys.argv[2], Talk(**json.loads(sys.argv[3]))))
