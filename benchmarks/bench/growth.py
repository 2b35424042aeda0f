"""Row 9: what a message costs when there are more links, to us and to the bare C server on the same kernel."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ..peers.base import Peer
from ..peers.frames import Imcore
from .durable import person_to_person
from .figures import Figure, Sample, at_most, figure
from .plan import CaseResult, Column, Contender, Plan, RowResult, run_case
from .running import wireload
from .throughput import limit

__all__ = ["excess", "row", "spread"]

WINDOW = 10
COLUMNS = [
    Column("cpu_ns", "server CPU a message, ns"),
    Column("messages_per_s", "messages a second"),
]


def row(plan: Plan) -> RowResult:
    """Row 9."""
    counts = plan.sizes.growth
    rooms: list[Contender] = [
        (_links(count, peer), partial(wireload, peer, "fanout", count, WINDOW, plan.seconds))
        for peer in (Imcore(), limit())
        for count in counts
    ]
    people: list[Contender] = [
        (_links(count, Imcore()), partial(person_to_person, Imcore(), count // 2, plan.seconds)) for count in counts
    ]
    cases = [
        run_case(plan, f"fan-out, window {WINDOW}", rooms, COLUMNS),
        run_case(plan, f"person to person, window {WINDOW}", people, COLUMNS),
    ]
    ours = [_links(count, Imcore()) for count in counts]
    claim = f"{{}}: dearest ÷ cheapest of {', '.join(f'{count:,}' for count in counts)} links"
    verdicts = [at_most(claim.format(case.name), 1.3, spread(case, "cpu_ns", ours)) for case in cases]
    bare = [_links(count, limit()) for count in counts]
    verdicts.append(
        at_most(f"{cases[0].name}: that growth ÷ the bare C server's", 1.3, excess(cases[0], "cpu_ns", ours, bare))
    )
    return RowResult("9", "growth: the cost of a message", cases, verdicts)


def _links(count: int, peer: Peer) -> str:
    return f"{peer.name}, {count:,} links"


def spread(case: CaseResult, key: str, names: Sequence[str]) -> Figure | None:
    """The largest value of a run to its least, over these contenders; of runs that all of them ended."""
    return figure([value for value in _spreads(case, key, names) if value is not None])


def excess(case: CaseResult, key: str, names: Sequence[str], others: Sequence[str]) -> Figure | None:
    """The spread over these contenders to that over the others, run by run."""
    pairs = zip(_spreads(case, key, names), _spreads(case, key, others), strict=True)
    return figure([ours / theirs for ours, theirs in pairs if ours is not None and theirs is not None])


def _spreads(case: CaseResult, key: str, names: Sequence[str]) -> list[float | None]:
    runs: list[tuple[Sample | None, ...]] = list(zip(*(case.samples[name] for name in names), strict=True))
    whole = [[each[key] for each in run if each is not None] for run in runs]
    return [max(values) / min(values) if len(values) == len(names) else None for values in whole]
