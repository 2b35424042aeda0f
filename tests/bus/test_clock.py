"""Whose clock was set wrong loses nothing: ages are believed only when the clock has gone steadily for a while."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from imcore.bus.embedded.clock import DOUBT_S, JUMP_MS, Clock
from tests.bus.engines import run
from tests.bus.test_embedded import fold, opened

DAY_MS = 86_400_000


class Times:
    """Both clocks of the machine, in seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall, self.steady = 1_700_000_000.0, 100.0
        monkeypatch.setattr(time, "time_ns", lambda: int(self.wall * 1e9))
        monkeypatch.setattr(time, "monotonic", lambda: self.steady)

    def passes(self, seconds: float) -> None:
        """For both."""
        self.wall += seconds
        self.steady += seconds


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Times:
    return Times(monkeypatch)


def believed(clock: Clock) -> bool:
    return clock.before(DAY_MS) > 0


def test_nothing_is_old_right_after_a_start(times: Times) -> None:
    clock = Clock()
    assert clock.before(DAY_MS) == 0
    times.passes(DOUBT_S - 1)
    clock.tick()
    assert not believed(clock)
    times.passes(1)
    clock.tick()
    assert clock.before(DAY_MS) == clock.now_ms - DAY_MS


@pytest.mark.parametrize("jump_s", [400 * 86_400, -400 * 86_400, 3600, -3600])
def test_nor_after_a_jump_in_either_direction(times: Times, jump_s: float) -> None:
    clock = Clock()
    times.passes(DOUBT_S)
    clock.tick()
    assert believed(clock)
    times.wall += jump_s
    times.passes(1)
    clock.tick()
    assert not believed(clock)
    times.passes(DOUBT_S)
    clock.tick()
    assert believed(clock)


def test_a_clock_that_is_set_slowly_and_a_loop_that_stood_still_are_no_jumps(times: Times) -> None:
    clock = Clock()
    times.passes(DOUBT_S)
    clock.tick()
    for _ in range(20):
        times.wall += JUMP_MS / 1000 - 0.5
        times.passes(1)
        clock.tick()
    times.passes(3600)
    clock.tick()
    assert believed(clock)


def test_who_was_away_while_the_clock_was_wrong_lacks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with opened(tmp_path) as bus:
            core = bus._core
            assert core is not None
            core.clock._believed_at = 0.0  # it has run for long
            for device in ("phone", "desk"):
                await bus.inbox.open("bob", device, None, "oldest")
            await bus.inbox.append("bob", "chat", b"x")
            await fold(bus)
            right = time.time_ns
            monkeypatch.setattr(time, "time_ns", lambda: right() + 400 * DAY_MS * 1_000_000)
            core.clock.tick()
            bus.inbox.taken("bob", "phone", 1)
            assert not await bus.inbox.expire_aged()
            monkeypatch.setattr(time, "time_ns", right)
            core.clock.tick()
            bus.inbox.taken("bob", "phone", 1)
            assert [m.body for m in await bus.inbox.read("bob", 0, 9, 999)] == [b"x"]
            assert (await bus.inbox.open("bob", "desk", None, "oldest")).first == 1

    run(main())
