"""Both ends of a network that forgets, hastened so that a test can wait: `python -m tests.hostile.learning gateway
FOLDER`, and `… phone ADDRESS`, which finds out what it forgets, and prints that, and how its link fared.

The gateway wants signs of life every second to every 12, and speaks to nobody first.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop

from imcore import Client, Config, Node, State
from imcore.client import spare
from imcore.config import Limits, Listen
from imcore.config import Node as NodeConfig
from imcore.ways import probe
from imcore.ways.memory import Memory
from imcore.ways.network import current
from imcore.ways.still import Still

__all__: list[str] = []

BOUNDS = 1, 12


async def gateway(folder: str) -> None:
    """Serve until killed."""
    config = Config(
        node=NodeConfig(name="gateway", data=folder),
        listen=[Listen(address="0.0.0.0:80")],
        limits=Limits(heartbeat=BOUNDS),
    )
    async with Node(config, authenticate=lambda token: token) as node:
        print("READY", flush=True)
        await node.serve_forever()


class Telling(Memory):
    """changed: set when something was found out."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = asyncio.Event()

    def keep_still(self, proxy: str, still: Still) -> None:
        super().keep_still(proxy, still)
        self.changed.set()


async def phone(address: str) -> None:
    """Print `what holds` and `what breaks`, and the states of the link meanwhile."""
    spare.SETTLE_S, probe.LATE_S = 0.1, 0.7
    memory, states = Telling(), list[str]()
    memory.network(str(current()))
    memory.keep_still("", Still(holds_s=BOUNDS[0]))

    def stated(state: State, text: str) -> None:
        states.append(state.name)

    async with Client([address], "phone", "phone", memory=memory, on_state=stated):
        while (still := memory.still("")).next_s(*BOUNDS, 0.0) is not None:
            memory.changed.clear()
            await memory.changed.wait()
        print(still.holds_s, still.breaks_s, *states, flush=True)


if __name__ == "__main__":
    uvloop.run(gateway(sys.argv[2]) if sys.argv[1] == "gateway" else phone(sys.argv[2]))
