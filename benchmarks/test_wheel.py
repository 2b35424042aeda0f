"""The timer wheel: against `call_later` of asyncio and uvloop, in C, and with a million deadlines.

`extra_info` has the figures that the targets speak of: nanoseconds an operation, bytes a deadline, the share of a core.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from array import array
from collections.abc import Callable
from typing import Any

import pytest
import uvloop
from pytest_benchmark.fixture import BenchmarkFixture

from imcore._wheel import TimerWheel

MILLION = 1_000_000
PAIRS = 10_000
MINUTE = 600  # ticks of 100 ms

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}


def measure(benchmark: BenchmarkFixture, run: Callable[[], object], rounds: int, operations: int = 1) -> float:
    """Seconds an operation, the median; 0.0 where benchmarks are disabled."""
    benchmark.pedantic(run, rounds=rounds, warmup_rounds=1)  # type: ignore[no-untyped-call]  # theirs has no types
    if benchmark.stats is None:
        return 0.0
    seconds = float(benchmark.stats.stats.median) / operations
    if operations > 1:
        benchmark.extra_info["ns"] = round(seconds * 1e9, 2)
    return seconds


@pytest.mark.benchmark(group=f"arm and cancel, {PAIRS} times, and the turn of the loop that lets go of them")
@pytest.mark.parametrize("name", LOOPS)
class TestArmAndCancel:
    def run(self, benchmark: BenchmarkFixture, name: str, turn: Callable[[asyncio.AbstractEventLoop], Any]) -> None:
        loop = LOOPS[name]()
        try:
            measure(benchmark, lambda: loop.run_until_complete(turn(loop)), rounds=50, operations=PAIRS)
        finally:
            loop.close()

    def test_call_later(self, benchmark: BenchmarkFixture, name: str) -> None:
        async def turn(loop: asyncio.AbstractEventLoop) -> None:
            for _ in range(PAIRS):
                loop.call_later(60, print).cancel()
            await asyncio.sleep(0)

        self.run(benchmark, name, turn)

    def test_wheel(self, benchmark: BenchmarkFixture, name: str) -> None:
        wheel = TimerWheel()

        async def turn(loop: asyncio.AbstractEventLoop) -> None:
            for _ in range(PAIRS):
                wheel.cancel(wheel.arm(MINUTE, print))
            await asyncio.sleep(0)

        self.run(benchmark, name, turn)


def armed(wheel: TimerWheel, count: int) -> array[int]:
    """Ids of `count` timers with deadlines within a minute, in an order that no cache likes."""
    dice = random.Random(3)
    timers = [wheel.arm(dice.randrange(1, MINUTE), None) for _ in range(count)]
    dice.shuffle(timers)
    return array("Q", timers)


@pytest.mark.benchmark(group="refresh")
@pytest.mark.parametrize("count", [1000, MILLION])
def test_refresh_in_c(benchmark: BenchmarkFixture, count: int) -> None:
    """No Python between two refreshes. Each also checks its id, which C callers do without."""
    wheel = TimerWheel()
    timers = armed(wheel, count)
    measure(benchmark, lambda: wheel.refresh_many(timers, MINUTE), rounds=20, operations=count)


@pytest.mark.benchmark(group="refresh")
def test_refresh_from_python(benchmark: BenchmarkFixture) -> None:
    wheel = TimerWheel()
    timers = list(armed(wheel, 1000))

    def refresh() -> None:
        for timer in timers:
            wheel.refresh(timer, MINUTE)

    measure(benchmark, refresh, rounds=200, operations=len(timers))


@pytest.mark.benchmark(group="a minute of a million deadlines, each refreshed once, the wheel advanced every 100 ms")
def test_a_million_deadlines_cost_at_most_two_percent_of_a_core(benchmark: BenchmarkFixture) -> None:
    wheel = TimerWheel()
    timers = memoryview(armed(wheel, MILLION))
    grace = 50
    longest = 0.0

    def minute() -> None:
        nonlocal longest
        start = wheel.now
        for tick in range(MINUTE):
            began = time.thread_time()
            wheel.refresh_many(
                timers[tick * MILLION // MINUTE : (tick + 1) * MILLION // MINUTE], start + tick + MINUTE + grace
            )
            expired = wheel.advance(start + tick + 1)
            longest = max(longest, time.thread_time() - began)
            assert not expired

    wheel.refresh_many(timers, MINUTE + grace)
    minute()
    minute()  # by now each timer stands where a refresh of its own put it
    longest = 0.0
    seconds = measure(benchmark, minute, rounds=5)
    benchmark.extra_info["percent of a core"] = round(seconds / 60 * 100, 3)
    benchmark.extra_info["longest tick, ms"] = round(longest * 1000, 2)
    assert seconds <= 60 * 0.02


RESIDENT = f"""
import os
from imcore._wheel import TimerWheel
def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
wheel = TimerWheel()
arm = wheel.arm
before = resident()
for tick in range({MILLION}):
    arm(tick, None)
print((resident() - before) / {MILLION}, wheel.memory / {MILLION})
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.platform
@pytest.mark.benchmark(group="a process that arms a million deadlines")
def test_a_deadline_costs_at_most_32_bytes_of_process_memory(benchmark: BenchmarkFixture) -> None:
    said: list[str] = []

    def child() -> None:
        command = [sys.executable, "-c", RESIDENT]
        said[:] = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    measure(benchmark, child, rounds=3)
    resident, held = map(float, said)
    benchmark.extra_info["bytes a deadline, resident"] = round(resident, 2)
    benchmark.extra_info["bytes a deadline, held"] = round(held, 2)
    assert held < 32
    assert resident < 32
