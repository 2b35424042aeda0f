"""A node's engine on a disk that fails for a while: `python faulty.py FOLDER ERRNO`, with `fault.c` preloaded.

Prints JSON: what was answered before, while and after the disk failed.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import uvloop

from imcore.bus.embedded import EmbeddedBus
from imcore.errors import EngineError
from tests.bus.engines import Link, Taker, until, uplink


async def main(folder: str, number: str) -> dict[str, Any]:
    """The scenario."""
    fault = Path(os.environ["FAULT"])

    def fails(on: bool) -> None:
        if on:
            fault.write_text(number)
        else:
            fault.unlink()

    bus = EmbeddedBus(folder)
    await bus.start()
    taker, link = Taker().attach(bus), Link()
    await bus.inbox.open("bob", "phone", None, "oldest")
    bus.queue.put(uplink(1), link)
    await bus.inbox.append("bob", "chat", b"before")
    await until(lambda: len(link.answers) == 1)
    fails(True)
    bus.queue.put(uplink(2), link)
    try:
        await bus.inbox.append("bob", "chat", b"while", "key")
        told = "appended"
    except EngineError as error:
        told = str(error)
    await until(lambda: len(link.answers) == 2)
    kept = [message.body.decode() for message in await bus.inbox.read("bob", 0, 9, 999)]
    heard: list[bytes] = []
    bus.push.attach("other", lambda wakes: None, lambda room, body: heard.append(body))
    await bus.push.broadcast("room", b"x")
    fails(False)
    bus.queue.put(uplink(2), link)
    seq = await bus.inbox.append("bob", "chat", b"while", "key")
    await until(lambda: len(link.answers) == 3)
    await bus.close()
    answers = [(id, None if refusal is None else refusal.retry_ms) for id, refusal in link.answers]
    handed = [message.id for message in taker.messages]
    return {"answers": answers, "handed": handed, "told": told, "kept": kept, "rooms": len(heard), "seq": seq}


if __name__ == "__main__":
    print(json.dumps(uvloop.run(asyncio.wait_for(main(*sys.argv[1:3]), 40))))
