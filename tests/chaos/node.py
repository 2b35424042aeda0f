"""The node of a chaos run, in a process that is killed without warning: `python -m tests.chaos.node DATA`.

Lines of JSON on standard input make it misbehave: {"clock": seconds} sets the wall clock off by so much; {"handler":
"raise" | "die" | "slow", "count": n} has its handler fail n times, die with the process between push and return, or
take its time. CHAOS_MUTATION (see `mutations`) breaks it on purpose. It prints `READY PORT`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from typing import Any

import msgspec
import uvloop

from imcore import Config, Node, Uplink
from imcore.bus.embedded import fold
from imcore.bus.redis import consumer, services
from imcore.config import Auth, Bus, Limits
from imcore.config import Node as NodeConfig

from .mutations import mutate


class Letter(msgspec.Struct):
    """What devices say to each other."""

    to: str
    number: int
    sender: str = ""


class Clock:
    """The wall clock, which may be set."""

    def __init__(self) -> None:
        self.off_s = 0.0
        self._real, self._real_ns = time.time, time.time_ns
        time.time, time.time_ns = self.time, self.time_ns

    def time(self) -> float:
        """Seconds since 1970, or what it takes for that."""
        return self._real() + self.off_s

    def time_ns(self) -> int:
        """The same in nanoseconds."""
        return self._real_ns() + int(self.off_s * 1e9)


async def main(data: str) -> None:
    """Serve until killed."""
    logging.basicConfig(filename=f"{data}.log")  # its handlers fail on purpose: that is no news
    clock = Clock()
    faults: dict[str, int] = {}
    node = Node(
        Config(
            node=NodeConfig(name="chaos", data=data),
            auth=Auth(mode="anonymous"),
            bus=Bus(engine="redis", url=url) if (url := os.environ.get("CHAOS_REDIS", "")) else Bus(),
            limits=Limits(heartbeat=(1, 2), drain_s=0.2, spread_s=0.1),
        ),
        listen=["127.0.0.1:0"],
    )
    node.service._tries = msgspec.structs.replace(node.service._tries, most=1000, pause_s=0.01)

    @node.service.on("letter")
    async def letter(message: Uplink) -> asyncio.Future[int]:
        said = msgspec.json.decode(message.body, type=Letter)
        if _take(faults, "raise"):
            raise RuntimeError("a handler that fails")
        if _take(faults, "slow"):
            await asyncio.sleep(0.3)
        said.sender = f"{message.user}/{message.device}"
        pushed = node.service.push(said.to, "letter", msgspec.json.encode(said), key=message.key)
        if _take(faults, "die"):
            await pushed
            os.kill(os.getpid(), signal.SIGKILL)
        return pushed

    async with node:
        print("READY", node.addresses[0].rpartition(":")[2], flush=True)
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            order: dict[str, Any] = json.loads(line)
            if "clock" in order:
                clock.off_s = order["clock"]
            else:
                faults[order["handler"]] = order["count"]


def _take(faults: dict[str, int], name: str) -> bool:
    if not faults.get(name):
        return False
    faults[name] -= 1
    return True


if __name__ == "__main__":
    fold.PASS_S = 0.2  # passes to the tables are what a kill shall hit too
    consumer.LEASE_MS = services.SERVE_MS = 1500  # nobody need wait long for what a killed node held
    mutate(os.environ.get("CHAOS_MUTATION", ""))
    uvloop.run(main(sys.argv[1]))
