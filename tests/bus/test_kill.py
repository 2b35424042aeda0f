"""Killed with SIGKILL at random moments: nothing that was confirmed is missing, nothing is doubled or out of order."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from imcore.bus.embedded import EmbeddedBus
from imcore.bus.embedded.audit import audit
from imcore.bus.ports import Uplink
from imcore.service import Service
from tests.bus.engines import run, until

ROUNDS = int(os.environ.get("KILLS", "10"))
PROGRAM = Path(__file__).with_name("killed.py")


def round_of(folder: Path, alive_s: float) -> list[list[str]]:
    """Start, let it work for so long, kill; what it promised."""
    process = subprocess.Popen([sys.executable, str(PROGRAM), str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline(), "it did not start"
    # What it prints does not fit into the pipe: read all the time, or it would wait for us.
    lines: list[str] = []
    deadline = time.monotonic() + alive_s
    while time.monotonic() < deadline:
        lines.append(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read()
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    lines += rest.splitlines(keepends=True)
    return [line.split() for line in lines if line.endswith("\n")]


@pytest.mark.timeout(120 + 3 * ROUNDS)
def test_killed_at_random_moments_it_keeps_every_promise(tmp_path: Path) -> None:
    dice = random.Random()
    confirmed: dict[str, int] = {}
    epochs: set[str] = set()
    pushed: dict[int, str] = {}
    for _ in range(ROUNDS):
        for line in round_of(tmp_path, dice.uniform(0.02, 0.4)):
            if line[0] == "A":
                device, id = line[1], int(line[2])
                assert id > confirmed.get(device, 0), "confirmed twice, or out of order"
                confirmed[device] = id
            elif line[0] == "P":
                seq, key = int(line[1]), line[2]
                assert pushed.setdefault(seq, key) == key, "one number, two messages"
        assert audit(tmp_path).faults == []
        with closing(sqlite3.connect(tmp_path / "imcore.db")) as connection:
            epochs.add(connection.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchone()[0])
    assert len(epochs) == 1
    assert len(confirmed) == 8
    assert pushed

    async def look() -> None:
        bus = EmbeddedBus(tmp_path, inbox_count=10**9, inbox_size=1 << 40)
        await bus.start()
        service = Service(bus)

        @service.on("note")
        async def note(message: Uplink) -> None:
            await service.push("bob", "note", message.key.encode(), key=message.key)

        await service.start()
        await until(lambda: not bus.queue.unsettled, "what was left to be handled", 60)
        inbox: list[str] = []
        while part := await bus.inbox.read("bob", len(inbox), 1000, 1 << 20):
            assert [m.seq for m in part] == list(range(len(inbox) + 1, len(inbox) + 1 + len(part)))
            inbox += [m.body.decode() for m in part]
        for seq, key in pushed.items():
            assert inbox[seq - 1] == key
        for device, highest in confirmed.items():
            numbers = [int(key.rsplit("/", 1)[1]) for key in inbox if f"/{device}/" in key]
            assert numbers == list(range(1, len(numbers) + 1)), f"{device}: missing, doubled or out of order"
            assert len(numbers) >= highest, f"{device}: {highest} was confirmed, the inbox has {len(numbers)}"
        await service.close()
        await bus.close()

    run(look())
    assert audit(tmp_path).faults == []
