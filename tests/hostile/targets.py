"""What is promised of each network, and whether it was kept."""

from __future__ import annotations

from .run import Outcome
from .waits import waited_s

__all__ = ["FACTOR", "FIRST_MOST_S", "IDLE_MOST", "NOISE_S", "SILENCE_MOST_S", "first_most_s", "missed"]

FACTOR = 1.2
"""The first message takes so many times what the best open way takes alone, beside what silent ways make it wait."""
NOISE_S = 0.25
"""And that, seconds, since the machine does other things, too."""
FIRST_MOST_S = 5.0
SILENCE_MOST_S = 5.0
"""After a freeze, a kill or a change of network; after a time without any way, from its end."""
IDLE_MOST = 200.0
"""Bytes of an idle minute, on a network that forgets after five and is known."""


def first_most_s(outcome: Outcome) -> float:
    """How long the first confirmed message may take, seconds."""
    if outcome.alone_s is None or outcome.case.luck:
        return FIRST_MOST_S
    return min(FIRST_MOST_S, FACTOR * outcome.alone_s + waited_s(outcome.case) + NOISE_S)


def missed(outcome: Outcome) -> list[str]:
    """Each promise that was not kept, in words."""
    result, case = outcome.result, outcome.case
    if result is None:
        return [f"not run: {outcome.failed}"]
    found = [outcome.failed] if outcome.failed else []
    if case.open_way:
        most = first_most_s(outcome)
        if result.up_s is None or result.up_s > most:
            found.append(f"first message up after {_s(result.up_s)}, at most {most:.2f} s")
        if result.down_s is None or result.down_s > FIRST_MOST_S:
            found.append(f"first message down after {_s(result.down_s)}, at most {FIRST_MOST_S:g} s")
    silences = [*result.silences_s, *([outcome.after_idle_s] if case.idle_s else [])]
    found += [
        f"silent for {_s(each)}, at most {SILENCE_MOST_S:g} s"
        for each in silences
        if each is None or each > SILENCE_MOST_S
    ]
    if result.faults:
        found.append(f"{result.lost} lost, {result.doubled} doubled, {result.reordered} reordered")
    if case.nat_s:
        if outcome.idle_bytes is None:
            found.append(f"no idle minute was measured, at most {IDLE_MOST:.0f} bytes")
        elif outcome.idle_bytes > IDLE_MOST:
            found.append(f"{outcome.idle_bytes:.0f} bytes an idle minute, at most {IDLE_MOST:.0f}")
    said = " ".join(result.met)
    found += [f"{name} was not named" for name in case.names if name not in said]
    return found


def _s(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.2f} s"
