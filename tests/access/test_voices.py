"""Nobody may report more than others, however many names they use, and what is remembered of them is bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imcore.access import voices
from imcore.access.voices import Rate, Voices, neighbourhood


def test_an_allowance_is_used_up_and_grows_again() -> None:
    rate = Rate(per_minute=60, burst=3)
    assert [rate.allows("a", 0.0) for _ in range(4)] == [True, True, True, False]
    assert rate.allows("b", 0.0)
    assert rate.allows("a", 1.0)
    assert not rate.allows("a", 1.5)
    assert [rate.allows("a", 1000.0) for _ in range(4)] == [True, True, True, False]


@given(st.lists(st.floats(0, 0.5), max_size=200))
def test_nobody_gets_more_than_the_burst_and_the_rate(pauses: list[float]) -> None:
    rate, now, allowed = Rate(per_minute=60, burst=5), 0.0, 0
    for pause in pauses:
        now += pause
        allowed += rate.allows("a", now)
    assert allowed <= 5 + now + 1e-6


def test_millions_of_names_take_a_bounded_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voices, "NAMES_MOST", 1000)
    monkeypatch.setattr(voices, "VOICES_MOST", 1000)
    rate, heard = Rate(60, 3), Voices()
    for number in range(50_000):
        rate.allows(str(number), 0.0)
        heard.first((str(number),), ("gw-1",), 7)
    assert len(rate) == 1000
    assert len(heard) == 1000


def test_a_device_has_one_voice_about_a_thing_in_a_draw() -> None:
    heard = Voices()
    assert heard.first(("alice", "phone"), ("gw-1", "up"), 7)
    assert not heard.first(("alice", "phone"), ("gw-1", "up"), 7)
    assert heard.first(("alice", "desk"), ("gw-1", "up"), 7)
    assert heard.first(("alice", "phone"), ("gw-1", "down"), 7)
    assert heard.first(("alice", "phone"), ("gw-1", "up"), 8)
    assert not heard.first(("alice", "phone"), ("gw-1", "up"), 7)


def test_what_was_said_in_earlier_draws_is_forgotten() -> None:
    heard = Voices()
    for draw in range(1000):
        heard.first(("alice", "phone"), ("gw-1",), draw)
    assert len(heard) <= 2


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:ff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:100::1", False),
    ],
)
def test_who_is_counted_as_one(one: str, other: str, same: bool) -> None:
    assert (neighbourhood(one) == neighbourhood(other)) is same
