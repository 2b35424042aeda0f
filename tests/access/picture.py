"""docs/access.svg: at which points each carrier's devices win their races, minute by minute, and one point's level.

`python -m tests.access.picture docs/access.svg`
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from benchmarks.bench.style import style
from tests.access.world import CARRIERS, World

__all__ = ["BUSY", "LENGTH_S", "draw", "played"]

LENGTH_S = 900
BUSY = 420, 600
"""When other work fills the machine of one point, seconds."""
STEP_S = 20
LEFT, RIGHT, WIDTH = 84, 150, 900
PANEL, GAP, TOP = 92, 30, 62
LEVELS = 60

STYLE = style(
    """
.p0 { fill: #0969da; } .p1 { fill: #54aeff; } .p2 { fill: #b6e3ff; } .p3 { fill: #8c959f; } .p4 { fill: #d0d7de; }
.level { fill: none; stroke: #cf222e; stroke-width: 2; }
.busy { fill: #cf222e; fill-opacity: .08; }
.axis { stroke: #57606a; stroke-opacity: .4; }
""",
    """
  .p0 { fill: #58a6ff; } .p1 { fill: #1f6feb; } .p2 { fill: #0c2d6b; } .p3 { fill: #6e7681; } .p4 { fill: #30363d; }
""",
)


def played() -> World:
    """The world of the picture, at its end."""
    world = World(busy_from=BUSY[0], busy_to=BUSY[1])
    world.run(LENGTH_S)
    return world


def draw(world: World, busy_from: float, busy_to: float) -> str:
    """The picture as SVG."""
    bottom = TOP + len(CARRIERS) * (PANEL + GAP)
    height = bottom + LEVELS + 54
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'role="img" aria-label="Where the devices of three carriers win their races"><style>{STYLE}</style>',
        '<text class="title" x="0" y="18">Where the devices of three carriers win their races</text>',
        f'<text class="small" x="0" y="36">share of the races of each {STEP_S} s; 200 devices, one in ten lies; '
        "simulated, ordered by the real ranking</text>",
        f'<rect class="busy" x="{_x(busy_from)}" y="{TOP - 8}" width="{_x(busy_to) - _x(busy_from):.1f}" '
        f'height="{bottom + LEVELS - TOP + 8}"/>',
    ]
    for number, carrier in enumerate(CARRIERS):
        parts += _panel(world, carrier, TOP + number * (PANEL + GAP))
    parts += _levels(world, bottom)
    parts += [
        f'<text class="small" x="{_x(minute * 60)}" y="{bottom + LEVELS + 18}" text-anchor="middle">{minute}</text>'
        for minute in range(0, LENGTH_S // 60 + 1, 2)
    ]
    parts.append(
        f'<text class="small" x="{_x(LENGTH_S / 2)}" y="{bottom + LEVELS + 36}" text-anchor="middle">minutes</text>'
    )
    return "\n".join([*parts, "</svg>\n"])


def _panel(world: World, carrier: str, y: int) -> list[str]:
    """One carrier: its own points from the fastest on, then those with all lines, then the rest."""
    own = [world.best(carrier, place) for place in range(3)]
    kinds = {name: place for place, name in enumerate(own)} | {"all-1": 3, "all-2": 3}
    parts = [f'<text x="{LEFT - 10}" y="{y + PANEL / 2 + 4}" text-anchor="end">{carrier}</text>']
    for start in range(0, LENGTH_S, STEP_S):
        won = Counter(
            kinds.get(point, 4) for at, of, point in world.winners if of == carrier and start < at <= start + STEP_S
        )
        below = 0.0
        for kind in range(5):
            share = won[kind] / max(won.total(), 1) * PANEL
            if share:
                top = y + PANEL - below - share
                parts.append(
                    f'<rect class="p{kind}" x="{_x(start)}" y="{top:.1f}" width="{_x(start + STEP_S) - _x(start):.1f}" '
                    f'height="{share:.1f}"/>'
                )
            below += share
    far = [f"{name}, {world.distance[carrier, name]:.0f} ms" for name in own]
    for kind, text in enumerate([*far, "points with all lines", "other carriers' points"]):
        line = y + 8 + kind * 17
        parts.append(f'<rect class="p{kind}" x="{WIDTH - RIGHT + 12}" y="{line}" width="10" height="10"/>')
        parts.append(f'<text class="small" x="{WIDTH - RIGHT + 28}" y="{line + 9}">{text}</text>')
    return parts


def _levels(world: World, y: int) -> list[str]:
    busy = world.best(CARRIERS[0])
    path: list[str] = []
    last = -1
    for at, level in world.levels_seen:
        height = y + LEVELS * (1 - level / 4)
        if level != last:
            path.append(f"M{_x(at)} {height}" if not path else f"H{_x(at)} V{height}")
            last = level
    path.append(f"H{_x(LENGTH_S)}")
    return [
        f'<text x="{LEFT - 10}" y="{y + LEVELS / 2}" text-anchor="end">level of</text>',
        f'<text x="{LEFT - 10}" y="{y + LEVELS / 2 + 15}" text-anchor="end">{busy}</text>',
        *(
            f'<text class="small" x="{WIDTH - RIGHT + 12}" y="{y + LEVELS * (1 - level / 4) + 4}">{level}</text>'
            for level in (0, 2, 4)
        ),
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y + LEVELS}" y2="{y + LEVELS}"/>',
        f'<path class="level" d="{" ".join(path)}"/>',
    ]


def _x(seconds: float) -> float:
    return round(LEFT + seconds / LENGTH_S * (WIDTH - LEFT - RIGHT), 1)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(draw(played(), *BUSY))
