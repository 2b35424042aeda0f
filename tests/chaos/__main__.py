"""`make chaos`: chaos for so many seconds, then the counts. Exit code 1 if anything was lost, doubled or reordered.

`python -m tests.chaos [SECONDS] [--seed N]`; the environment variable CHAOS_MUTATION breaks the node on purpose.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time

from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from .machine import ChaosMachine
from .model import Counts
from .mutations import MUTATIONS

__all__ = ["main", "run_for"]

STEPS = 60
"""What happens in one run, before everything has to be quiet."""


def run_for(seconds: float, first: int, mutation: str = "", engine: str = "embedded") -> tuple[int, Counts, list[str]]:
    """Run after run until the time is up, or a promise is broken: how many, what came of them, and the story of the
    one that broke it."""
    found, story = Counts(), list[str]()
    once = settings(
        max_examples=2,  # the first one has no steps
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        verbosity=Verbosity.normal,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    until, runs = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        body = {"counts": found, "broken": story, "mutation": mutation, "engine": engine}
        machine = seed(first + runs)(type("Run", (ChaosMachine,), body))
        run_state_machine_as_test(machine, settings=once)
        runs += 1
        if story:
            again = f"python -m tests.chaos 1 --engine {engine} --seed {first + runs - 1}"
            story.append(f"to see it again, perhaps: {again}")
            break
    return runs, found, story


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("seconds", nargs="?", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=None, help="of the first run; a failure names its own")
    parser.add_argument(
        "--engine",
        choices=["embedded", "redis", "redis-cluster", "both"],
        default="both",
        help="under the node; both: half the time each on embedded and redis",
    )
    args = parser.parse_args()
    mutation = os.environ.get("CHAOS_MUTATION", "")
    if mutation and mutation not in MUTATIONS:
        parser.error(f"CHAOS_MUTATION: expected one of {', '.join(MUTATIONS)}, got {mutation!r}")
    first = random.SystemRandom().randrange(1 << 32) if args.seed is None else args.seed
    engines = ["embedded", "redis"] if args.engine == "both" else [args.engine]
    broken = False
    for engine in engines:
        seconds = args.seconds / len(engines)
        print(f"chaos for {seconds:g} s on the engine {engine}, from seed {first} on", flush=True)
        runs, counts, story = run_for(seconds, first, mutation, engine)
        for line in story:
            print(line)
        print(f"{runs} runs: {', '.join(f'{name} {value:,}' for name, value in vars(counts).items())}", flush=True)
        broken = broken or bool(story)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
