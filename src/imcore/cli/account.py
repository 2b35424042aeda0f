"""What was sent against what came: lost, doubled, reordered, foreign, and how long it took. It only counts."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import msgspec

__all__ = ["Account", "Break", "Verdict", "percentile"]

Pair = tuple[str, str]
"""Sender and receiver: the order of messages holds within a pair."""


class Verdict(msgspec.Struct, frozen=True):
    """Counts of messages."""

    sent: int
    confirmed: int
    """Senders were told that these are durable."""
    received: int
    lost: int
    """Sent and never received."""
    doubled: int
    """Received once more than once."""
    reordered: int
    """Received behind one that was sent later."""
    foreign: int
    """Received and never sent."""

    @property
    def good(self) -> bool:
        """Something was sent, and everything came: once, and in order."""
        wrong = self.lost or self.doubled or self.reordered or self.foreign
        return self.sent > 0 and self.confirmed == self.sent == self.received and not wrong


class Break(msgspec.Struct, frozen=True):
    """Something broke, and was whole again."""

    what: str
    start: float
    """On the monotonic clock, seconds."""
    end: float
    """Everyone was connected again, and all that had been sent so far had come."""
    longest_ms: float = 0.0
    """How long the message took that met it and took longest."""


class Account:
    """Numbers by pair, as they were sent and as they came."""

    def __init__(self) -> None:
        self.sent: dict[Pair, dict[int, float]] = defaultdict(dict)
        """When each was sent, in the order of sending."""
        self.confirmed = 0
        self.received: dict[Pair, list[tuple[int, float]]] = defaultdict(list)
        """Each with the time when it came, in the order of coming."""

    @property
    def missing(self) -> int:
        """How many more were sent than came: 0 once everything has come, if nothing came twice."""
        return sum(map(len, self.sent.values())) - sum(map(len, self.received.values()))

    def verdict(self) -> Verdict:
        """What became of the messages."""
        lost = doubled = reordered = foreign = 0
        for pair in self.sent.keys() | self.received.keys():
            order = {number: place for place, number in enumerate(self.sent.get(pair, {}))}
            times = Counter(number for number, _ in self.received.get(pair, ()))
            lost += sum(number not in times for number in order)
            doubled += sum(count - 1 for count in times.values())
            foreign += sum(number not in order for number in times)
            reordered += _behind(dict.fromkeys(order[n] for n, _ in self.received.get(pair, ()) if n in order))
        return Verdict(
            sum(map(len, self.sent.values())),
            self.confirmed,
            sum(map(len, self.received.values())),
            lost,
            doubled,
            reordered,
            foreign,
        )

    def latencies(self, breaks: Iterable[tuple[float, float]] = ()) -> tuple[list[float], list[float]]:
        """From sending to coming, seconds, rising: of messages that met no break, and of those that did."""
        spans = list(breaks)
        smooth: list[float] = []
        broken: list[float] = []
        for pair, came in self.received.items():
            for number, at in came:
                since = self.sent.get(pair, {}).get(number)
                if since is not None:
                    met = any(since < end and at > start for start, end in spans)
                    (broken if met else smooth).append(at - since)
        return sorted(smooth), sorted(broken)


def percentile(values: Sequence[float], part: float) -> float:
    """Of values that rise, the one below or at which `part` (0 to 1) of them are; not a number if there are none."""
    return values[max(0, math.ceil(part * len(values)) - 1)] if values else math.nan


def _behind(places: Iterable[int]) -> int:
    """How many come behind one that is further on."""
    count, furthest = 0, -1
    for place in places:
        if place < furthest:
            count += 1
        furthest = max(furthest, place)
    return count
