"""WebSocket: the `websockets` library, whose client connects again by itself (`async for … in connect(…)`).

`python -m tests.hostile.peers.bare serve FILE` and `… device HOST EVERY_S`. It has no acknowledgements: the echo is
one.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from contextlib import suppress
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from ..device import say
from ..node import NEWS_S, last

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
            for connection in list(here):
                with suppress(ConnectionClosed):
                    await connection.send(f"news {number}")
            told.write_text(str(number))  # noqa: ASYNC240 - a few bytes


async def device(host: str, every_s: float) -> None:
    """Until its input ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def talk(connection: ClientConnection, numbers: itertools.count[int]) -> None:
        while True:
            number = next(numbers)
            say("sent", number)
            await connection.send(str(number))
            await asyncio.sleep(every_s)

    async def stay() -> None:
        numbers = itertools.count(1)
        async for connection in connect(f"ws://{host}"):
            say("state", "OPEN")
            talking = asyncio.create_task(talk(connection, numbers))
            try:
                async for text in connection:
                    what, number = str(text).split()
                    say(what, number)
                    if what == "echo":
                        say("confirmed", number)
            except ConnectionClosed as error:
                say("state", "WAITING", error)
            talking.cancel()
            with suppress(asyncio.CancelledError, ConnectionClosed):
                await talking

    say("start")
    staying = asyncio.create_task(stay())
    await reader.read()
    staying.cancel()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(server(Path(sys.argv[2])))
    else:
        asyncio.run(device(sys.argv[2], float(sys.argv[3])))
