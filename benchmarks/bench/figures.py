"""The arithmetic: medians with their range, ratios within a run, and whether a target is met."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

__all__ = ["Figure", "Sample", "Verdict", "at_least", "at_most", "figure", "ratio"]

Sample = dict[str, float]
"""What one run of one contender gave, by name."""


@dataclass(frozen=True)
class Figure:
    """The median of some runs, with the least and the most of them."""

    median: float
    least: float
    most: float
    runs: int

    def as_map(self) -> dict[str, float]:
        return {key: round(value, 4) for key, value in asdict(self).items()}


def figure(values: Sequence[float]) -> Figure | None:
    """None if there are no values."""
    if not values:
        return None
    return Figure(statistics.median(values), min(values), max(values), len(values))


def ratio(ours: Sequence[Sample | None], others: Sequence[Sample | None], name: str) -> Figure | None:
    """Ours to others', run by run: only runs that both have, so that what slows the machine slows both."""
    pairs = [(a[name], b[name]) for a, b in zip(ours, others, strict=False) if a is not None and b is not None]
    return figure([a / b for a, b in pairs if b > 0])


@dataclass(frozen=True)
class Verdict:
    """A target, what was measured, and whether it is met; None where it could not be measured."""

    claim: str
    sign: Literal["≥", "≤"]
    bound: float
    value: Figure | None

    @property
    def met(self) -> bool | None:
        if self.value is None:
            return None
        return self.value.median >= self.bound if self.sign == "≥" else self.value.median <= self.bound

    def as_map(self) -> dict[str, object]:
        return {
            "claim": self.claim,
            "target": f"{self.sign} {self.bound:g}",
            "value": self.value.as_map() if self.value is not None else None,
            "met": self.met,
        }


def at_least(claim: str, bound: float, value: Figure | None) -> Verdict:
    return Verdict(claim, "≥", bound, value)


def at_most(claim: str, bound: float, value: Figure | None) -> Verdict:
    return Verdict(claim, "≤", bound, value)
