"""Try every way in from here, and say which ones pass, how fast they are, and what stands in the way of the others.

Exit code 0 if there is a way in. It needs no token, and sends no message.
"""

from __future__ import annotations

import argparse

import msgspec
import uvloop
from rich.console import Console
from rich.live import Live
from rich.table import Table

from ..access_list import Direction
from ..ways.candidate import Candidate
from ..ways.outcomes import Outcome
from ..ways.sources import Heard
from ..ways.survey import Found, survey
from ..ways.ways import Ways
from . import options

__all__ = ["HELP", "Diagnosis", "add_arguments", "run"]

HELP = "try every way in, and say what stands in the way"


class Source(msgspec.Struct, frozen=True):
    """One that was asked for access points."""

    source: str
    outcome: str
    text: str
    took_ms: float


class Way(msgspec.Struct, frozen=True):
    """One way in."""

    machine: str
    host: str
    """The name that its certificate is held against; the same where it has none."""
    port: int
    way: str
    outcome: str
    text: str
    level: int
    connect_ms: float | None
    first_ms: float | None
    whole_ms: float | None


class Diagnosis(msgspec.Struct):
    """All that was found."""

    sources: list[Source] = []
    ways: list[Way] = []

    @property
    def good(self) -> bool:
        """There is a way in."""
        return any(way.outcome == Outcome.OK.name for way in self.ways)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    options.add_ways(parser)
    parser.add_argument("--direction", choices=("down", "up"), default="down", help="what for (%(default)s)")
    parser.add_argument("--json", action="store_true", help="the result as JSON on standard output")


def run(args: argparse.Namespace) -> int:
    """Look, and tell."""
    ways = Ways.known(
        options.points(args), args.access, options.keys(args), args.memory, "doctor", None, proxy=options.proxy(args)
    )
    diagnosis = uvloop.run(_look(ways, args.direction, live=not args.json))
    if args.json:
        print(msgspec.json.encode({"good": diagnosis.good, **msgspec.to_builtins(diagnosis)}).decode())
    elif not diagnosis.good:
        print("There is no way in from here.")
    return 0 if diagnosis.good else 1


async def _look(ways: Ways, direction: Direction, *, live: bool) -> Diagnosis:
    diagnosis = Diagnosis()
    rows: dict[Candidate, Found | None] = {}
    console = Console(highlight=False, markup=False)

    def hear(heard: Heard) -> None:
        diagnosis.sources.append(Source(heard.source, heard.outcome, heard.text, round(heard.took_s * 1000, 1)))

    def tell(candidate: Candidate, found: Found | None) -> None:
        rows[candidate] = found
        if view is not None:
            view.update(_table(diagnosis.sources, rows), refresh=console.is_terminal)

    view = Live(_table([], rows), console=console, auto_refresh=False) if live else None
    if view is None:
        found = await survey(ways, direction, hear, tell)
    else:
        with view:
            found = await survey(ways, direction, hear, tell)
            view.update(_table(diagnosis.sources, rows), refresh=True)
    diagnosis.ways = [_way(one) for one in sorted(found, key=_place)]
    return diagnosis


def _place(found: Found) -> tuple[str, int, str]:
    return (found.candidate.machine, found.candidate.point.port, found.candidate.point.scheme)


def _way(found: Found) -> Way:
    times = (found.connect_ms, found.first_ms, found.whole_ms)
    machine, port, way = _place(found)
    return Way(machine, found.candidate.point.host, port, way, found.outcome, found.text, found.level, *times)


def _table(sources: list[Source], rows: dict[Candidate, Found | None]) -> Table:
    page = Table.grid(padding=(1, 0))
    asked = Table("source", "outcome", "ms", "what it said", title="who knows access points")
    for source in sources:
        asked.add_row(source.source, source.outcome, f"{source.took_ms:.1f}", source.text)
    matrix = Table(
        "access point", "port", "way", "outcome", "connected", "answered", "in words", title="ways in, times in ms"
    )
    for candidate in sorted(rows, key=lambda one: (one.machine, one.point.port, one.point.scheme)):
        found = rows[candidate]
        host = candidate.point.host
        machine = candidate.machine if host == candidate.machine else f"{candidate.machine} ({host})"
        where = (machine, str(candidate.point.port), candidate.point.scheme)
        if found is None:
            matrix.add_row(*where, "…")
        else:
            matrix.add_row(*where, found.outcome, _ms(found.connect_ms), _ms(found.whole_ms), found.text)
    page.add_row(asked)
    page.add_row(matrix)
    return page


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
