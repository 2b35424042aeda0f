"""docs/split.svg: what row split found, on a logarithmic scale: a bar from p50 to p99, alone and flooded."""

from __future__ import annotations

import math
from html import escape
from typing import Any

from .apart import CASES
from .style import style

__all__ = ["draw"]

WIDTH, LABEL, SCALE = 760, 250, 430
LINE, GAP, TOP = 18, 14, 62
LEAST_MS, MOST_MS = 0.1, 10_000.0

STYLE = style(
    """
.alone { fill: #afb8c1; }
.flooded { fill: #0969da; }
.grid { stroke: #57606a; stroke-opacity: .25; }
""",
    """
  .alone { fill: #6e7681; }
  .flooded { fill: #58a6ff; }
""",
)


def draw(row: dict[str, Any]) -> str:
    """The picture as SVG. Who has no figures is left out."""
    contenders, made = row["cases"][0]["contenders"], row["made"]
    parts, y = [], float(TOP)
    for case in CASES:
        shown = False
        for how in ("alone", "flooded"):
            figures = contenders.get(f"{case}, {how}", {})
            if "p50_us" in figures and "p99_us" in figures:
                parts.append(_bar(f"{case}, {how}", how, figures, y))
                y += LINE
                shown = True
        y += GAP if shown else 0
    said = f"{made['machine']['processor']}; medians of {made['runs']} runs; a bar goes from p50 to p99"
    height = round(y + 34)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'role="img" aria-label="How long a send waits for its ACK, on one link and on two"><style>{STYLE}</style>\n'
        f'<text class="title" x="0" y="18">A send waits for its ACK: alone, and while rooms are at full load</text>\n'
        f'<text class="small" x="0" y="38">{escape(said)}</text>\n{_grid(y)}\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _at(ms: float) -> float:
    share = math.log10(min(max(ms, LEAST_MS), MOST_MS) / LEAST_MS) / math.log10(MOST_MS / LEAST_MS)
    return round(LABEL + share * SCALE, 1)


def _bar(name: str, how: str, figures: dict[str, Any], y: float) -> str:
    p50, p99 = (figures[key]["median"] / 1000 for key in ("p50_us", "p99_us"))
    begin, end = _at(p50), _at(p99)
    return (
        f'<text x="{LABEL - 8}" y="{y + 12}" text-anchor="end">{escape(name)}</text>'
        f'<rect class="{how}" x="{begin}" y="{y + 2}" width="{max(end - begin, 3):.1f}" height="13" rx="2"/>'
        f'<text class="small" x="{max(end, begin + 3) + 6}" y="{y + 12}">{_ms(p99)}</text>'
    )


def _grid(bottom: float) -> str:
    lines = []
    ms = LEAST_MS
    while ms <= MOST_MS * 1.001:
        x = _at(ms)
        lines.append(f'<line class="grid" x1="{x}" y1="{TOP - 6}" x2="{x}" y2="{bottom}"/>')
        lines.append(f'<text class="small" x="{x}" y="{bottom + 16}" text-anchor="middle">{_ms(ms)}</text>')
        ms *= 10
    return "\n".join(lines)


def _ms(value: float) -> str:
    return f"{value / 1000:.3g} s" if value >= 1000 else f"{value:.3g} ms"
