"""A transfer gives way to messages: its rate against a model of a narrow way with one queue for all."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imcore.client.yielding import LEAST, Yielding


def talk(
    seconds: float, capacity: float, base: float, *, yields: bool, queue_s: float = 2.0
) -> tuple[list[float], float]:
    """Transfer as fast as it may over a way of `capacity` bytes a second, whose queue holds `queue_s` seconds' worth; a
    round trip every half second. Returns the round trips, and the transfer's share of the capacity."""
    yielding = Yielding(0.0)
    now = next_send = sent = waits = 0.0
    free_at = 0.0
    trips = []
    next_trip = 0.0
    piece = 16 * 1024
    while now < seconds:
        if now >= next_trip:
            trips.append(base + max(0.0, free_at - now))
            if yields:
                yielding.round_trip(trips[-1], now)
            next_trip += 0.5
        if now >= next_send and free_at - now < queue_s:
            free_at = max(free_at, now) + piece / capacity
            sent += piece
            waits = yielding.take(piece, now)
            next_send = now + waits
        now += 0.001
    return trips, sent / seconds / capacity


class TestYielding:
    @pytest.mark.parametrize("capacity", [250_000, 2_000_000, 12_500_000])
    @pytest.mark.parametrize("base", [0.02, 0.2])
    def test_round_trips_stay_short_and_the_way_is_used(self, capacity: int, base: float) -> None:
        trips, share = talk(60, capacity, base, yields=True)
        greedy, _ = talk(10, capacity, base, yields=False)
        settled = sorted(trips[len(trips) // 2 :])
        assert settled[len(settled) // 2] < base + 0.1
        assert max(greedy) > base + 1.5 or capacity > 10_000_000
        assert share > 0.5

    def test_without_round_trips_nothing_is_held_back(self) -> None:
        yielding = Yielding(0.0)
        assert [yielding.take(1 << 20, at / 1000) for at in range(100)] == [0.0] * 100

    def test_it_speeds_up_again_when_the_way_is_free(self) -> None:
        yielding = Yielding(0.0)
        yielding.round_trip(0.05, 0.0)
        yielding.take(1_000_000, 0.5)
        yielding.round_trip(1.0, 1.0)
        assert yielding.rate == pytest.approx(500_000)
        for at in range(2, 60):
            yielding.take(1000, at)
            yielding.round_trip(0.05, at)
        assert yielding.rate == inf

    @given(st.lists(st.tuples(st.floats(0, 1e3), st.integers(0, 1 << 30), st.floats(0, 1e4)), max_size=50))
    def test_it_always_lets_something_through(self, events: list[tuple[float, int, float]]) -> None:
        yielding = Yielding(0.0)
        now = 0.0
        for took, size, later in events:
            now += later
            yielding.round_trip(took, now)
            wait = yielding.take(size, now)
            assert yielding.rate >= LEAST
            assert 0 <= wait <= size / LEAST + 1e-6 + sum(each for _, each, _ in events) / LEAST
