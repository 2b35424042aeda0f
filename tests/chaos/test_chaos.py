"""A slice of chaos in every run of the suite, and the proof that it would notice: three ways to break the promise."""

from __future__ import annotations

import os
import random

import pytest

from tests import redis_server

from .__main__ import run_for
from .machine import ChaosMachine
from .model import Broken, Counts, Promise
from .mutations import MUTATIONS

SLICE_S = float(os.environ.get("CHAOS_SECONDS", "25"))
ENGINES = ["embedded", "redis"]
SCRIPTED = [
    ("ack_before_durable", "embedded"),
    ("forget_the_dedupe", "redis"),
    ("skip_the_resume", "redis"),
    ("", "redis"),
]
"""Which mutations on which engine; all on both where there is time, that is where somebody says how much."""
if "CHAOS_SECONDS" in os.environ:
    SCRIPTED = [(mutation, engine) for mutation in ("", *MUTATIONS) for engine in ENGINES]


@pytest.mark.timeout(4 * SLICE_S + 240)
@pytest.mark.parametrize("engine", ENGINES)
def test_whatever_happens_and_when_nothing_is_lost_doubled_or_reordered(engine: str) -> None:
    if engine == "redis" and redis_server.missing is not None:
        pytest.skip(redis_server.missing)
    counts = Counts()
    for _ in range(4):  # on a busy machine a slice is a run or two, in which there may be no kill
        _, found, story = run_for(SLICE_S, random.SystemRandom().randrange(1 << 32), engine=engine)
        assert not story, "\n".join(story)
        counts.add(found)
        if counts.kills and counts.cuts and counts.confirmed:
            break
    assert counts.confirmed
    assert counts.kills
    assert counts.cuts


def told(mutation: str, engine: str) -> list[str]:
    """What the machine says of a run in which the same things happen as in any other, in an order that hurts."""
    still_s = 4.0 if mutation else ChaosMachine.still_s  # who keeps the promise ends it by itself
    body = {"mutation": mutation, "broken": [], "counts": Counts(), "still_s": still_s, "engine": engine}
    machine = type("Scripted", (ChaosMachine,), body)()
    for _ in range(2):
        machine.everybody_sends(count=4)
        machine.cut_at_a_byte(size=300)
        machine.time_passes(ms=25)
        machine.kill_the_node()
        machine.everybody_sends(count=2)
        machine.kill_an_application(name="bob/phone")
        machine.cut()
        machine.time_passes(ms=100)
        machine.cut()
    machine.teardown()
    broken: list[str] = machine.broken
    return broken


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("mutation", "engine"), SCRIPTED)
def test_a_node_that_breaks_the_promise_is_found_out_and_one_that_keeps_it_is_not(mutation: str, engine: str) -> None:
    if engine == "redis" and redis_server.missing is not None:
        pytest.skip(redis_server.missing)
    story = told(mutation, engine)
    if mutation:
        assert "BROKEN" in story[-1]
    else:
        assert story == []


class TestPromise:
    """The model itself: what it must tell apart."""

    @staticmethod
    def promise(*heard: int, confirmed: tuple[int, ...] = (1, 2, 3)) -> Promise:
        promise = Promise({"bob": ["bob/phone"]})
        for number in (1, 2, 3):
            promise.sends("alice/phone", number, "bob")
        for number in confirmed:
            promise.told("alice/phone", number, "confirmed")
        for number in heard:
            promise.hears("bob/phone", "alice/phone", number)
        return promise

    @pytest.mark.parametrize(
        ("heard", "lost", "doubled", "reordered"),
        [
            ((1, 2, 3), 0, 0, 0),
            ((1, 3), 1, 0, 0),
            ((), 3, 0, 0),
            ((1, 2, 2, 3), 0, 1, 0),
            ((1, 3, 2), 0, 0, 1),
            ((2, 1, 3, 2), 0, 1, 1),
        ],
    )
    def test_lost_doubled_and_reordered(self, heard: tuple[int, ...], lost: int, doubled: int, reordered: int) -> None:
        counts = self.promise(*heard).verdict()
        assert (counts.lost, counts.doubled, counts.reordered) == (lost, doubled, reordered)

    def test_what_was_never_confirmed_may_come_or_not(self) -> None:
        for heard in ((1, 2), (1, 2, 3)):
            counts = self.promise(*heard, confirmed=(1, 2)).verdict()
            assert (counts.lost, counts.doubled, counts.unknown) == (0, 0, 1)

    def test_what_an_application_held_when_it_was_killed_may_be_shown_once_more_and_only_that(self) -> None:
        promise = self.promise(1, 2)
        promise.killed("bob/phone")
        for number in (2, 3):
            promise.hears("bob/phone", "alice/phone", number)
        assert promise.verdict().doubled == 0
        promise.hears("bob/phone", "alice/phone", 2)
        assert promise.verdict().doubled == 1

    def test_what_was_refused_or_never_sent_must_not_come(self) -> None:
        refused = self.promise(1, 2, 3, confirmed=(1, 2))
        refused.told("alice/phone", 3, "refused")
        with pytest.raises(Broken, match="which was refused"):
            refused.verdict()
        with pytest.raises(Broken, match="which nobody sent"):
            self.promise(1, 2, 3, 4).verdict()

    def test_two_outcomes_of_one_message_are_a_lie(self) -> None:
        promise = self.promise()
        with pytest.raises(Broken, match="was told confirmed and then refused"):
            promise.told("alice/phone", 1, "refused")

    def test_whoever_was_not_told_is_waited_for_unless_its_process_died(self) -> None:
        promise = self.promise(1, 2, confirmed=(1, 2))
        assert promise.waiting() == ["alice/phone was not told about 3"]
        promise.killed("alice/phone")
        assert promise.waiting() == []
