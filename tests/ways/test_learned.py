"""What is learned of a way: only what was shown is lost, and what was lost is tried again."""

from __future__ import annotations

import pytest

from imcore.ways.learned import AGAIN_S, Learned, Manner
from imcore.ways.memory import Memory

WAY = "http://a:1"
PATH = "http:1"


class Clock:
    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


def a_manner(memory: Memory | None = None) -> tuple[Manner, Clock]:
    clock = Clock()
    return Manner(memory or Memory(), WAY, PATH, clock), clock


def mode_of(manner: Manner) -> str:
    return manner.now.mode


def test_nothing_is_lost_to_begin_with() -> None:
    manner, _ = a_manner()
    assert manner.now == Learned("stream", 45.0, 25.0, 65536)


def test_a_way_that_holds_back_is_padded_then_polled_and_never_less() -> None:
    manner, _ = a_manner()
    modes = []
    for _ in range(3):
        manner.holds_back()
        modes.append(manner.now.mode)
    assert modes == ["padded", "poll", "poll"]


def test_a_way_that_ends_what_is_silent_for_so_long_is_polled_for_less() -> None:
    manner, _ = a_manner()
    for silent_s in (10, 5, 0.1, 0.1, 20):  # a network that breaks by chance
        manner.stalled(silent_s)
        assert mode_of(manner) == "stream"
    manner.stalled(19)
    assert mode_of(manner) == "poll"
    assert manner.now.hold_s == pytest.approx(15.2)


def test_a_way_that_ends_each_stream_at_once_is_not_asked_for_streams() -> None:
    manner, _ = a_manner()
    manner.broke()
    manner.broke()
    manner.streams()
    manner.broke()
    manner.broke()
    assert mode_of(manner) == "stream"
    manner.broke()
    assert mode_of(manner) == "padded"


def test_limits_shrink_to_what_was_shown_and_no_further_than_makes_sense() -> None:
    manner, _ = a_manner()
    manner.held_too_long(25)
    assert manner.now.hold_s == 12.5
    manner.idled_too_long(30)
    assert manner.now.idle_s == 24.0
    manner.idled_too_long(0.1)  # it was dead for another reason
    assert manner.now.idle_s == 24.0
    assert manner.too_large(60_000)
    assert manner.now.body == 30_000
    for _ in range(20):
        manner.held_too_long(1)
        manner.idled_too_long(1.1)
        manner.too_large(2000)
    assert (manner.now.hold_s, manner.now.idle_s, manner.now.body) == (1.0, 1.0, 1024)
    assert not manner.too_large(900)


def test_what_was_lost_is_tried_again_and_less_often_each_time() -> None:
    memory = Memory()
    manner, clock = a_manner(memory)
    waits: list[float] = []
    for _ in range(12):
        manner.holds_back()
        manner.holds_back()
        lost_at = clock.now
        learned = memory.recall(WAY)
        assert learned is not None
        clock.now = learned.again_at - 1
        assert mode_of(manner) == "poll"
        clock.now += 2
        assert mode_of(manner) == "stream"
        assert manner.now.hold_s == 25.0
        assert not manner.sure
        waits.append(learned.again_at - lost_at)
    assert waits[0] == AGAIN_S
    assert waits[1] == 2 * AGAIN_S
    assert waits[-1] == 86400


def test_a_way_that_streams_again_is_trusted_again() -> None:
    memory = Memory()
    manner, clock = a_manner(memory)
    for _ in range(4):
        manner.holds_back()
    clock.now += 86400
    assert manner.now.mode == "stream"
    manner.streams()
    assert manner.now.again_s == AGAIN_S


def test_each_port_and_way_is_apart() -> None:
    memory = Memory()
    manner, clock = a_manner(memory)
    manner.holds_back()
    assert Manner(memory, "http://a:2", "http:2", clock).now == Learned()


def test_another_machine_begins_with_what_was_seen_at_the_first_and_has_its_own_from_then_on() -> None:
    memory = Memory()
    manner, clock = a_manner(memory)
    manner.holds_back()
    other = Manner(memory, "http://b:1", PATH, clock)
    assert other.now == manner.now
    other.holds_back()
    assert (manner.now.mode, other.now.mode) == ("padded", "poll")
