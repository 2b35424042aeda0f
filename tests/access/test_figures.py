"""Figures tell how long an attempt takes, forget, withstand a minority that lies, and take a bounded room."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imcore.access import figures
from imcore.access.figures import BUCKETS, FRESH, HALF_LIFE_S, QUANTILE, STEP, Figures, Key, Row

KEY = Key("telecom", "east", "down", "gw-1", 443, "tls")
NOW = 1_800_000_000.0


def measured(times: Iterable[float | None], key: Key = KEY, into: Figures | None = None) -> Figures:
    made = into or Figures()
    for time in times:
        made.add(key, time, NOW)
    return made


def speed(made: Figures, key: Key = KEY, now: float = NOW) -> float | None:
    return made.speed(key, now)[0]


@given(st.lists(st.floats(1, 60_000), min_size=8, max_size=200))
def test_the_speed_is_the_quantile_of_the_times(times: list[float]) -> None:
    found = speed(measured(times))
    exact = sorted(times)[math.ceil(len(times) * QUANTILE - 1e-9) - 1]
    assert found is not None
    assert exact / STEP <= found <= exact * STEP


@given(st.lists(st.none() | st.floats(1, 1000), min_size=8, max_size=100))
def test_a_failure_is_a_time_without_end(times: list[float | None]) -> None:
    worked = sum(time is not None for time in times)
    assert (speed(measured(times)) == math.inf) == (worked < math.ceil(len(times) * QUANTILE - 1e-9))


@pytest.mark.parametrize("lie", [1.0, 60_000.0, None])
@pytest.mark.parametrize("share", [0.1, 0.2])
def test_a_minority_that_lies_shifts_it_a_little(lie: float | None, share: float) -> None:
    chance = random.Random(7)
    times: list[float | None] = [
        lie if chance.random() < share else chance.lognormvariate(math.log(50), 0.1) for _ in range(1000)
    ]
    found = speed(measured(times))
    assert found is not None
    assert 40 < found < 75


def test_few_measurements_are_not_believed() -> None:
    assert speed(measured([50.0] * 7)) is None
    assert speed(measured([50.0] * 8)) is not None


def test_what_was_measured_long_ago_is_forgotten() -> None:
    made = measured([50.0] * 20)
    assert speed(made, now=NOW + HALF_LIFE_S) is not None
    assert speed(made, now=NOW + HALF_LIFE_S * (math.log2(20 / FRESH) + 0.01)) is None


def test_what_is_new_outweighs_what_is_old() -> None:
    made = measured([50.0] * 100)
    for _ in range(30):
        made.add(KEY, 400.0, NOW + 4 * HALF_LIFE_S)
    found = speed(made, now=NOW + 4 * HALF_LIFE_S)
    assert found == pytest.approx(400, rel=STEP - 1)


def test_weights_do_not_overflow_in_a_year() -> None:
    made = Figures()
    for day in range(365):
        made.add(KEY, 50.0, NOW + day * 86_400)
    for _ in range(9):
        made.add(KEY, 200.0, NOW + 365 * 86_400)
    assert speed(made, now=NOW + 365 * 86_400) == pytest.approx(200, rel=STEP - 1)


def test_a_clock_that_goes_back_harms_nothing() -> None:
    made = measured([50.0] * 9)
    for _ in range(9):
        made.add(KEY, 50.0, NOW - 1e6)
    assert speed(made, now=NOW - 1e6) == pytest.approx(50, rel=STEP - 1)


class TestWhoseFigures:
    def test_callers_elsewhere_with_the_same_carrier_are_believed_next(self) -> None:
        made = measured([50.0] * 9)
        assert made.speed(KEY._replace(region="west"), NOW) == (speed(made), True)

    def test_then_everybody(self) -> None:
        made = measured([50.0] * 9)
        assert made.speed(KEY._replace(carrier="unicom"), NOW) == (speed(made), False)
        assert made.speed(KEY._replace(carrier="", region=""), NOW) == (speed(made), False)

    @pytest.mark.parametrize("other", [{"role": "up"}, {"point": "gw-2"}, {"port": 80}, {"way": "tcp"}])
    def test_but_never_those_of_another_way_in(self, other: dict[str, Any]) -> None:
        made = measured([50.0] * 9)
        assert made.speed(KEY._replace(**other), NOW) == (None, False)

    def test_a_way_that_few_speak_of_is_not_known(self) -> None:
        made = measured([50.0] * 40, key=KEY.whole)
        assert speed(measured([2.0] * 10, into=made)) is None
        assert speed(measured([2.0] * 10, into=made)) is not None

    def test_ones_own_come_before_all_others(self) -> None:
        made = measured([300.0] * 9, into=measured([50.0] * 90), key=KEY._replace(carrier="unicom"))
        assert speed(made, KEY._replace(carrier="unicom")) == pytest.approx(300, rel=STEP - 1)
        assert speed(made) == pytest.approx(50, rel=STEP - 1)


def test_any_number_of_keys_takes_a_bounded_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "FIGURES_MOST", 1000)
    made = Figures()
    for number in range(20_000):
        made.add(KEY._replace(carrier=str(number)), 50.0, NOW)
    assert len(made) == 1000
    assert len(made.changed(NOW)) <= 1000


class TestWhatIsStored:
    def test_is_only_what_changed(self) -> None:
        made = measured([50.0])
        assert {row.key for row in made.changed(NOW)} == {KEY, KEY._replace(region="*"), Key("*", "*", *KEY[2:])}
        assert made.changed(NOW) == []
        made.again([Row(KEY, b"", NOW), Row(KEY._replace(port=1), b"", NOW)])
        assert [row.key for row in made.changed(NOW)] == [KEY]

    @given(st.lists(st.none() | st.floats(1, 60_000), min_size=20, max_size=50), st.floats(0, 300))
    def test_says_the_same_afterwards(self, times: list[float | None], later: float) -> None:
        made, again = measured(times), Figures()
        again.restore(made.changed(NOW), NOW + later)
        assert again.speed(KEY, NOW + later) == made.speed(KEY, NOW + later)

    @pytest.mark.parametrize("weights", [b"", b"x" * 7, b"\xff" * 4 * BUCKETS, b"\xff\xff\x7f\xff" * BUCKETS])
    def test_is_passed_over_if_it_is_damaged(self, weights: bytes) -> None:
        made = Figures()
        made.restore([Row(KEY, weights, NOW)], NOW)
        assert len(made) == 0

    def test_is_passed_over_if_it_is_old(self) -> None:
        made = Figures()
        made.restore(measured([50.0] * 9).changed(NOW), NOW + 2 * 86_400)
        assert len(made) == 0
