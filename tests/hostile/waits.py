"""What the client's own race waits for on a network, by its rules alone: for ways that are silent, until the first that
is open has its turn. No time of the network is in it."""

from __future__ import annotations

from math import inf

from imcore.points import parse_points
from imcore.ways.candidate import Candidate, Listed
from imcore.ways.memory import Memory
from imcore.ways.race import Act, Race

from .case import Case
from .network import GATEWAYS

__all__ = ["waited_s"]


def waited_s(case: Case) -> float:
    """Seconds from the race's start until it knocks at a way that is open."""
    if not case.passes:
        return 0.0
    race = Race(0.0)
    listed = [
        Listed(Candidate(point, address), turn=turn)
        for address in GATEWAYS
        for turn, point in enumerate(parse_points([address]))
    ]
    race.join(Memory().entries("down", listed))
    race.complete()
    now = 0.0
    while now < inf:
        for decision in race.step(now):
            path = decision.candidate.path.strip()
            if decision.act is Act.KNOCK and path in case.passes:
                return now
        now = race.wake
    return inf
