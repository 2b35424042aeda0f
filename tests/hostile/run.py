"""One case, and many at once: each in a world of its own, a phone of ours and phones of others one after the other."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .cases import POINTS, Case
from .contenders import Contender
from .measure import Result, measure
from .middleboxes import PROXY
from .phone import Phone
from .world import World

__all__ = ["Outcome", "run_all", "run_case"]

SETTLE_S = 20.0
"""How long what is on its way may still come, when a phone has stopped sending."""
ALONE_S = 15.0


@dataclass
class Outcome:
    """What a case came to. alone_s: to the first confirmed message where the phone knows only the best open way."""

    case: Case
    who: str
    result: Result | None = None
    alone_s: float | None = None
    bytes: int = 0
    """Of IP packets, both ways, all in all."""
    failed: str = ""
    """Why there is no result."""

    @property
    def good(self) -> bool:
        """Messages passed both ways, and none was lost, doubled or reordered."""
        result = self.result
        return result is not None and not result.faults and None not in (result.up_s, result.down_s, *result.silences_s)


@contextlib.contextmanager
def _world(case: Case, contender: Contender) -> Iterator[World]:
    folder = Path(tempfile.mkdtemp(prefix="imcore-lab-"))
    try:
        with World(folder, contender.serve, case.dns, case.dns_delay_s) as world:
            case.prepare(world)
            yield world
    finally:
        shutil.rmtree(folder)


def run_case(case: Case, contender: Contender, seconds: float | None = None) -> Outcome:
    """Run it. seconds: instead of the case's own."""
    outcome = Outcome(case, contender.name)
    env = dict.fromkeys(("http_proxy", "https_proxy"), f"http://{PROXY}") if case.proxied else {}
    try:
        if case.open_way and contender.name == "imcore":
            with _world(case, contender) as world:
                outcome.alone_s = _alone(contender.phone(world, [case.open_way], case.every_s, env))
        with _world(case, contender) as world:
            phone = contender.phone(world, POINTS, case.every_s, env)
            start, broken = time.monotonic(), []
            for each in case.breaks:
                time.sleep(max(0.0, start + each.after_s - time.monotonic()))
                if each.seconds or len(case.breaks) == 1:
                    broken.append(time.monotonic() + each.seconds)
                each.what(world, phone)
            time.sleep(max(0.0, start + (seconds or case.seconds) - time.monotonic()))
            outcome.bytes = sum(sum(link.carried()) for link in world.air.values())
            phone.stop(SETTLE_S)
            outcome.result = measure(phone.lines, broken)
    except Exception as error:
        outcome.failed = f"{type(error).__name__}: {error}"
    return outcome


def _alone(phone: Phone) -> float | None:
    """Only the best way that is open: how long it takes."""
    end = time.monotonic() + ALONE_S
    while time.monotonic() < end and not any(line.what == "confirmed" for line in phone.lines):
        time.sleep(0.02)
    phone.stop(0)
    return measure(phone.lines, []).up_s


def run_all(
    work: Sequence[tuple[Case, Contender, float | None]], at_once: int, tell: Callable[[Outcome], None]
) -> list[Outcome]:
    """So many at a time; `tell` of each when it is over. The order is that of `work`."""
    with ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(run_case, *each) for each in work]
        for future in futures:
            future.add_done_callback(lambda done: tell(done.result()))
        return [future.result() for future in futures]
