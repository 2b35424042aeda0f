"""The page that a run writes: a table for who wants figures, and which targets were met."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from .case import Case
from .contenders import OURS
from .picture import picture
from .run import QUIET_S, Outcome
from .targets import FACTOR, FIRST_MOST_S, IDLE_MOST, NOISE_S, SILENCE_MOST_S, missed
from .waits import waited_s

__all__ = ["page", "write"]

ROWS = [
    "nothing in the way", "ports", "a proxy on port 80 that nobody is told of", "a proxy that the phone is told of",
    "connections closed without a word", "answers held back", "idle limits", "limits of bodies", "HTTP/1.0", "names",
    "portals", "freezes", "access points that swallow everything", "NATs", "another network", "sleep",
    "answers lost", "machines that go", "bad air", "proxies that rewrite", "segments", "what occurs together",
]  # fmt: skip

_PAGE = """# Hostile networks

What became of messages on the networks that break channels: a phone, its carrier and gateways, each a host of its own
(network namespaces), real proxies (squid, tinyproxy, nginx, haproxy) and packet filters between them, and a radio that
delays, loses and freezes packets. `make hostile` makes these networks, runs everything on them, and writes this page.
How they are made, and how to add one: [hostile-lab.md](hostile-lab.md).

![Time to the first message, silence after breaks, and faults, on each network](hostile-networks.svg)

## Targets

{verdict}

- The first message that was confirmed: at most {factor:g} times what the best open way takes *alone*, plus what silent
  ways make a phone *wait* by the rules of its race (a stagger of 250 ms, three in flight, a second for who is silent),
  plus {noise:g} s for a machine that does other things; and never above {first:g} s where any way is open. Where
  packets are lost it is also luck: there only the {first:g} s count. The first that came: at most {first:g} s.
- Silence after a freeze, a kill or a change of network: at most {silence:g} s. After a time without any way it is
  counted from its end.
- Lost, doubled, reordered: none.
- An idle minute on a network that forgets after five, and is known: at most {idle:.0f} bytes of IP packets.

## Each network

*alone*: seconds from the start to the first confirmed message for a client that knows only the best open way (the
better of two tries). *wait*: see above. *first*: seconds to the first message confirmed / to the first that came.
*silence*: after each break, and at last after an idle time, how many seconds a message waited for its confirmation, and
one that came for the next, at the worst; half a second is none. *faults*: lost / doubled / reordered: lost is what was
confirmed and had no echo, and what the phone was told and did not hear, when both had been quiet for some seconds; of
others from the first that they heard, and where they came through again after the last break. *bytes*: of IP packets
both ways for each message. *idle*: those of a minute in which nobody had anything to say, after the talk and the last
break, so that it holds the client's own search for what the network forgets, too; measured for {quiet:.0f} s, or for as
long as the case says, up to ten minutes. *named*: what the client said stands in the way, while there was none.
"never": not within the time of the case. The phone says something four times a second, and gets the echo of each and
two other messages a second, unless the case says otherwise. Ours talks for a minute or more, others for 15 s, or until
15 s after the last break; their idle minute is measured where the case itself has an idle time.

{tables}
## Others

They were set up as their manuals advise for who must not miss anything, and know one name, `im.test`, and one server,
which has all three addresses and comes again at once when it is killed. *MQTT* is paho against mosquitto, QoS 1,
sessions kept, port 1883. *Socket.IO* is the server from npm with connection state recovery and python-socketio, port
80, each message answered, and sent again when it was not. *WebSocket* is the library `websockets`, which connects again
by itself, port 80; it has no acknowledgements: there the echo counts as one, and what is said while it is not connected
is not counted.

Sleep is a stopped process (SIGSTOP) while the clock goes on, as CLOCK_BOOTTIME does on a machine that sleeps.

