"""The phone of a case: `python -m tests.hostile.device OPTIONS`, a client that talks all the time (`talk`).

OPTIONS is JSON: `points`, `keys` and `token` as `imcore.Client` takes them, `authority`, whom to trust in TLS,
`folder`, for its files, what `Talk` takes, `crowd`, how many others there are in this process, and `nat_s`: it has been
on this network before, and has found out that it forgets after so long.
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
from imcore.ways.memory import Memory
from imcore.ways.network import current
from imcore.ways.still import MOST_S, USUAL_S, Still

from .talk import Talk, say

__all__: list[str] = []

SETTLE_S = 15.0
"""How long what was confirmed may take to come back, when nothing more is sent."""
CROWD_EVERY_S = 1.0


class Voice:
    """One client, and what it says and hears. who: of the crowd, "" = the phone itself."""

    def __init__(self, im: Client, who: str = "") -> None:
        self._im = im
        self._of = who and f"@{who}"
        self.missing: set[str] = set()
        """Confirmed, and not come back yet."""
        self.through = asyncio.Event()
        """Something was confirmed."""
        self._echoed: set[str] = set()

    async def send(self, number: int, text: str) -> None:
        say(f"sent{self._of}", number)
        try:
            await self._im.send("echo", text.encode(), timeout=None)
        except Refused as error:
            say(f"refused{self._of}", number, error)
        except Unknown as error:
            say(f"unknown{self._of}", number, error)
        else:
            say(f"confirmed{self._of}", number)
            self.through.set()
            self.missing.update({str(number)} - self._echoed)

    async def hear(self) -> None:
        async for message in self._im:
            assert isinstance(message, Message)
            if message.gap is not None:
                say(f"gap{self._of}", message.gap)
            text = message.body.decode().rstrip()
            say(f"{message.route}{self._of}", text)
            if message.route == "echo":
                self._echoed.add(text)
                self.missing.discard(text)


async def main(options: dict[str, Any]) -> None:
    """Until nobody listens any more."""
    folder, crowd, nat_s = options.pop("folder"), options.pop("crowd", 0), options.pop("nat_s", 0.0)
    tls = ssl.create_default_context(cafile=options.pop("authority"))
    talk = Talk(**{name: options.pop(name) for name in ("every_s", "size", "at_once")})
    memory = Memory(f"{folder}/memory")
    if nat_s:
        memory.network(str(current()))
        memory.keep_still("", found_out(nat_s))

    def stated(state: State, sentence: str) -> None:
        say("state", state.name, sentence)

    async def member(who: str, over: asyncio.Event, begin: asyncio.Event) -> None:
        await begin.wait()
        async with asyncio.TaskGroup() as tasks, Client(tls=tls, device="phone", **{**options, "token": who}) as im:
            voice = Voice(im, who)
            hearing = tasks.create_task(voice.hear())
            for number in itertools.count(1):
                await talk.loud.wait()
                if over.is_set():
                    break
                await voice.send(number, str(number))
                with suppress(TimeoutError):
                    await asyncio.wait_for(over.wait(), CROWD_EVERY_S)
            await settle(voice)
            hearing.cancel()

    files: dict[str, Any] = {"state": f"{folder}/state", "outbox": f"{folder}/outbox", "memory": memory}
    say("start")
    over = asyncio.Event()
    async with asyncio.TaskGroup() as tasks, Client(on_state=stated, tls=tls, device="phone", **files, **options) as im:
        voice = Voice(im)
        hearing = tasks.create_task(voice.hear())
        for number in range(crowd):
            tasks.create_task(member(str(number + 1), over, voice.through))
        async with asyncio.TaskGroup() as sending:
            async for number in talk.numbers():
                sending.create_task(voice.send(number, talk.text(number)))
        over.set()
        await settle(voice)
        hearing.cancel()


async def settle(voice: Voice) -> None:
    """Until all that was confirmed has come back, or too long has gone by."""
    with suppress(TimeoutError):
        async with asyncio.timeout(SETTLE_S):
            while voice.missing:  # noqa: ASYNC110 - it is two lines, and nothing hangs on it
                await asyncio.sleep(0.05)


def found_out(nat_s: float) -> Still:
    """What the client's own search comes to on a network that forgets after so long."""
    now, still = time.time(), Still()
    while (seconds := still.next_s(USUAL_S, MOST_S, now)) is not None:
        still = still.held(seconds) if seconds < nat_s else still.broke(seconds, now)
    return still


if __name__ == "__main__":
    uvloop.run(main(json.loads(sys.argv[1])))
