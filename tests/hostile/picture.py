"""The run as a picture: for each network when the first message passed, how long a break silenced whom, and faults."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from .case import Case
from .run import Outcome
from .targets import FIRST_MOST_S

__all__ = ["picture"]

COLOURS = {"imcore": "#0072b2", "MQTT": "#d55e00", "Socket.IO": "#009e73", "WebSocket": "#999999"}
"""That people with other eyes tell apart, too (Okabe and Ito)."""
ROW, LEFT, TOP, PANEL, GAP, FIELD = 17, 190, 58, 270, 34, 46
LEAST_S, MOST_S = 0.02, 60.0
NEVER = 18
"""Behind the axis: who never came through."""
MARKS = (0.05, 0.2, 1, 5, 20)


def picture(found: Sequence[tuple[Case, dict[str, Outcome]]]) -> str:
    """In SVG."""
    names = [name for name in COLOURS if any(name in by for _, by in found)]
    first, silence = LEFT, LEFT + PANEL + GAP
    faults = silence + PANEL + GAP
    width, height = faults + FIELD * len(names) + 12, TOP + ROW * len(found) + 14
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        *_legend(names),
        *_axis(first, "to the first message, s", len(found)),
        *_axis(silence, "silence after a break, s", len(found)),
        f'<text x="{faults + FIELD * len(names) / 2}" y="34" text-anchor="middle">faults</text>',
    ]
    for number, (case, by) in enumerate(found):
        y = TOP + ROW * number
        if number % 2:
            parts.append(f'<rect x="0" y="{y}" width="{width}" height="{ROW}" fill="black" opacity="0.04"/>')
        parts.append(f'<text x="{LEFT - 10}" y="{y + 12}" text-anchor="end">{escape(case.name)}</text>')
        for column, name in reversed(list(enumerate(names))):  # ours on top
            outcome = by.get(name)
            if outcome is None or outcome.result is None:
                continue
            result = outcome.result
            through = None not in (result.up_s, result.down_s)
            if case.open_way:
                parts.append(_dot(first, y, name, max(result.up_s or 0, result.down_s or 0) if through else None))
            silences = [*result.silences_s, *([outcome.after_idle_s] if case.idle_s else [])]
            if silences and through:
                worst = None if None in silences else max(each for each in silences if each is not None)
                parts.append(_dot(silence, y, name, worst))
            parts += _fault(faults + FIELD * column, y, name, result.faults if through else None)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend(names: Sequence[str]) -> list[str]:
    parts = []
    for number, name in enumerate(names):
        x = LEFT + number * 110
        weight = ' font-weight="bold"' if number == 0 else ""
        parts.append(f'<circle cx="{x + 6}" cy="11" r="5" fill="{COLOURS[name]}"/>')
        parts.append(f'<text x="{x + 16}" y="15"{weight}>{name}</text>')
    return parts


def _axis(left: float, title: str, rows: int) -> list[str]:
    bottom = TOP + ROW * rows
    parts = [f'<text x="{left + PANEL / 2}" y="34" text-anchor="middle">{title}</text>']
    for mark in MARKS:
        x, limit = _x(left, mark), mark == FIRST_MOST_S
        line = 'stroke="#c00" stroke-dasharray="4 3"' if limit else 'stroke="#ccc"'
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 4}" y2="{bottom}" {line}/>')
        parts.append(f'<text x="{x:.1f}" y="{TOP - 8}" text-anchor="middle" fill="#555">{mark:g}</text>')
    x = left + PANEL - NEVER / 2
    parts.append(f'<text x="{x}" y="{TOP - 8}" text-anchor="middle" fill="#555">never</text>')
    return parts


def _x(left: float, seconds: float) -> float:
    share = math.log(min(max(seconds, LEAST_S), MOST_S) / LEAST_S) / math.log(MOST_S / LEAST_S)
    return left + share * (PANEL - 2 * NEVER)


def _dot(left: float, y: float, name: str, seconds: float | None) -> str:
    """seconds: None = never."""
    middle, colour = y + ROW / 2, COLOURS[name]
    if seconds is None:
        x = left + PANEL - NEVER / 2 + (list(COLOURS).index(name) - 1.5) * 7
        return f'<path d="M{x - 3} {middle - 3}l6 6m0 -6l-6 6" stroke="{colour}" stroke-width="2"/>'
    radius = 5 if name == "imcore" else 4
    return f'<circle cx="{_x(left, seconds):.1f}" cy="{middle}" r="{radius}" fill="{colour}" fill-opacity="0.85"/>'


def _fault(x: float, y: float, name: str, faults: int | None) -> list[str]:
    """How many; None = nothing ever passed."""
    middle = x + FIELD / 2
    if faults is None:
        return [f'<text x="{middle}" y="{y + 12}" text-anchor="middle" fill="#999">-</text>']
    if not faults:
        return [f'<circle cx="{middle}" cy="{y + ROW / 2}" r="2.5" fill="{COLOURS[name]}"/>']
    return [
        f'<rect x="{x + 3}" y="{y + 2}" width="{FIELD - 6}" height="{ROW - 4}" rx="3" fill="#c00"/>',
        f'<text x="{middle}" y="{y + 12}" text-anchor="middle" fill="white">{faults}</text>',
    ]
