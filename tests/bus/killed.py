"""A process that is meant to be killed: devices send, a service pushes to one inbox, and every promise is printed.

`python killed.py FOLDER`. Lines: `A device id` when a message was confirmed, `P seq key` when a push was durable.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop

from imcore.bus.embedded import EmbeddedBus, fold
from imcore.bus.ports import Uplink
from imcore.messages import Refusal
from imcore.service import Service

DEVICES = 8
WINDOW = 20


class Sender:
    """A device that always has a window of messages on the way."""

    def __init__(self, bus: EmbeddedBus, device: str, accepted: int) -> None:
        self.bus, self.device, self.next = bus, device, accepted

    def send(self) -> None:
        """The next number."""
        self.next += 1
        self.bus.queue.put(Uplink("alice", self.device, self.next, "note", b"%d" % self.next), self)

    def objection(self) -> Refusal | None:
        """None."""
        return None

    def answered(self, id: int, refusal: Refusal | None) -> None:
        """Say so, and go on."""
        assert refusal is None, refusal
        sys.stdout.write(f"A {self.device} {id}\n")
        asyncio.get_running_loop().call_soon(self.send)


async def main(folder: str) -> None:
    """Run until killed."""
    bus = EmbeddedBus(folder, inbox_count=10**9, inbox_size=1 << 40)
    await bus.start()
    service = Service(bus)

    @service.on("note")
    async def note(message: Uplink) -> None:
        seq = await service.push("bob", "note", message.key.encode(), key=message.key)
        sys.stdout.write(f"P {seq} {message.key}\n")

    await service.start()
    for n in range(DEVICES):
        opening = await bus.inbox.open("alice", f"device{n}", None, "oldest", down=False)
        sender = Sender(bus, f"device{n}", opening.accepted)
        for _ in range(WINDOW):
            sender.send()
    sys.stdout.write("READY\n")
    while True:
        sys.stdout.flush()
        await asyncio.sleep(0.001)


if __name__ == "__main__":
    fold.PASS_S = 0.02  # passes to the tables are what a kill shall hit too
    uvloop.run(main(sys.argv[1]))
