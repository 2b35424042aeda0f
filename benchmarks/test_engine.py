"""The embedded engine and the service, without a gateway: put, fsync, answer, handler, append, fsync, wake, taken.

`extra_info` has the figures: messages a second, microseconds of processor time a message (all threads), and how late
the loop was meanwhile. For one core: `taskset -c 0 pytest benchmarks/test_engine.py`.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import uvloop
from pytest_benchmark.fixture import BenchmarkFixture

from imcore import chat_service
from imcore.bus.embedded import EmbeddedBus
from imcore.bus.embedded.store import insert
from imcore.bus.ports import Uplink, Wake
from imcore.messages import Refusal
from imcore.service import Service

WINDOW = 10
ROWS = 256


class Device:
    """Sends to its neighbour, with a window of unanswered messages."""

    def __init__(self, bus: EmbeddedBus, number: int, devices: int, messages: int) -> None:
        self.bus, self.user, self.next, self.messages = bus, f"user{number}", 0, messages
        self.body = b'{"to":"user%d","text":"%s"}' % ((number + 1) % devices, b"x" * 70)

    def send(self) -> None:
        """The next message."""
        self.next += 1
        self.bus.queue.put(Uplink(self.user, "phone", self.next, "chat", self.body, 1), self)

    def objection(self) -> Refusal | None:
        """None."""
        return None

    def answered(self, id: int, refusal: Refusal | None) -> None:
        """Go on."""
        assert refusal is None, refusal
        if self.next < self.messages:
            self.send()


async def pipeline(folder: Path, devices: int, messages: int) -> dict[str, float]:
    """Every message from its put until its receiver has taken it."""
    bus = EmbeddedBus(folder)
    await bus.start()
    service = Service(bus)
    chat_service.register(service)
    await service.start()
    total, got, done = devices * messages, 0, asyncio.Event()

    def wake(wakes: Sequence[Wake]) -> None:
        nonlocal got
        got += len(wakes)
        for each in wakes:
            bus.inbox.taken(each.user, "phone", each.seq)
        if got == total:
            done.set()

    bus.push.attach("node", wake, lambda room, body: None)
    await asyncio.gather(*(bus.inbox.open(f"user{n}", "phone", None, "oldest") for n in range(devices)))
    late: list[float] = []

    async def beat() -> None:
        loop = asyncio.get_running_loop()
        while not done.is_set():
            at = loop.time() + 0.01
            await asyncio.sleep(0.01)
            late.append(loop.time() - at)

    beating = asyncio.ensure_future(beat())
    begun, used = time.perf_counter(), time.process_time()
    for n in range(devices):
        device = Device(bus, n, devices, messages)
        for _ in range(min(WINDOW, messages)):
            device.send()
    await done.wait()
    seconds, used = time.perf_counter() - begun, time.process_time() - used
    await beating
    await service.close()
    await bus.close()
    late.sort()
    return {
        "messages_a_second": round(total / seconds),
        "processor_us_a_message": round(used / total * 1e6, 2),
        "loop_late_ms_p99": round(late[int(len(late) * 0.99)] * 1e3, 1),
    }


@pytest.mark.benchmark(group="person to person through the embedded engine, window 10")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("devices", [100, 200, 1_000, 10_000])
def test_pipeline(benchmark: BenchmarkFixture, tmp_path: Path, devices: int) -> None:
    rounds: list[dict[str, float]] = []
    messages = 100_000 if benchmark.enabled else 10_000

    def once() -> None:
        rounds.append(uvloop.run(pipeline(tmp_path / str(len(rounds)), devices, messages // devices)))

    benchmark.pedantic(once, rounds=5 if benchmark.enabled else 1)  # type: ignore[no-untyped-call]  # theirs has no types
    for name in rounds[0]:
        benchmark.extra_info[name] = sorted(each[name] for each in rounds)[len(rounds) // 2]


@pytest.mark.benchmark(group="a message from one device at a time: the latency of two commits")
def test_round_trip(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    folders = iter(range(1000))
    benchmark.pedantic(  # type: ignore[no-untyped-call]  # theirs has no types
        lambda: uvloop.run(pipeline(tmp_path / str(next(folders)), 1, 100)), rounds=3
    )


@pytest.mark.benchmark(group=f"{ROWS} rows into the inbox table beside a busy interpreter")
@pytest.mark.parametrize("way", ["many rows a statement", "executemany"])
def test_rows(benchmark: BenchmarkFixture, tmp_path: Path, way: str) -> None:
    """Why `store.insert` exists: each step of SQLite gives up the interpreter's lock and waits for it (two cores)."""
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            sum(range(50))

    other = threading.Thread(target=busy)
    numbers = iter(range(sys.maxsize))
    head = "INSERT OR REPLACE INTO inbox (user, seq, route, body)"
    with closing(sqlite3.connect(tmp_path / "rows.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(
            "CREATE TABLE inbox (user TEXT, seq INTEGER, route TEXT, body BLOB, PRIMARY KEY (user, seq)) WITHOUT ROWID"
        )

        def once() -> None:
            values: list[Any] = []
            for n in range(ROWS):
                values += (f"user{n % 50}", next(numbers), "chat", b"x" * 100)
            connection.execute("BEGIN")
            if way == "executemany":
                connection.executemany(f"{head} VALUES (?, ?, ?, ?)", zip(*[iter(values)] * 4, strict=True))
            else:
                for sql, part in insert(head, 4, values):
                    connection.execute(sql, part)
            connection.execute("COMMIT")

        other.start()
        try:
            benchmark.pedantic(once, rounds=10)  # type: ignore[no-untyped-call]  # theirs has no types
        finally:
            stop.set()
            other.join()
