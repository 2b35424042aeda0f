"""Row 9: what a message costs when there are more links."""

from __future__ import annotations

from functools import partial

from ..peers.frames import Imcore
from .durable import person_to_person
from .figures import Figure, Sample, at_most, figure
from .plan import CaseResult, Column, Contender, Plan, RowResult, run_case
from .running import wireload

__all__ = ["row", "spread"]

WINDOW = 10
COLUMNS = [
    Column("cpu_ns", "server CPU a message, ns"),
    Column("messages_per_s", "messages a second"),
]


def row(plan: Plan) -> RowResult:
    """Row 9."""
    rooms: list[Contender] = [
        (_links(count), partial(wireload, Imcore(), "fanout", count, WINDOW, plan.seconds))
        for count in plan.sizes.growth
    ]
    people: list[Contender] = [
        (_links(count), partial(person_to_person, Imcore(), count // 2, plan.seconds)) for count in plan.sizes.growth
    ]
    cases = [
        run_case(plan, f"fan-out, window {WINDOW}", rooms, COLUMNS),
        run_case(plan, f"person to person, window {WINDOW}", people, COLUMNS),
    ]
    claim = f"{{}}: dearest ÷ cheapest of {', '.join(f'{count:,}' for count in plan.sizes.growth)} links"
    verdicts = [at_most(claim.format(case.name), 1.3, spread(case, "cpu_ns")) for case in cases]
    return RowResult("9", "growth: the cost of a message", cases, verdicts)


def _links(count: int) -> str:
    return f"{count:,} links"


def spread(case: CaseResult, key: str) -> Figure | None:
    """The largest value of a run to its least, over the contenders; of runs that all of them ended."""
    runs: list[tuple[Sample | None, ...]] = list(zip(*case.samples.values(), strict=True))
    whole = [[each[key] for each in run if each is not None] for run in runs]
    return figure([max(values) / min(values) for values in whole if len(values) == len(case.samples)])
