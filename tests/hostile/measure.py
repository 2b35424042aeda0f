"""What a case came to: from the lines of its phone to figures. The promise, in plain Python."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["Line", "Result", "measure"]

BEFORE_S, AFTER_S = 3.0, 15.0
"""What is said so long before a break may be hit by it; what is silent so long after it is not its doing."""


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
    silences_s: for each break, from it on, how long at the worst a message waited for its confirmation, and one that
    came for the next one; None = nothing was confirmed any more, or nothing came."""

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


def measure(lines: list[Line], breaks: list[float], told: int = 0, *, all_kept: bool = False) -> Result:
    """breaks: when something was broken, on the same clock. told: the number of the last news that the phone was told,
    long enough ago to have come; 0 = it was told none. all_kept: what is told before a phone's first connection is kept
    for it, so that it is owed the news from the first on, and else from the first that came. What is said of a crowd
    (`echo@7`) counts as if it had happened to the phone, and the longest silence of them all is that of the break."""
    said: dict[str, list[Line]] = {"": []}
    for line in lines:
        what, _, who = line.what.partition("@")
        said.setdefault(who, []).append(line._replace(what=what))
    phone, *crowd = (_measure(each, breaks, 0 if who else told, all_kept and not who) for who, each in said.items())
    for each in crowd:
        phone.messages += each.messages
        phone.lost += each.lost
        phone.doubled += each.doubled
        phone.reordered += each.reordered
        both = zip(phone.silences_s, each.silences_s, strict=True)
        phone.silences_s = [None if one is None or other is None else max(one, other) for one, other in both]
    return phone


def _measure(lines: list[Line], breaks: list[float], told: int, all_kept: bool) -> Result:
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
    lost += sum(line.what == "gap" for line in lines)
    sent = {line.words: line.at_s for line in lines if line.what == "sent"}
    answered = [(sent[line.words], line.at_s) for line in confirmed if line.words in sent]
    ends = [*(each - BEFORE_S for each in breaks[1:]), math.inf]
    silences = [
        _silence(answered, [line.at_s for line in came], at, min(end, at + AFTER_S))
        for at, end in zip(breaks, ends, strict=False)  # without a break there is one end too many
    ]
    through = bool(confirmed or came) and None not in silences  # of who is cut off nobody knows what would still come
    lost += _unheard({int(line.words) for line in heard["news"]}, told if through else 0, all_kept)
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


def _unheard(news: set[int], told: int, all_kept: bool) -> int:
    """How many of the news that were owed did not come."""
    first = 1 if all_kept or not news else min(news)
    return len(set(range(first, max(told, *news, 0) + 1)) - news)


def _silence(answered: list[tuple[float, float]], came: list[float], at: float, end: float) -> float | None:
    """What a break cost: how long what was said waited for its confirmation, and what came for the next, at the worst.
    answered: when it was sent, and confirmed. None = one of them ended there for good."""
    waits = [done - max(sent, at) for sent, done in answered if done > at and at - BEFORE_S < sent < end]
    if not waits or not any(each > at for each in came):
        return None
    last = next(each for each in came if each > at)
    return max(
        *waits,
        *(b - a for a, b in itertools.pairwise([at, *(each for each in came if at < each < max(end, last + 1))])),
    )
