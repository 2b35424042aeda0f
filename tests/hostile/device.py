"""The phone of a case: `python -m tests.hostile.device OPTIONS`, a client that talks all the time and notes when.

OPTIONS is JSON: `points` and what else `imcore.Client` takes, `authority`, whom to trust in TLS, and `every_s`, how
often it sends. It sends rising numbers to `echo` and prints lines: the clock (monotonic, seconds, of the machine),
what happened, a word about it: `start`, `state OPEN sentence`, `sent 3`, `confirmed 3`, `refused 3`, `echo 3`, `news
17`, `gap`. It ends with its input.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import ssl
import sys
import time
from contextlib import suppress
from typing import Any

import uvloop

from imcore import Client, Message, Refused, State, Unknown

SETTLE_S = 15.0
"""How long what was confirmed may take to come back, when nothing more is sent."""


def say(what: str, *words: object) -> None:
    """One line, at once."""
    print(f"{time.monotonic():.4f}", what, *words, flush=True)


async def main(options: dict[str, Any]) -> None:
    """Until nobody listens any more."""
    every_s = options.pop("every_s", 0.25)
    tls = ssl.create_default_context(cafile=options.pop("authority"))
    missing: set[str] = set()
    """Confirmed, and not come back yet."""
    echoed: set[str] = set()
    stop = asyncio.Event()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def send(im: Client, number: int) -> None:
        say("sent", number)
        try:
            await im.send("echo", b"%d" % number, timeout=None)
        except Refused as error:
            say("refused", number, error)
        except Unknown as error:
            say("unknown", number, error)
        else:
            say("confirmed", number)
            missing.update({str(number)} - echoed)

    async def talk(im: Client, sending: asyncio.TaskGroup) -> None:
        for number in itertools.count(1):
            if stop.is_set():
                return
            sending.create_task(send(im, number))
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), every_s)

    async def hear(im: Client) -> None:
        async for message in im:
            assert isinstance(message, Message)
            if message.gap is not None:
                say("gap", message.gap)
            say(message.route, message.body.decode())
            if message.route == "echo":
                echoed.add(message.body.decode())
                missing.discard(message.body.decode())

    def stated(state: State, sentence: str) -> None:
        say("state", state.name, sentence)

    say("start")
    async with asyncio.TaskGroup() as tasks, Client(on_state=stated, tls=tls, **options) as im:
        hearing = tasks.create_task(hear(im))
        async with asyncio.TaskGroup() as sending:
            talking = sending.create_task(talk(im, sending))
            await reader.read()  # until the input ends
            stop.set()
            await talking
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                while missing:  # noqa: ASYNC110 - it is two lines, and nothing hangs on it
                    await asyncio.sleep(0.05)
        hearing.cancel()


if __name__ == "__main__":
    uvloop.run(main(json.loads(sys.argv[1])))
