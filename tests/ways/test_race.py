"""The race's rules, over made-up ways in virtual time: by example, and for any course at all."""

from __future__ import annotations

from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from imcore.ways.candidate import Candidate
from imcore.ways.race import LIMIT_S, MOST, OVERDUE_S, PATIENCE_S, STAGGER_S, Race
from tests.models.race import Course, Fate, Way, judge, way

fates = st.sampled_from(get_args(Fate))
seconds = st.sampled_from([0.001, 0.02, 0.1, 0.3, 0.9, 1.5, 4.0])


@st.composite
def courses(draw: st.DrawFn) -> list[Way]:
    """Up to twelve ways to up to four machines."""
    places = draw(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 6)), unique=True, max_size=12))
    favourite = draw(st.integers(0, 15))
    return [
        way(
            machine,
            draw(fates),
            draw(seconds),
            port=port,
            level=draw(st.integers(0, 4)),
            turn=draw(st.integers(0, 3)),
            cost_s=draw(st.none() | seconds),
            favourite=index == favourite,
            wait_s=draw(st.sampled_from([0.0, 0.0, 2.0, 30.0])),
            joins_s=draw(st.sampled_from([0.0, 0.0, 0.1, 0.5, 2.0])),
            enter=draw(fates),
            enter_s=draw(seconds),
            connect_s=draw(st.none() | seconds),
        )
        for index, (machine, port) in enumerate(places)
    ]


@given(courses(), st.sampled_from([0.0, 1.0, 5.0]))
def test_every_rule_holds_on_any_course(ways: list[Way], complete_s: float) -> None:
    course = Course(ways, complete_s)
    judge(course, course.run())


@given(courses(), st.sampled_from([1, MOST]), seconds, st.none() | seconds, st.data())
def test_every_rule_holds_beside_another_race_of_the_device(
    ways: list[Way], most: int, favoured_s: float, over_s: float | None, data: st.DataObject
) -> None:
    course = Course(ways, most=most)
    if ways:
        course.favours.append((favoured_s, data.draw(st.sampled_from(ways)).entry.candidate))
    if over_s is not None:
        course.favours.append((over_s, None))
    judge(course, course.run())


@given(courses())
def test_with_one_good_way_and_short_failures_there_is_a_winner(ways: list[Way]) -> None:
    brief = [Way(one.entry, "refused", 0.02) for one in ways]
    good = way(9, knock_s=0.1)
    assert Course([*brief, good]).run() == good.entry.candidate


@given(st.permutations(range(1, 4)))
def test_among_three_that_nothing_tells_apart_the_fastest_wins_in_its_own_time(order: list[int]) -> None:
    course = Course([way(machine, knock_s=0.02 * machine, enter_s=0.03) for machine in order])
    assert course.run() == way(1).entry.candidate
    assert course.times("verified")[way(1).entry.candidate] == 0.02
    assert course.ended_s == 0.02 + 0.03


def started(*ways: Way) -> dict[Candidate, float]:
    course = Course(list(ways))
    judge(course, course.run())
    return course.times("knock")


def test_who_won_here_before_has_a_head_start() -> None:
    old, new = way(1, "silent", favourite=True), way(2)
    assert started(new, old) == {old.entry.candidate: 0.0, new.entry.candidate: STAGGER_S}


def test_a_failure_starts_the_next_at_once() -> None:
    first, second = way(1, "refused", 0.01, favourite=True), way(2)
    assert started(first, second)[second.entry.candidate] == 0.01


def test_ports_of_one_machine_are_staggered() -> None:
    ways = [way(1, "silent", port=port, turn=port) for port in range(1, 4)]
    assert list(started(*ways).values()) == [0.0, STAGGER_S, 2 * STAGGER_S]


def test_a_race_beside_another_one_has_one_in_flight_until_that_one_is_over() -> None:
    ways = [way(machine, "silent") for machine in (1, 2, 3)]
    wins = way(3).entry.candidate
    race = Race(0.0, most=1)
    race.join(one.entry for one in ways)
    assert [done.candidate.machine for done in race.step(0.0)] == ["10.0.0.1"]
    assert race.step(0.5) == []
    race.favour(wins, 0.5)
    assert [done.candidate for done in race.step(0.5)] == [wins], "it is next, at once"
    assert [done.candidate.machine for done in race.step(0.5 + STAGGER_S)] == ["10.0.0.2"], "and the others may come"


def test_who_was_recommended_before_a_source_named_him_is_next_when_it_does() -> None:
    ways = [way(machine, "silent") for machine in (1, 2)]
    late = way(3, level=4, wait_s=30.0, joins_s=0.7)
    course = Course([*ways, late], most=1, favours=[(0.1, late.entry.candidate)])
    assert course.run() == late.entry.candidate
    judge(course, late.entry.candidate)
    assert course.times("knock")[late.entry.candidate] == OVERDUE_S, "as his level has it, and before the other one"
    same = way(3, joins_s=0.7)
    course = Course([*ways, same], most=1, favours=[(0.1, same.entry.candidate)])
    assert course.run() == same.entry.candidate
    assert course.times("knock")[same.entry.candidate] == 0.7


def test_who_is_recommended_and_knocks_already_has_nobody_beside_him() -> None:
    ways = [way(1, knock_s=0.9), way(2)]
    course = Course(ways, most=1, favours=[(0.1, ways[0].entry.candidate)])
    assert course.run() == ways[0].entry.candidate
    assert len(course.times("knock")) == 1


