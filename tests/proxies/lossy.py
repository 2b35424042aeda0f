"""A run of exchanges through a network that loses, doubles and delays requests and answers, and what became of every
message: `python -m tests.proxies.lossy [EXCHANGES [SEED]]`."""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import uvloop

from imcore import Node, Uplink
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


async def _device(proxy: Loses, name: str, exchanges: int, tally: Tally) -> None:
    """Send and receive until the network has seen enough exchanges, and then until all is there."""
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


async def lossy(data: Path, exchanges: int, seed: int) -> Figures:
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
                group.create_task(_device(proxy, name, exchanges, tally))
        for sent, heard, taken in tallies.values():
            figures.sent += len(sent)
            figures.judge(sent, heard)
            figures.judge(sent, taken)
        figures.exchanges, figures.happened = proxy.exchanges, proxy.happened
    figures.seconds = time.monotonic() - began
    return figures


def main() -> int:
    exchanges = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        figures = uvloop.run(lossy(Path(folder), exchanges, seed))
    print(figures)
    return int(bool(figures.lost or figures.doubled or figures.reordered))


if __name__ == "__main__":
    sys.exit(main())
