"""What a case came to: from the lines of its phone to figures. The promise, in plain Python."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["Line", "Result", "measure"]


class Line(NamedTuple):
    """at_s: on the machine's monotonic clock."""

    at_s: float
    what: str
    words: str

    @classmethod
    def of(cls, text: str) -> Line:
        at, what, *words = text.rstrip("\n").split(" ", 2)
        return cls(float(at), what, words[0] if words else "")


@dataclass
class Result:
    """up_s, down_s: from the start to the first confirmed message, and to the first that came; None = never.
    silences_s: for each break, from it until something was confirmed and something came again; None = never."""

    up_s: float | None
    down_s: float | None
    silences_s: list[float | None]
    messages: int
    """Confirmed, and heard."""
    lost: int
    doubled: int
    reordered: int
    met: list[str] = field(default_factory=list)
    """What the client said stood in its way, in the order of its meeting it."""

    @property
    def faults(self) -> int:
        return self.lost + self.doubled + self.reordered


def measure(lines: list[Line], breaks: list[float]) -> Result:
    """breaks: when something was broken, on the same clock."""
    start = next((line.at_s for line in lines if line.what == "start"), 0.0)  # without it there is nothing else
    confirmed = [line for line in lines if line.what == "confirmed"]
    heard = {what: [line for line in lines if line.what == what] for what in ("echo", "news")}
    came = sorted(heard["echo"] + heard["news"])
    lost = doubled = reordered = 0
    for what, all_lines in heard.items():
        numbers = [int(line.words) for line in all_lines]
        doubled += len(numbers) - len(set(numbers))
        reordered += sum(a > b for a, b in itertools.pairwise(numbers))
        if what == "echo":
            lost += len({int(line.words) for line in confirmed} - set(numbers))
        elif numbers:
            lost += max(numbers) - min(numbers) + 1 - len(set(numbers))
    lost += sum(line.what == "gap" for line in lines)
    silences = []
    for at in breaks:
        again = [min((line.at_s for line in each if line.at_s > at), default=None) for each in (confirmed, came)]
        silences.append(None if None in again else max(each for each in again if each is not None) - at)
    met: list[str] = []
    for line in lines:
        if (
            line.what == "state"
            and not line.words.startswith(("OPEN", "CLOSED", "CONNECTING"))
            and line.words not in met
        ):
            met.append(line.words)
    return Result(
        up_s=confirmed[0].at_s - start if confirmed else None,
        down_s=came[0].at_s - start if came else None,
        silences_s=silences,
        messages=len(confirmed) + len(came),
        lost=lost,
        doubled=doubled,
        reordered=reordered,
        met=met,
    )