def test_the_next_level_waits_until_the_lower_one_failed() -> None:
    low, high = way(1, "refused", 0.6), way(2, level=1)
    assert started(high, low)[high.entry.candidate] == 0.6


def test_or_is_overdue() -> None:
    low, high = way(1, "silent"), way(2, level=1)
    assert started(high, low)[high.entry.candidate] == OVERDUE_S


def test_a_machine_that_is_silent_on_all_its_ports_does_not_hold_the_next_level_back_for_long() -> None:
    dead = [way(1, "silent", port=port, turn=port) for port in range(1, 9)]
    other = way(2, level=1)
    assert started(*dead, other)[other.entry.candidate] <= OVERDUE_S + STAGGER_S


def test_a_port_that_is_silent_at_one_machine_is_tried_last_at_the_others() -> None:
    # Port 1 is dropped without a word; each machine has port 2 as its second choice.
    ways = [way(machine, "silent", port=1) for machine in range(1, 6)]
    ways += [way(machine, port=2, turn=1) for machine in range(1, 6)]
    course = Course(ways)
    winner = course.run()
    judge(course, winner)
    assert winner is not None
    assert winner.point.port == 2
    assert course.ended_s <= OVERDUE_S + 0.6


def test_ports_that_are_dropped_cost_their_staggers_and_not_timeouts() -> None:
    """Three machines with seven ways each, one of which is open: they pass each other on, three at a time."""
    for open_port in range(7):
        ways = [
            way(machine, "good" if port == open_port else "silent", port=port + 1, turn=port)
            for machine in (1, 2, 3)
            for port in range(7)
        ]
        course = Course(ways)
        winner = course.run()
        judge(course, winner)
        assert winner is not None
        assert course.ended_s <= 0.1 + 0.4 * open_port


def test_a_port_where_everybody_is_silent_once_connected_is_passed_by_as_well() -> None:
    ways = [way(machine, "silent", connect_s=0.02, port=1) for machine in (1, 2, 3)]
    ways += [way(machine, connect_s=0.02, port=2, turn=1) for machine in (1, 2, 3)]
    course = Course(ways)
    winner = course.run()
    judge(course, winner)
    assert winner is not None
    assert course.ended_s <= STAGGER_S + 0.1


def test_a_slow_network_is_waited_for_by_the_oldest_and_by_who_is_connected() -> None:
    for connect_s in (0.2, 0.6, 0.9):
        ways = [
            way(machine, knock_s=2 * connect_s, enter_s=connect_s, connect_s=connect_s, port=port, turn=port)
            for machine in (1, 2, 3)
            for port in range(1, 5)
        ]
        course = Course(ways)
        winner = course.run()
        judge(course, winner)
        assert winner is not None
        assert course.ended_s <= 3 * connect_s + STAGGER_S, "no later than the first one's own time"


def test_what_was_started_because_a_slow_network_seemed_silent_is_called_back() -> None:
    ways = [way(1, knock_s=0.8, connect_s=0.4, port=port, turn=port) for port in (1, 2)]
    course = Course(ways)
    assert course.run() == ways[0].entry.candidate
    judge(course, ways[0].entry.candidate)
    assert [(when, what) for when, what, whom in course.trace if whom == ways[1].entry.candidate] == [
        (STAGGER_S, "knock"),
        (0.4, "drop"),
    ]


def test_a_name_that_is_not_in_a_certificate_speaks_against_nobody_else() -> None:
    race = Race(0.0)
    by_address, by_name, other = (way(machine, port=443).entry for machine in (1, 2, 3))
    race.join([by_address])
    race.step(0.0)
    race.join([by_name, other])
    race.failed(by_address.candidate, 0.1, alone=True)
    assert [decision.candidate for decision in race.step(0.1)] == [by_name.candidate, other.candidate]


def test_who_failed_a_moment_ago_comes_last_and_comes() -> None:
    burnt, fresh = way(1, wait_s=30.0), way(2, "refused", 0.3)
    course = Course([burnt, fresh])
    assert course.run() == burnt.entry.candidate
    assert course.times("knock") == {fresh.entry.candidate: 0.0, burnt.entry.candidate: 0.25}


def test_who_is_verified_and_then_silent_makes_room_for_the_next_that_is_verified() -> None:
    mute, good = way(1, knock_s=0.01, enter="silent"), way(2, knock_s=0.05)
    course = Course([mute, good])
    assert course.run() == good.entry.candidate
    assert course.ended_s < PATIENCE_S


def test_a_late_source_is_waited_for() -> None:
    late = way(1, joins_s=4.0)
    assert Course([way(2, "refused", 0.01), late]).run() == late.entry.candidate


def test_it_is_over_after_ten_seconds_or_when_all_have_failed() -> None:
    silent = Course([way(machine, "silent") for machine in range(1, 50)])
    assert silent.run() is None
    assert silent.ended_s == LIMIT_S
    refused = Course([way(machine, "refused", 0.01) for machine in range(1, 50)])
    assert refused.run() is None
    assert refused.ended_s < 1


def test_nobody_to_try_is_an_end_as_soon_as_the_sources_have_ended() -> None:
    race = Race(0.0)
    assert race.step(0.0) == []
    assert not race.over
    race.complete()
    assert race.step(0.1) == []
    assert race.over
