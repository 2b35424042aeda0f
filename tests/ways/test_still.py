"""How long a connection may be still: found out against made-up NATs, without a clock of its own."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from imcore.ways.still import AGAIN_S, CLOSE, GROWTH, USUAL_S, Still

LEAST_S, MOST_S = 2.0, 600.0
limits = st.floats(3.0, 2000.0)
"""Of a NAT: a silence that is not shorter is not survived, seconds."""
leasts = st.sampled_from([LEAST_S, USUAL_S])
"""Of a gateway: 30 s, as they usually are, is as much as a client begins with."""
starts = st.just(0.0) | st.floats(1.0, 1000.0)


def learn(
    still: Still, limit_s: float, now: float, start_s: float = 0.0, least_s: float = LEAST_S
) -> tuple[Still, list[float]]:
    """Try until there is nothing to try: what is known then, and what was tried."""
    tried = []
    while (seconds := still.next_s(least_s, MOST_S, now, start_s)) is not None:
        tried.append(seconds)
        assert len(tried) < 30, f"it goes round in circles: {tried}"
        still = still.held(seconds) if seconds < limit_s else still.broke(seconds, now)
    return still, tried


def lives(still: Still, limit_s: float, now: float, least_s: float = LEAST_S) -> Still:
    """A link is used until its heartbeats are within the limit, a little early as they are, or as often as they may
    be."""
    for _ in range(20):
        silence_s = still.within(least_s, MOST_S) * 0.9
        if silence_s < limit_s or still.holds_s < least_s:
            return still
        still = still.died(silence_s, now)
        still, _ = learn(still, limit_s, now, least_s=least_s)
    raise AssertionError(f"links go on dying: {still}")


@given(limits, starts, leasts)
def test_it_comes_within_a_fifth_of_the_limit_and_stays(limit_s: float, start_s: float, least_s: float) -> None:
    still = lives(learn(Still(), limit_s, 0.0, start_s, least_s)[0], limit_s, 0.0, least_s)
    holds_s = still.within(least_s, MOST_S)
    if limit_s > least_s * GROWTH:
        assert holds_s * 0.9 < limit_s
        assert holds_s >= min(limit_s, MOST_S) / CLOSE * 0.99
    assert still.settled(MOST_S) or limit_s < least_s
    assert learn(still, limit_s, 1.0, least_s=least_s)[1] == []


@given(st.floats(31.0, 599.0), starts, leasts)
def test_what_broke_is_a_ceiling_until_it_is_looked_at_again(limit_s: float, start_s: float, least_s: float) -> None:
    still, broken = Still(), MOST_S * 2
    while (seconds := still.next_s(least_s, MOST_S, 0.0, start_s)) is not None:
        assert seconds < broken
        if seconds < limit_s:
            still = still.held(seconds)
        else:
            still, broken = still.broke(seconds, 0.0), seconds
    assert still.holds_s < limit_s <= still.breaks_s == broken


@given(limits, limits, leasts)
def test_after_days_what_broke_is_tried_again_once_and_a_better_network_is_found(
    before_s: float, after_s: float, least_s: float
) -> None:
    still = lives(learn(Still(), before_s, 0.0, least_s=least_s)[0], before_s, 0.0, least_s)
    assume(still.holds_s < MOST_S)
    assert learn(still, before_s, AGAIN_S - 1, least_s=least_s)[1] == []
    same, tried = learn(still, before_s, AGAIN_S, least_s=least_s)
    assert same.holds_s == still.holds_s
    assert len(tried) <= 1
    if after_s > max(before_s, least_s) * CLOSE * 1.01:
        better, _ = learn(still, after_s, AGAIN_S, least_s=least_s)
        assert better.holds_s >= min(after_s, MOST_S) / CLOSE * 0.99


@given(st.floats(30.1, 2000.0), st.integers(1, 4))
def test_links_that_died_by_chance_are_made_good_also_at_the_shortest_heartbeat_there_is(
    limit_s: float, deaths: int
) -> None:
    still = Still()
    for death in range(deaths):
        still = still.died(still.within(USUAL_S, MOST_S) * 0.85, AGAIN_S * death)
    restored, tried = learn(still, limit_s, AGAIN_S * deaths, least_s=USUAL_S)
    assert restored.holds_s >= min(limit_s, MOST_S) / CLOSE * 0.99, (still, tried)


def test_one_death_by_chance_at_the_shortest_heartbeat_is_looked_into_at_once_and_two_after_days() -> None:
    once = Still().died(25.0, 0.0)
    assert once.next_s(30, 600, 1.0) == 30
    assert once.held(30.0).next_s(30, 600, 1.0) == 45
    twice = once.died(25.0, 0.0)
    assert (twice.next_s(30, 600, 1.0), twice.next_s(30, 600, AGAIN_S)) == (None, 30)
    assert Still(20.0, 40.0, AGAIN_S).next_s(30, 600, 1.0) == 30, "nobody knows of that"
    assert Still().next_s(45, 600, 1.0) == 45


def test_a_usual_network_is_known_after_a_few_silences() -> None:
    _, tried = learn(Still(), 300.0, 0.0)
    assert len(tried) <= 8
    assert sum(tried) < 3600
    _, tried = learn(Still(), 300.0, 0.0, start_s=240.0)
    assert tried[0] == 240.0
    assert len(tried) <= 4


def test_a_link_that_dies_steps_back_at_once_and_one_death_by_chance_is_made_good() -> None:
    still, _ = learn(Still(), 300.0, 0.0)
    stepped = still.died(still.holds_s * 0.85, 0.0)
    assert stepped.holds_s < still.holds_s / 2
    assert stepped.next_s(LEAST_S, MOST_S, 0.0) == still.holds_s
    restored, tried = learn(stepped, 300.0, 0.0)
    assert restored.holds_s == still.holds_s
    assert tried == [still.holds_s]


def test_if_links_die_where_spare_ones_live_the_links_are_believed() -> None:
    still, _ = learn(Still(), 300.0, 0.0)  # what spare connections survive
    for _ in range(10):
        if still.holds_s * 0.85 < 100:  # and links
            break
        still, _ = learn(still.died(still.holds_s * 0.85, 0.0), 300.0, 0.0)
    assert still.holds_s * 0.85 < 100
    assert still.next_s(LEAST_S, MOST_S, 1.0) is None


def test_a_network_that_forgets_nobody_is_tried_up_to_the_gateways_most() -> None:
    still, tried = learn(Still(), 1e9, 0.0)
    assert still.holds_s == tried[-1] == MOST_S
    assert tried[0] == USUAL_S * GROWTH


def test_a_gateway_that_wants_signs_of_life_more_often_has_the_last_word() -> None:
    still = Still(holds_s=400.0)
    assert still.within(30, 60) == 60
    assert still.next_s(30, 60, 0.0) is None
    assert Still().within(45, 600) == 45
