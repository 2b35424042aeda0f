"""A run of exchanges through a network that loses, doubles and delays requests and answers, and what became of every
message: `python -m tests.proxies.lossy [--device] [EXCHANGES [SEED]]`. The devices are imcore's clients; or, with
`--device`, written against the wire alone."""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import uvloop

from imcore import Client, Node, Uplink
from tests.proxies.device import Device
from tests.proxies.simulated import Faults, Loses

__all__ = ["Figures", "lossy"]

DEVICES = 40
ROUND = 20  # messages that a device sends before it looks whether it is enough
BATCH = 4


@dataclass
class Figures:
    """What happened. sent: messages, each of which came back down."""

    exchanges: int = 0
    sent: int = 0
    lost: int = 0
    doubled: int = 0
    reordered: int = 0
    seconds: float = 0.0
    happened: dict[str, int] | None = None

    def __str__(self) -> str:
        faults = ", ".join(f"{name} {count:,}" for name, count in (self.happened or {}).items())
        return (
            f"{self.exchanges:,} exchanges in {self.seconds:.0f} s ({faults}); "
            f"{self.sent:,} messages up and down again: "
            f"{self.lost} lost, {self.doubled} doubled, {self.reordered} reordered"
        )

    def judge(self, sent: list[bytes], came: list[bytes]) -> None:
        """Count what is wrong with what came, on one leg of one device."""
        self.lost += len(set(sent) - set(came))
        self.doubled += len(came) - len(set(came))
        once = list(dict.fromkeys(came))
        self.reordered += sum(int(earlier) > int(later) for earlier, later in pairwise(once))


class Tally(NamedTuple):
    """What one device sent, and what came of it: at the service, and back at the device."""

    sent: list[bytes]
    heard: list[bytes]
    taken: list[bytes]


def _round(sent: list[bytes]) -> list[bytes]:
    """The next messages of a device."""
    return [b"%d" % number for number in range(len(sent) + 1, len(sent) + 1 + ROUND)]


Drive = Callable[[Loses, str, int, Tally], Coroutine[None, None, None]]
"""Sends and receives until the network has seen enough exchanges, and then until all is there."""


async def by_client(proxy: Loses, name: str, exchanges: int, tally: Tally) -> None:
    """With imcore's client, which looks after itself."""
    level = asyncio.Event()  # what was sent has come back

    async def take() -> None:
        async for message in im:
            tally.taken.append(message.body)
            if len(tally.taken) >= len(tally.sent):
                level.set()

    async with Client([f"http://127.0.0.1:{proxy.port}"], name, "phone") as im, asyncio.TaskGroup() as group:
        taking = group.create_task(take())
        while proxy.exchanges < exchanges:
            for _ in range(ROUND // BATCH):
                bodies = [b"%d" % (len(tally.sent) + number) for number in range(1, BATCH + 1)]
                tally.sent.extend(bodies)
                level.clear()
                await asyncio.gather(*(im.send("note", body, timeout=None) for body in bodies))
        await level.wait()
        taking.cancel()


async def by_device(proxy: Loses, name: str, exchanges: int, tally: Tally) -> None:
    """By the wire alone."""
    device = Device(name, proxy.port, patience=1.0)
    over = False

    async def send() -> None:
        nonlocal over
        while proxy.exchanges < exchanges:
            bodies = _round(tally.sent)
            await device.send(bodies, len(tally.sent) + 1, BATCH)
            tally.sent.extend(bodies)
        over = True

    async with asyncio.TaskGroup() as group:
        group.create_task(send())
        group.create_task(device.poll(lambda: over and len(device.taken) >= len(tally.sent), 500))
    tally.taken.extend(device.taken)


async def lossy(data: Path, exchanges: int, seed: int, drive: Drive = by_client) -> Figures:
    """At least so many exchanges of several devices, each of which gets back what it sends."""
    figures = Figures()
    tallies = {f"user{number}": Tally([], [], []) for number in range(DEVICES)}
    began = time.monotonic()
    node = Node(listen=["127.0.0.1:0"], data=data)

    @node.service.on("note")
    async def echo(message: Uplink) -> Awaitable[int]:
        tallies[message.user].heard.append(message.body)
        return node.service.push(message.user, "note", message.body, key=message.key)

    async with node:
        port = int(node.addresses[0].rpartition(":")[2])
        async with Loses(port, Faults(), seed) as proxy, asyncio.TaskGroup() as group:
            for name, tally in tallies.items():
                group.create_task(drive(proxy, name, exchanges, tally))
        for sent, heard, taken in tallies.values():
            figures.sent += len(sent)
            figures.judge(sent, heard)
            figures.judge(sent, taken)
        figures.exchanges, figures.happened = proxy.exchanges, proxy.happened
    figures.seconds = time.monotonic() - began
    return figures


def main() -> int:
    numbers = [int(each) for each in sys.argv[1:] if each != "--device"]
    drive = by_device if "--device" in sys.argv else by_client
    exchanges = numbers[0] if numbers else 100_000
    seed = numbers[1] if len(numbers) > 1 else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        figures = uvloop.run(lossy(Path(folder), exchanges, seed, drive))
    print(figures)
    return int(bool(figures.lost or figures.doubled or figures.reordered))


if __name__ == "__main__":
    sys.exit(main())
