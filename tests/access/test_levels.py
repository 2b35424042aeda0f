"""Levels rise with what nodes report and fall back, slowly enough that one bad report moves nobody."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imcore.access.levels import FALL, FULL, RISE, SILENT_S, Levels
from imcore.bus.ports import Load


class Told:
    """Levels on a clock that the test turns: each report takes two seconds."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.levels = Levels(100_000, lambda: self.now)

    def say(self, *cpu: float, node: str = "n", draining: bool = False) -> int | None:
        """The level after these reports."""
        for each in cpu:
            self.now += 2
            self.levels.take(Load(node, 0, each, 0.0, 0.0, draining))
        return self.levels.of([node])


def test_an_idle_node_is_at_level_0() -> None:
    assert Told().say(0.1, 0.1) == 0


@pytest.mark.parametrize(("cpu", "level"), [(0.49, 0), (0.5, 1), (0.7, 2), (0.9, 3), (0.96, 4)])
def test_the_level_follows_the_processor(cpu: float, level: int) -> None:
    assert Told().say(cpu, cpu) == level


@pytest.mark.parametrize(
    "load",
    [
        Load("n", 90_000, 0.0, 0.0, 0.0),
        Load("n", 0, 0.86, 0.0, 0.0),
        Load("n", 0, 0.0, 250.0, 0.0),
        Load("n", 0, 0.0, 0.0, 0.9),
    ],
)
def test_the_worst_of_links_processor_lateness_and_memory_decides(load: Load) -> None:
    told = Told()
    for _ in range(RISE):
        told.levels.take(load)
    assert told.levels.of(["n"]) == 3


def test_one_bad_report_moves_nobody() -> None:
    assert Told().say(0.1, 0.99, 0.1) == 0


def test_a_level_falls_only_after_some_good_reports() -> None:
    told = Told()
    assert told.say(0.9, 0.9) == 3
    assert told.say(*[0.1] * (FALL - 1)) == 3
    assert told.say(0.1) == 0


def test_a_figure_that_wavers_at_a_threshold_does_not_move_the_level() -> None:
    told = Told()
    told.say(0.72, 0.72)
    assert {told.say(cpu) for cpu in [0.69, 0.71] * 20} == {2}


@given(st.lists(st.floats(0, 1.2), min_size=1, max_size=60))
def test_a_level_is_always_one_that_was_reported_of_late(cpus: list[float]) -> None:
    told = Told()
    for cpu in cpus:
        level = told.say(cpu)
        assert level is not None
        assert 0 <= level <= FULL
    told.say(*[0.0] * FALL)
    assert told.levels.of(["n"]) == 0


def test_a_silent_node_disappears_and_comes_back() -> None:
    told = Told()
    told.say(0.9, 0.9)
    told.now += SILENT_S + 0.1
    assert told.levels.of(["n"]) is None
    assert told.levels.of(["n"], silent=True) == FULL
    assert told.say(0.9) == 3


def test_who_has_never_spoken_gets_the_time_to() -> None:
    told = Told()
    assert told.levels.of(["never"]) == 0
    told.now += SILENT_S + 0.1
    assert told.levels.of(["never"]) is None


def test_a_draining_node_is_never_given_until_it_is_back() -> None:
    told = Told()
    assert told.say(0.1, draining=True) is None
    assert told.levels.of(["n"], silent=True) is None
    assert told.say(0.1) == 0


def test_a_point_with_several_nodes_is_as_good_as_the_best() -> None:
    told = Told()
    told.say(0.9, 0.9, node="a")
    told.say(0.6, 0.6, node="b")
    told.say(0.1, node="c", draining=True)
    assert told.levels.of(["a", "b", "c"]) == 1


def test_a_point_that_nobody_reports_for_is_always_given() -> None:
    told = Told()
    told.now += 1e6
    assert told.levels.of([]) == 0


def test_nodes_under_ever_new_names_are_forgotten() -> None:
    told = Told()
    for number in range(5000):
        told.say(0.1, node=str(number))
    assert len(told.levels._nodes) < 500
