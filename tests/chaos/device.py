"""A device of a chaos run, in a process of its own: `python -m tests.chaos.device POINT USER DEVICE FOLDER`.

Lines of JSON on standard input: {"send": number, "to": user}, {"read": bool} (whether the application takes messages),
{"leave": true}. Lines on standard output: `READY`; `C number` when a message was confirmed, `R number` refused,
`U number` unknown; `H sender number` for each message that the application is shown.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import uvloop

from imcore import Client, Message, Refused, Settled, Unknown


def say(*words: object) -> None:
    """One line, at once and whole."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def main(point: str, user: str, device: str, folder: str) -> None:
    """Do as told."""
    reading = asyncio.Event()
    reading.set()
    orders: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    def settled(what: Settled) -> None:
        number = json.loads(what.body)["number"]
        say("C" if what.error is None else "R" if isinstance(what.error, Refused) else "U", number)

    async def listen() -> None:
        while line := await reader.readline():
            order = json.loads(line)
            if "read" in order:
                reading.set() if order["read"] else reading.clear()
            else:
                orders.put_nowait(order)

    async def send(im: Client, order: dict[str, Any]) -> None:
        body = json.dumps({"to": order["to"], "number": order["send"]}).encode()
        try:
            await im.send("letter", body, timeout=order.get("timeout"))
        except Refused:
            say("R", order["send"])
        except Unknown:
            say("U", order["send"])
        else:
            say("C", order["send"])

    async def hear(im: Client) -> None:
        async for message in im:
            assert isinstance(message, Message)
            said = json.loads(message.body)
            if message.gap is not None:
                say("G", message.gap)
            say("H", said["sender"], said["number"])
            await reading.wait()

    files = f"{folder}/{user}-{device}"
    async with asyncio.TaskGroup() as tasks:
        listening = tasks.create_task(listen())
        async with Client(
            [point], user, device, state=f"{files}.state", outbox=f"{files}.outbox", on_settled=settled
        ) as im:
            say("READY")
            hearing = tasks.create_task(hear(im))
            sending: set[asyncio.Task[None]] = set()
            while "leave" not in (order := await orders.get()):
                task = tasks.create_task(send(im, order))
                sending.add(task)
                task.add_done_callback(sending.discard)
                await asyncio.sleep(0)  # sends in the order of the orders
        hearing.cancel()
        listening.cancel()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:5]))