{notes}Made by `make hostile` in {took:.0f} s, on {machine}.
"""


def page(outcomes: Sequence[Outcome], took_s: float) -> str:
    """The page in Markdown."""
    names = list(dict.fromkeys(outcome.who for outcome in outcomes))
    rows: dict[int, list[str]] = {}
    for case, found in cases(outcomes):
        rows.setdefault(case.row, []).append(_row(case, found, names))
    head = " | ".join(f"{who}: first; silence; faults; bytes" if who != OURS.name else _OURS for who in names)
    rule = "|" + " --- |" * (len(names) + head.count("|") - len(names) + 2)
    tables = "".join(
        f"### {f'{number}: ' if 0 < number < 21 else ''}{ROWS[number]}\n\n| network | {head} |\n{rule}\n"
        + "\n".join(lines) + "\n\n"
        for number, lines in rows.items()
    )  # fmt: skip
    ours = [outcome for outcome in outcomes if outcome.who == OURS.name]
    bad = [f"- **{each.case.name}**: {'; '.join(why)}\n" for each in ours if (why := missed(each))]
    verdict = f"{len(ours) - len(bad)} of {len(ours)} networks met all of them."
    verdict += f" Missed:\n\n{''.join(bad)}" if bad else "\n"
    failed = [
        f"{each.case.name}, {each.who}: {each.failed}" for each in outcomes if each.failed and each.who != OURS.name
    ]
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.release().split('-')[0]}"
    return _PAGE.format(
        verdict=verdict, factor=FACTOR, noise=NOISE_S, first=FIRST_MOST_S, silence=SILENCE_MOST_S, idle=IDLE_MOST,
        quiet=QUIET_S, tables=tables, notes="".join(f"Not run: {line}.\n" for line in failed), took=took_s,
        machine=f"{machine}, Python {platform.python_version()}",
    )  # fmt: skip


def write(folder: Path, outcomes: Sequence[Outcome], took_s: float) -> None:
    """Page and picture, into the documents."""
    (folder / "hostile-networks.md").write_text(page(outcomes, took_s), encoding="utf-8")
    (folder / "hostile-networks.svg").write_text(picture(cases(outcomes)), encoding="utf-8")


def cases(outcomes: Iterable[Outcome]) -> list[tuple[Case, dict[str, Outcome]]]:
    """What became of whom, for each network."""
    found: dict[str, tuple[Case, dict[str, Outcome]]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.case.name, (outcome.case, {}))[1][outcome.who] = outcome
    return list(found.values())


_OURS = "alone | wait | imcore: first | silence | faults | bytes | idle | named"


def _row(case: Case, found: dict[str, Outcome], names: Sequence[str]) -> str:
    cells = [f"**{case.name}**: {case.network}"]
    for who in names:
        outcome = found.get(who)
        if who != OURS.name:
            cells.append(_other(outcome))
            continue
        if outcome is None or outcome.result is None:
            cells += ["not run", *["-"] * 7]
            continue
        result = outcome.result
        named = list(dict.fromkeys(re.findall(r"\b[A-Z]{2,}(?:_[A-Z0-9]+)*\b", " ".join(_after(result.met)))))
        cells += [
            _seconds(outcome.alone_s) if case.open_way else "-",
            f"{waited_s(case):g}",
            f"{_seconds(result.up_s)} / {_seconds(result.down_s)}",
            _silences(outcome),
            _faults(outcome),
            str(_each(outcome)),
            f"{outcome.idle_bytes:.0f}" if outcome.idle_bytes is not None else "-",
            " ".join(named[:3]) or "-",
        ]
    return f"| {' | '.join(cells)} |"


def _after(met: Iterable[str]) -> list[str]:
    """What it says behind the state's name."""
    return [words.partition(" ")[2] for words in met]


def _other(outcome: Outcome | None) -> str:
    if outcome is None or outcome.result is None:
        return "-"
    if outcome.result.up_s is None and outcome.result.down_s is None:
        return "never"
    first = f"{_seconds(outcome.result.up_s)} / {_seconds(outcome.result.down_s)}"
    idle = f", {outcome.idle_bytes:.0f}" if outcome.idle_bytes is not None else ""
    return f"{first}; {_silences(outcome)}; {_faults(outcome)}; {_each(outcome)}{idle}"


def _each(outcome: Outcome) -> int:
    """Bytes for a message."""
    assert outcome.result is not None
    return outcome.bytes // max(1, outcome.result.messages)


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.2f}" if value < FIRST_MOST_S else f"{value:.1f}"


def _silences(outcome: Outcome) -> str:
    assert outcome.result is not None
    silences = [*outcome.result.silences_s, *([outcome.after_idle_s] if outcome.case.idle_s else [])]
    return ", ".join(map(_seconds, silences)) or "-"


def _faults(outcome: Outcome) -> str:
    result = outcome.result
    assert result is not None
    return f"{result.lost} / {result.doubled} / {result.reordered}" if result.faults else "0"
