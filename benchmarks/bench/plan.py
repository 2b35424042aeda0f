"""What a row is made of: the plan that says how much is run, cases with their contenders, and what came of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..peers.base import Peer
from .figures import Figure, Sample, Verdict, figure, ratio
from .running import interleaved

__all__ = ["US", "WAITS", "CaseResult", "Column", "Contender", "Plan", "RowResult", "Sizes", "run_case"]

OURS = "imcore"

Contender = tuple[str, Callable[[], Sample]]


@dataclass(frozen=True)
class Sizes:
    """How many of each; the defaults are those of the targets. tries: of a run that others disturb."""

    members: int = 1000
    echo: int = 200
    pairs: int = 200
    idle: int = 15_000
    rounds: int = 120
    quiet_s: float = 35.0
    users: int = 2000
    strangers: int = 200_000
    growth: tuple[int, ...] = (100, 1000, 10_000)
    slow: int = 1000
    slow_seconds: float = 8.0  # in less, the kernel's buffers take it all
    big: int = 100
    file: int = 100_000_000
    uploads: int = 100
    media_s: float = 10.0
    flood: int = 1000
    tries: int = 3

    @classmethod
    def small(cls) -> Sizes:
        """To see that everything works, not to measure."""
        return cls(
            members=10, echo=4, pairs=4, idle=20, rounds=2, quiet_s=0, users=10, strangers=5000, growth=(4, 8), slow=5,
            slow_seconds=0.3, big=3, file=1_000_000, uploads=3, media_s=0.3, flood=20, tries=1,
        )  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """runs: of each contender. seconds: measured in each. tell: shows what is being done. left_out: who is not here."""

    runs: int
    seconds: float
    sizes: Sizes
    folder: Path
    tell: Callable[[str], None]
    left_out: dict[str, str] = field(default_factory=dict)

    def able(self, peers: Sequence[Peer]) -> list[Peer]:
        """Those that are here; the others are put on record."""
        for peer in peers:
            why = peer.missing()
            if why is not None:
                self.left_out[peer.name] = why
        return [peer for peer in peers if peer.name not in self.left_out]

    def within(self, text: str) -> Plan:
        """The same plan, whose progress begins with this."""
        return replace(self, tell=lambda more: self.tell(f"{text} · {more}"))


@dataclass(frozen=True)
class Column:
    """A figure of the samples. scale: what the raw value is divided by. digits: after the point."""

    key: str
    title: str
    scale: float = 1.0
    digits: int = 0


US = 1000.0
"""Samples hold microseconds, tables show milliseconds."""
WAITS = [
    Column("p50_us", "p50, ms", US, 3),
    Column("p99_us", "p99, ms", US, 2),
    Column("max_us", "worst, ms", US, 2),
]
"""How long whoever is watched waited for each answer."""


@dataclass
class CaseResult:
    """Samples by contender and run. compared: the figure of which ratios are shown, ours to each other's."""

    name: str
    columns: list[Column]
    samples: dict[str, list[Sample | None]]
    errors: dict[str, str]
    compared: str | None = None

    def figure(self, contender: str, key: str) -> Figure | None:
        return figure([each[key] for each in self.samples.get(contender, []) if each is not None and key in each])

    def ratio(self, other: str, key: str, ours: str = OURS) -> Figure | None:
        """Ours to another's, run by run."""
        return ratio(self.samples.get(ours, []), self.samples.get(other, []), key)

    def as_map(self) -> dict[str, object]:
        contenders: dict[str, object] = {}
        for name, samples in self.samples.items():
            if name in self.errors and not any(samples):
                contenders[name] = {"error": self.errors[name]}
                continue
            keys = dict.fromkeys(key for each in samples if each is not None for key in each)
            found: dict[str, object] = {
                key: value.as_map() for key in keys if (value := self.figure(name, key)) is not None
            }
            if name in self.errors:
                found["error"] = self.errors[name]
            contenders[name] = found
        ratios = {}
        if self.compared is not None:
            others = [name for name in self.samples if name != OURS]
            ratios = {
                f"{OURS} / {name}": value.as_map()
                for name in others
                if (value := self.ratio(name, self.compared)) is not None
            }
        return {"case": self.name, "contenders": contenders, "ratios": ratios, "ratios_of": self.compared}


@dataclass
class RowResult:
    """A row of the table. notes: what must be known to read it."""

    row: str
    title: str
    cases: list[CaseResult]
    verdicts: list[Verdict]
    notes: list[str] = field(default_factory=list)

    def as_map(self) -> dict[str, object]:
        return {
            "row": self.row,
            "title": self.title,
            "cases": [case.as_map() for case in self.cases],
            "verdicts": [verdict.as_map() for verdict in self.verdicts],
            "notes": self.notes,
        }


def run_case(
    plan: Plan, name: str, contenders: Sequence[Contender], columns: list[Column], compared: str | None = None
) -> CaseResult:
    """Run the contenders of a case in turns. Ours is tried in every run, whatever became of it before."""
    tell = plan.within(name).tell
    samples, errors = interleaved(contenders, plan.runs, plan.sizes.tries, tell, lambda who: who.startswith(OURS))
    return CaseResult(name, columns, samples, errors, compared)
