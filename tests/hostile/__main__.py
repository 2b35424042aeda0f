"""`make hostile`: every network of the lab, and what became of messages there. `python -m tests.hostile [NAME …]`.

Exit code 0 if every target of ours was met (docs/hostile-networks.md), 1 if not.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

from .case import Case
from .cases import CASES
from .contenders import CONTENDERS, OURS, Contender, install
from .namespaces import missing, sweep
from .programs import install as install_programs
from .report import write
from .run import Outcome, Run
from .targets import missed

OTHERS_S = 15.0
"""How long others are tried where nothing breaks."""
AFTER_S = 15.0
"""And after the last break."""


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("names", nargs="*", help="of cases (all)")
    parser.add_argument("--at-once", type=int, default=16, help="cases that talk at a time (%(default)s)")
    parser.add_argument("--others", action="store_true", help="MQTT, Socket.IO and WebSocket too")
    parser.add_argument("--page", type=Path, metavar="FOLDER", help="write the page and its picture into it")
    args = parser.parse_args()
    known = {case.name: case for case in CASES}
    if unknown := [name for name in args.names if name not in known]:
        parser.error(f"no case {unknown[0]!r}; there are: {', '.join(known)}")
    if args.at_once < 1:
        parser.error(f"argument --at-once: expected at least 1, got {args.at_once}")
    chosen = [known[name] for name in args.names] or CASES
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    needs = set[str]().union(*(case.programs for case in chosen))
    if why := missing() or install_programs(needs) or (install() if args.others else ""):
        parser.error(why)
    sweep()
    began = time.monotonic()
    work = [
        (case, who, seconds(case, who))
        for case in chosen
        for who in (CONTENDERS if args.others and case.others else [OURS])
    ]
    work.sort(key=lambda each: -(each[2] + each[0].idle_s))  # the long ones first, so that none is last
    done = Run(args.at_once).all(work, lambda outcome: print(line(outcome), flush=True))
    took_s = time.monotonic() - began
    names = [who.name for who in CONTENDERS]
    outcomes = sorted(done, key=lambda outcome: (chosen.index(outcome.case), names.index(outcome.who)))
    if args.page:
        write(args.page, outcomes, took_s)
    ours = [outcome for outcome in outcomes if outcome.who == OURS.name]
    bad = [f"{outcome.case.name}: {', '.join(found)}" for outcome in ours if (found := missed(outcome))]
    print(f"{len(ours) - len(bad)} of {len(ours)} networks as they should be, in {took_s:.0f} s", *bad, sep="\n")
    return 1 if bad else 0


def seconds(case: Case, who: Contender) -> float:
    """How long this one talks."""
    if who is OURS or case.every_s > OTHERS_S / 4:
        return case.seconds
    return min(case.seconds, max([OTHERS_S, *(each.after_s + each.seconds + AFTER_S for each in case.breaks)]))


def _end(number: int, _: object) -> None:
    """Once: what was made has to be removed undisturbed."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def line(outcome: Outcome) -> str:
    """One case in one line."""
    result = outcome.result
    name = f"{outcome.case.name:26} {outcome.who:9}"
    if result is None:
        return f"{name} FAILED {outcome.failed}"
    alone, up, down = (
        f"{each:.2f}" if each is not None else "never" for each in (outcome.alone_s, result.up_s, result.down_s)
    )
    silences = ", ".join("never" if each is None else f"{each:.1f}" for each in result.silences_s)
    idle = f", idle {outcome.idle_bytes:.0f} a minute" if outcome.idle_bytes is not None else ""
    bad = f" MISSED {', '.join(missed(outcome))};" if outcome.who == OURS.name and missed(outcome) else ""
    return (
        f"{name}{bad} first up {up} (alone {alone}) down {down} s, silent [{silences}] s, {result.messages} messages, "
        f"{outcome.bytes // max(1, result.messages)} bytes each{idle}, lost {result.lost} doubled {result.doubled} "
        f"reordered {result.reordered}; {' | '.join(result.met)[:160]}"
    )


if __name__ == "__main__":
    sys.exit(main())
