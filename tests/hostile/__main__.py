"""`make hostile`: every network of the lab, and what became of messages there. `python -m tests.hostile [NAME …]`.

Exit code 0 if nothing of ours was lost, doubled or reordered, and messages passed on every network.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

from .cases import CASES
from .contenders import CONTENDERS, OURS, install
from .middleboxes import missing as lacking
from .namespaces import missing, sweep
from .report import write
from .run import Outcome, Run

OTHERS_S = 40.0
"""How long others are tried."""


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("names", nargs="*", help="of cases (all)")
    parser.add_argument("--at-once", type=int, default=8, help="cases at a time (%(default)s)")
    parser.add_argument("--others", action="store_true", help="MQTT, Socket.IO and WebSocket too")
    parser.add_argument("--page", type=Path, metavar="FOLDER", help="write the page and its picture into it")
    args = parser.parse_args()
    known = {case.name: case for case in CASES}
    if unknown := [name for name in args.names if name not in known]:
        parser.error(f"no case {unknown[0]!r}; there are: {', '.join(known)}")
    chosen = [known[name] for name in args.names] or CASES
    if why := missing() or lacking(sorted({program for case in chosen for program in case.needs})):
        parser.error(why)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    sweep()
    if args.others:
        install()
    began = time.monotonic()
    work = [
        (case, who, None if who is OURS else min(case.seconds, OTHERS_S))
        for who in (CONTENDERS if args.others else [OURS])
        for case in sorted(chosen, key=lambda case: -case.seconds)  # the long ones first, so that none is last
    ]
    done = Run(args.at_once).all(work, lambda outcome: print(line(outcome), flush=True))
    outcomes = sorted(done, key=lambda outcome: chosen.index(outcome.case))
    if args.page:
        write(args.page, outcomes, OTHERS_S)
    ours = [outcome for outcome in outcomes if outcome.who == OURS.name]
    good = sum(outcome.good for outcome in ours)
    print(f"{good} of {len(ours)} networks in {time.monotonic() - began:.0f} s")
    return 0 if good == len(ours) else 1


def _end(number: int, _: object) -> None:
    """Once: what was made has to be removed undisturbed."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def line(outcome: Outcome) -> str:
    """One case in one line."""
    result = outcome.result
    name = f"{outcome.case.name:22} {outcome.who:9}"
    if result is None:
        return f"{name} FAILED {outcome.failed}"
    alone, up, down = (
        f"{each:.2f}" if each is not None else "never" for each in (outcome.alone_s, result.up_s, result.down_s)
    )
    silences = ", ".join("never" if each is None else f"{each:.1f}" for each in result.silences_s)
    return (
        f"{name} first up {up} (alone {alone}) down {down} s, silent [{silences}] s, {result.messages} messages, "
        f"{outcome.bytes // max(1, result.messages)} bytes each, lost {result.lost} doubled {result.doubled} "
        f"reordered {result.reordered}; {' | '.join(result.met)[:160]}"
    )


if __name__ == "__main__":
    sys.exit(main())
