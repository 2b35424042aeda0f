"""docs/benchmarks.svg: bars of the figures that matter, from what benchmarks.json holds. Light and dark by itself."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

from .style import style

__all__ = ["PANELS", "Panel", "draw"]

WIDTH, PANEL_WIDTH, GAP = 960, 460, 40
LABEL, BAR, LINE = 130, 230, 20
TOP, HEAD = 54, 46

STYLE = style(
    """
.head { font-weight: 600; }
.bar { fill: #afb8c1; }
.ours { fill: #0969da; }
.limit { fill: #6e7781; }
.range { stroke: #24292f; stroke-opacity: .55; }
.target { stroke: #cf222e; stroke-dasharray: 3 3; }
""",
    """
  .bar { fill: #484f58; }
  .ours { fill: #58a6ff; }
  .limit { fill: #6e7681; }
  .range { stroke: #e6edf3; }
""",
)


@dataclass(frozen=True)
class Panel:
    """One group of bars: a figure of a row's case, divided by `scale`. target: where a line is drawn, in that unit."""

    row: str
    case: int
    key: str
    title: str
    unit: str
    scale: float = 1.0
    target: float | None = None
    better: str = "longer is better"


PER_CPU = "thousand messages per server CPU second"
PANELS = [
    Panel("1", 0, "messages_per_cpu_s", "Fan-out to 1,000, window 1", PER_CPU, 1e3),
    Panel("1", 1, "messages_per_cpu_s", "Fan-out to 1,000, window 10", PER_CPU, 1e3),
    Panel("1", 2, "messages_per_cpu_s", "Fan-out to 1,000, window 100", PER_CPU, 1e3),
    Panel("2", 1, "messages_per_cpu_s", "Echo through a room, 200 links, window 10", PER_CPU, 1e3),
    Panel("3", 0, "messages_per_s", "Durable, person to person", "thousand messages a second", 1e3, 30),
    Panel("4", 0, "bytes_a_link", "An idle link", "bytes of process memory", 1, 1536, "shorter is better"),
    Panel("7", 0, "links_per_s", "New links, authenticated", "thousand a second", 1e3, 15),
    Panel("8", 0, "p99_us", "p99 of a heartbeat's answer, fan-out at 70 %", "ms", 1e3, 5, "shorter is better"),
]


def draw(content: dict[str, Any]) -> str:
    """The picture as SVG. Panels without figures are left out; what has none in a panel is, too."""
    rows = {row["row"]: row for row in content["rows"]}
    drawn = []
    for panel in PANELS:
        bars = _bars(panel, rows.get(panel.row))
        if bars:
            drawn.append((panel, bars))
    parts, y = [], TOP
    for first in range(0, len(drawn), 2):
        pair = drawn[first : first + 2]
        for place, (panel, bars) in enumerate(pair):
            parts.append(_panel(panel, bars, place * (PANEL_WIDTH + GAP), y))
        y += HEAD + LINE * max(len(bars) for _, bars in pair) + 26
    about = content["rows"][0]["made"]
    machine = about["machine"]
    said = (
        f"{machine['processor']}, {machine['system']}, Python {machine['python']}; server on one core, load on "
        f"another; medians of {about['runs']} runs, lines from least to most, dashes: the target"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 6}" viewBox="0 0 {WIDTH} {y + 6}" '
        f'role="img" aria-label="imcore measured beside its peers"><style>{STYLE}</style>\n'
        f'<text class="title" x="0" y="18">imcore beside its peers</text>\n'
        f'<text class="small" x="0" y="36">{escape(said)}</text>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _bars(panel: Panel, row: dict[str, Any] | None) -> list[tuple[str, float, float, float]]:
    """Name, median, least and most, in the panel's unit."""
    if row is None or panel.case >= len(row["cases"]):
        return []
    found = []
    for name, figures in row["cases"][panel.case]["contenders"].items():
        figure = figures.get(panel.key)
        if figure is not None:
            found.append((name, *(figure[key] / panel.scale for key in ("median", "least", "most"))))
    return sorted(found, key=lambda bar: bar[1], reverse=panel.better.startswith("longer"))


def _panel(panel: Panel, bars: list[tuple[str, float, float, float]], x: int, y: int) -> str:
    longest = max(*(most for _, _, _, most in bars), panel.target or 0.0) or 1.0

    def at(value: float) -> float:
        return round(x + LABEL + value / longest * BAR, 1)

    parts = [
        f'<text class="head" x="{x}" y="{y + 14}">{escape(panel.title)}</text>',
        f'<text class="small" x="{x}" y="{y + 30}">{escape(panel.unit)}; {panel.better}</text>',
    ]
    start = y + HEAD
    for i, (name, median, least, most) in enumerate(bars):
        line = start + i * LINE
        kind = "ours" if name == "imcore" else "limit" if name == "limit" else "bar"
        label = "bare C" if name == "limit" else name
        parts.append(f'<text x="{x + LABEL - 8}" y="{line + 12}" text-anchor="end">{escape(label)}</text>')
        width = max(at(median) - at(0), 1)
        parts.append(f'<rect class="{kind}" x="{at(0)}" y="{line + 2}" width="{width:.1f}" height="13" rx="2"/>')
        middle = line + 8.5
        parts.append(f'<line class="range" x1="{at(least)}" y1="{middle}" x2="{at(most)}" y2="{middle}"/>')
        parts.append(f'<text class="small" x="{at(max(median, most)) + 6}" y="{line + 12}">{_short(median)}</text>')
    if panel.target is not None:
        end, target = start + LINE * len(bars), at(panel.target)
        parts.append(f'<line class="target" x1="{target}" y1="{start - 2}" x2="{target}" y2="{end}"/>')
    return "\n".join(parts)


def _short(value: float) -> str:
    """Three digits that matter."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
