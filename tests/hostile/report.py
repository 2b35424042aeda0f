"""The page that a run writes: a table for who wants figures, a picture for who wants to look."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from .case import Case
from .run import Outcome

__all__ = ["page", "picture", "write"]

GOOD, SLOW, BAD, DEAD = "#2e7d32", "#f9a825", "#c62828", "#616161"
SOON_S = 5.0

_PAGE = """# Hostile networks

What became of messages on the networks that break channels: a phone, its carrier and a gateway, each a host of its own
(network namespaces), real proxies (squid, tinyproxy, nginx, haproxy) and packet filters between them, and a radio that
delays, loses and freezes packets. `make hostile` makes these networks, runs everything on them, and writes this page.
The phone sends four messages a second up and gets the echo of each and two others a second down, unless the case says
otherwise.

![Each network and what passed it](hostile-networks.svg)

- *first*: seconds from the start to the first message that was confirmed, and to the first that came down.
- *alone*: the same, up, for a client that was told only of the best way that is open: what the network itself takes.
- *silence*: seconds after a break until messages went both ways again; after a time without any way, from its end.
- *faults*: messages lost, doubled and reordered, of those that were confirmed, and of those that came down.
- *bytes*: IP packets of both directions for each message, from the first SYN on.

{table}

The others were set up as their manuals advise for who must not miss anything, and know one name, `im.test`: MQTT is
paho against mosquitto, QoS 1, sessions kept, port 1883; Socket.IO is the server from npm with connection state recovery
and python-socketio, port 80, each message answered, and sent again when it was not; WebSocket is the library
`websockets`, which connects again by itself, port 80, and has no acknowledgements: there the echo counts as one.
They ran for {others_s:.0f} s each, imcore for a minute. "never": not within that time.

{notes}
Made by `make hostile` on {machine}.
"""


def page(outcomes: Sequence[Outcome], others_s: float) -> str:
    """The page in Markdown."""
    rows = ["| network | alone | " + " | ".join(_head(who) for who in _names(outcomes)) + " |"]
    rows.append("|" + " --- |" * (2 + len(_names(outcomes))))
    for case, found in _cases(outcomes):
        own = found.get("imcore")
        alone = _seconds(own.alone_s) if own is not None and case.open_way else "-"
        cells = [_cell(found.get(who)) for who in _names(outcomes)]
        rows.append(f"| **{case.name}**: {case.network} | {alone} | " + " | ".join(cells) + " |")
    failed = [f"{each.case.name}, {each.who}: {each.failed}" for each in outcomes if each.failed]
    notes = "".join(f"- Not run: {line}\n" for line in failed)
    machine = f"{platform.system()} {platform.release().split('-')[0]}, Python {platform.python_version()}"
    return _PAGE.format(table="\n".join(rows), others_s=others_s, notes=notes, machine=machine)


def picture(outcomes: Sequence[Outcome]) -> str:
    """The picture in SVG: a field for each network and contender, by the worst that happened there."""
    names, cases = _names(outcomes), _cases(outcomes)
    width, height, left, top = 130, 22, 190, 34
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width * len(names) + 10}" '
        f'height="{top + height * len(cases) + 40}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for column, who in enumerate(names):
        parts.append(
            f'<text x="{left + column * width + width / 2}" y="22" text-anchor="middle" font-weight="bold">{who}</text>'
        )
    for row, (case, found) in enumerate(cases):
        y = top + row * height
        parts.append(f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">{escape(case.name)}</text>')
        for column, who in enumerate(names):
            colour, text = _field(found.get(who))
            x = left + column * width
            parts.append(f'<rect x="{x + 1}" y="{y + 1}" width="{width - 2}" height="{height - 2}" fill="{colour}"/>')
            parts.append(f'<text x="{x + width / 2}" y="{y + 15}" text-anchor="middle" fill="white">{text}</text>')
    legend = [(GOOD, "all came, soon"), (SLOW, "all came, late"), (BAD, "lost, doubled, reordered"), (DEAD, "nothing")]
    for number, (colour, text) in enumerate(legend):
        x, y = left + number * 165, top + len(cases) * height + 14
        parts.append(f'<rect x="{x}" y="{y}" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{x + 17}" y="{y + 10}">{text}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def write(folder: Path, outcomes: Sequence[Outcome], others_s: float) -> None:
    """Both, into the documents."""
    (folder / "hostile-networks.md").write_text(page(outcomes, others_s), encoding="utf-8")
    (folder / "hostile-networks.svg").write_text(picture(outcomes), encoding="utf-8")


def _names(outcomes: Iterable[Outcome]) -> list[str]:
    return list(dict.fromkeys(outcome.who for outcome in outcomes))


def _cases(outcomes: Iterable[Outcome]) -> list[tuple[Case, dict[str, Outcome]]]:
    found: dict[str, tuple[Case, dict[str, Outcome]]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.case.name, (outcome.case, {}))[1][outcome.who] = outcome
    return list(found.values())


def _head(who: str) -> str:
    return f"{who}: first up / down; silence; faults; bytes"


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.2f}" if value < SOON_S else f"{value:.1f}"


def _cell(outcome: Outcome | None) -> str:
    if outcome is None or outcome.result is None:
        return "-"
    result = outcome.result
    if result.up_s is None and result.down_s is None:
        return "never"
    silence = ", ".join(map(_seconds, result.silences_s)) or "-"
    faults = f"{result.lost} / {result.doubled} / {result.reordered}" if result.faults else "0"
    bytes_each = outcome.bytes // max(1, result.messages)
    return f"{_seconds(result.up_s)} / {_seconds(result.down_s)}; {silence}; {faults}; {bytes_each}"


def _field(outcome: Outcome | None) -> tuple[str, str]:
    """Colour and words."""
    if outcome is None or outcome.result is None:
        return DEAD, "not run"
    result = outcome.result
    if result.up_s is None or result.down_s is None:
        return DEAD, "never"
    if result.faults:
        return BAD, f"{result.lost} lost, {result.doubled} doubled" if result.lost or result.doubled else "reordered"
    first = max(result.up_s, result.down_s)
    waits = [first, *(each for each in result.silences_s if each is not None)]
    late = None in result.silences_s or max(waits) > SOON_S
    silence = "never again" if None in result.silences_s else f"{max(waits[1:]):.1f} s" if waits[1:] else ""
    return SLOW if late else GOOD, f"{first:.1f} s" + (f", silent {silence}" if silence else "")
