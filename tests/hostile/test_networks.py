"""A slice of the lab: each mechanism once and briefly. `make hostile` has all networks, for a minute each.

It takes root and network namespaces; elsewhere it skips, and in CI that is a failure.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.hostile.breaks import asleep, awake, frozen, killed, moved, opens
from tests.hostile.case import Break, Case
from tests.hostile.cases import CASES
from tests.hostile.contenders import OURS, Contender
from tests.hostile.namespaces import missing, sweep
from tests.hostile.obstacles import air, forgetful
from tests.hostile.programs import missing as lacking
from tests.hostile.run import Outcome, Run

SECONDS = 6.0
AFTER_S = 3.0
"""When something breaks."""

named = {case.name: case for case in CASES}


def brief(name: str, *breaks: Break, seconds: float = SECONDS) -> Case:
    return replace(named[name], seconds=seconds, breaks=breaks, idle_s=0.0)


SLICE = [
    replace(
        brief("sleep", Break(AFTER_S, asleep, seconds=6), Break(9, awake, heals=True), seconds=14), prepare=forgetful(3)
    ),
    brief("proxy and kill", Break(AFTER_S, killed), seconds=12),
    brief("killed", Break(AFTER_S, killed), seconds=10),
    brief("frozen", Break(AFTER_S, frozen), seconds=10),
    brief("Wi-Fi to mobile", Break(AFTER_S, moved), seconds=10),
    brief("portal", Break(AFTER_S, opens), seconds=10),
    replace(brief("appends a script", Break(AFTER_S, opens), seconds=10), names=()),  # a name takes a whole race
    replace(brief("gzips", Break(AFTER_S, opens), seconds=10), names=()),
    brief("replays", seconds=10),
    brief("nginx on 80", seconds=10),
    brief("443 only", seconds=10),
    brief("proxy and dead DNS"),
    brief("DNS hijacked"),
    brief("two are"),
    brief("10 % lost"),
    replace(brief("20 kbit/s", seconds=12), prepare=air(delay_ms=50, rate=16_000)),  # not quite so narrow
    brief("single bytes"),
]


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    """What became of each, by its name."""
    needs = set[str]().union(*(case.programs for case in SLICE))
    if why := missing() or lacking(needs):
        pytest.skip(why)
    sweep()
    work: list[tuple[Case, Contender, float]] = [(case, OURS, case.seconds) for case in SLICE]
    return {done.case.name: done for done in Run(len(SLICE), brief=True).all(work)}


@pytest.mark.timeout(240)  # the first one waits for all
@pytest.mark.parametrize("case", SLICE, ids=lambda case: case.name)
def test_messages_pass_once_and_in_order_whatever_the_network_does(case: Case, outcomes: dict[str, Outcome]) -> None:
    done = outcomes[case.name]
    assert not done.failed
    assert done.result is not None
    assert done.good, done.result
    assert all(name in " ".join(done.result.met) for name in case.names), done.result.met
