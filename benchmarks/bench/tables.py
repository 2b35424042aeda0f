"""Tables of the documents that are figures of the bench: written between two marks, so that none is copied by hand.

`<!-- bench:NAME -->` and `<!-- /bench -->` on lines of their own; what stands between them is replaced.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from .apart import CASES
from .report import digits

__all__ = ["fill"]

MARKED = re.compile(r"(<!-- bench:(\w+) -->\n).*?(<!-- /bench -->\n)", re.DOTALL)


def fill(document: str, content: dict[str, Any]) -> str:
    """The document, with tables of those rows that `benchmarks.json` has; what it lacks stays as it is."""
    rows = {row["row"]: row for row in content["rows"]}

    def table(found: re.Match[str]) -> str:
        name = found[2]
        if name not in TABLES or name not in rows:
            return found[0]
        row = rows[name]
        lines = TABLES[name](row["cases"][0]["contenders"])
        return f"{found[1]}{_made(name, row['made'])}\n\n{chr(10).join(lines)}\n{found[3]}"

    return MARKED.sub(table, document)


def _made(name: str, made: dict[str, Any]) -> str:
    command = f"make bench ROWS={name} RUNS={made['runs']} SECONDS={made['seconds']:g}"
    return f"{made['machine']['processor']}, median of {made['runs']} runs, least to most in brackets (`{command}`):"


def _cell(figures: dict[str, Any] | None, key: str, scale: float = 1.0, places: int = 0) -> str:
    figure = (figures or {}).get(key)
    if figure is None:
        return "-"
    median, least, most = (digits(figure[each] / scale, places) for each in ("median", "least", "most"))
    return f"{median} ({least} to {most})"


def _redis(contenders: dict[str, Any]) -> list[str]:
    lines = [
        "| `appendfsync` | messages per second of the gateway's core | microseconds of it a message | by the clock |",
        "| --- | --- | --- | --- |",
    ]
    for sync in ("everysec", "always"):
        figures = contenders.get(f"imcore, {sync}")
        cells = [
            _cell(figures, "messages_per_cpu_s"), _cell(figures, "cpu_ns", 1000), _cell(figures, "messages_per_s")
        ]  # fmt: skip
        lines.append(f"| `{sync}` | {' | '.join(cells)} |")
    return lines


def _split(contenders: dict[str, Any]) -> list[str]:
    lines = [
        "| ACK after, ms | p50, alone | p50, flooded | p99, alone | p99, flooded |",
        "| --- | --- | --- | --- | --- |",
    ]
    for case in CASES:
        cells = [
            _cell(contenders.get(f"{case}, {how}"), key, 1000, 2)
            for key in ("p50_us", "p99_us")
            for how in ("alone", "flooded")
        ]
        lines.append(f"| {case} | {' | '.join(cells)} |")
    return lines


def _short(contenders: dict[str, Any]) -> list[str]:
    figures = contenders.get("imcore")
    cells = [_cell(figures, "links_per_s"), _cell(figures, "p50_us", 1000, 2), _cell(figures, "p99_us", 1000, 2)]
    return [
        "| short connections a second, one core | p50, ms | p99, ms |",
        "| --- | --- | --- |",
        f"| {' | '.join(cells)} |",
    ]


TABLES: dict[str, Callable[[dict[str, Any]], list[str]]] = {"redis": _redis, "split": _split, "short": _short}
