"""What came of it: tables on the terminal, and docs/benchmarks.json, which keeps the rows that were not run."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .figures import Figure
from .plan import OURS, CaseResult, Column, RowResult

__all__ = ["digits", "merged", "show", "write"]


def digits(value: float, places: int) -> str:
    """With thousands apart."""
    return f"{value:,.{places}f}"


def _cell(value: Figure | None, column: Column) -> str:
    if value is None:
        return "-"
    median, least, most = (
        digits(each / column.scale, column.digits) for each in (value.median, value.least, value.most)
    )
    return median if value.runs == 1 else f"{median}  [dim]{least}…{most}[/dim]"


def show(console: Console, row: RowResult) -> None:
    """A row: each case's figures, then what the targets say."""
    console.print(f"\n[bold]{row.row}  {row.title}[/bold]")
    for case in row.cases:
        console.print(_table(case))
    for verdict in row.verdicts:
        value = verdict.value
        mark = {True: "[green]met   [/green]", False: "[red]missed[/red]", None: "[yellow]?     [/yellow]"}[verdict.met]
        found = "not measured" if value is None else digits(value.median, 2)
        spread = "" if value is None or value.runs == 1 else f" [dim]{value.least:,.2f}…{value.most:,.2f}[/dim]"
        console.print(f"  {mark} {verdict.claim}: {found}{spread}  (target {verdict.sign} {verdict.bound:,g})")
    for note in row.notes:
        console.print(Text(f"  {note}", style="dim"))


def _table(case: CaseResult) -> Table:
    table = Table(title=case.name, title_justify="left", title_style="italic", box=None, padding=(0, 2, 0, 2))
    table.add_column()
    columns = [column for column in case.columns if any(case.figure(name, column.key) for name in case.samples)]
    for column in columns:
        table.add_column(column.title, justify="right")
    if case.compared is not None:
        table.add_column(f"{OURS} ÷ it", justify="right")
    for name, samples in case.samples.items():
        if not any(samples):
            table.add_row(name, f"[red]{case.errors.get(name, 'no sample')}[/red]")
            continue
        cells = [_cell(case.figure(name, column.key), column) for column in columns]
        if case.compared is not None:
            cells.append("" if name == OURS else _cell(case.ratio(name, case.compared), Column("", "", 1, 2)))
        if name in case.errors:
            cells[0] += " [red](not all runs)[/red]"
        table.add_row(name, *cells, style="bold" if name == OURS else "")
    return table


def merged(before: dict[str, Any], rows: list[RowResult], about: dict[str, object], order: list[str]) -> dict[str, Any]:
    """The file's content: new rows in place of old ones of the same name, each with the circumstances it was run in."""
    kept = {row["row"]: row for row in before.get("rows", [])}
    at = datetime.now(UTC).isoformat(timespec="seconds")
    for row in rows:
        kept[row.row] = {**row.as_map(), "made": {"at": at, **about}}
    return {"rows": [kept[name] for name in order if name in kept]}


def write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
