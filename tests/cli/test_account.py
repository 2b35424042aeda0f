"""The demo's check finds what it is there for: it must be able to fail."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imcore.cli.account import Account, percentile

PAIRS = [("a", "b"), ("b", "a"), ("c", "a")]


def good(count: int = 10) -> Account:
    account = Account()
    for number in range(count):
        pair = PAIRS[number % len(PAIRS)]
        account.sent[pair][number] = float(number)
        account.received[pair].append((number, number + 0.5))
        account.confirmed += 1
    return account


def test_all_that_was_sent_came_once_and_in_order() -> None:
    verdict = good().verdict()
    assert verdict.good
    assert (verdict.sent, verdict.confirmed, verdict.received) == (10, 10, 10)


def test_nothing_sent_shows_nothing() -> None:
    assert not Account().verdict().good


def test_a_lost_message_is_found() -> None:
    account = good()
    account.received[PAIRS[0]].pop()
    assert (account.verdict().lost, account.verdict().good, account.missing) == (1, False, 1)


def test_a_doubled_message_is_found() -> None:
    account = good()
    account.received[PAIRS[0]].append(account.received[PAIRS[0]][-1])
    assert (account.verdict().doubled, account.verdict().reordered, account.verdict().good) == (1, 0, False)


def test_a_doubled_message_does_not_hide_a_lost_one() -> None:
    account = good()
    account.received[PAIRS[0]][-1] = account.received[PAIRS[0]][0]
    verdict = account.verdict()
    assert (verdict.received, verdict.lost, verdict.doubled, verdict.good) == (10, 1, 1, False)


def test_a_reordered_message_is_found() -> None:
    account = good()
    came = account.received[PAIRS[0]]
    came[0], came[1] = came[1], came[0]
    assert (account.verdict().reordered, account.verdict().lost, account.verdict().good) == (1, 0, False)


def test_a_message_for_someone_else_is_found() -> None:
    account = good()
    account.received["c", "b"].append((0, 1.0))
    assert (account.verdict().foreign, account.verdict().good) == (1, False)


def test_a_message_that_came_but_was_not_confirmed_is_not_good() -> None:
    account = good()
    account.confirmed -= 1
    assert not account.verdict().good


@given(st.integers(2, 30), st.randoms(use_true_random=False), st.sampled_from(["drop", "double", "swap"]))
def test_any_tampering_is_found(count: int, rng: random.Random, how: str) -> None:
    account = good(count * len(PAIRS))
    came = account.received[rng.choice(PAIRS)]
    place = rng.randrange(len(came) - 1)
    if how == "drop":
        came.pop(place)
    elif how == "double":
        came.insert(rng.randrange(len(came)), came[place])
    else:
        came[place], came[place + 1] = came[place + 1], came[place]
    assert not account.verdict().good


def test_latencies_are_told_apart_by_whether_a_break_was_met() -> None:
    smooth, broken = good(4).latencies([(1.2, 2.1)])
    assert smooth == [0.5, 0.5]
    assert broken == [0.5, 0.5]


@pytest.mark.parametrize(("part", "value"), [(0.0, 1.0), (0.5, 2.0), (0.51, 3.0), (0.99, 4.0), (1.0, 4.0)])
def test_a_percentile_is_one_of_the_values(part: float, value: float) -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], part) == value
    assert math.isnan(percentile([], part))
