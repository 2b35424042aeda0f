"""One case, and many at once: each in a world of its own."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass

from .case import POINTS, Case
from .contenders import OURS, Contender
from .measure import Result, measure
from .middleboxes import PROXY
from .namespaces import scratch
from .phone import Phone
from .world import World

__all__ = ["Outcome", "Run"]

SETTLE_S = 20.0
"""How long what is on its way may still come, when a phone has stopped sending."""
ALONE_S = 15.0
BEGIN_S = 5.0
"""How long others wait for a phone that begins, so that what it takes is the network's doing and not theirs."""
WAKE_S = 0.5
"""A signal may come to another thread: so often the one that it is for has a look."""
BEGINNING = 2
"""Worlds that are made, and phones that look for their first way in, at a time: they are what takes the processor."""


@dataclass
class Outcome:
    """What a case came to. alone_s: to the first confirmed message where the phone knows only the best open way, the
    better of two tries."""

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


class _Stopped(Exception):
    """The run is to end."""


class Run:
    """at_once: cases at a time. alone: whether ours is measured where it knows only the best open way, too."""

    def __init__(self, at_once: int, *, alone: bool = True) -> None:
        self._alone = alone
        self._stop = threading.Event()
        self._slots = threading.BoundedSemaphore(at_once)
        self._beginning = threading.BoundedSemaphore(BEGINNING)

    def all(
        self, work: Sequence[tuple[Case, Contender, float | None]], tell: Callable[[Outcome], None] = lambda _: None
    ) -> list[Outcome]:
        """Each case with its contender, and how long it lasts if not as long as the case says. `tell` of each when it
        is over. The order is that of `work`. Whatever ends this, also ^C, leaves nothing behind."""
        pool = ThreadPoolExecutor(len(work))
        try:
            futures = [pool.submit(self.case, *each) for each in work]
            left = set(futures)
            while left:
                done, left = wait(left, WAKE_S, FIRST_COMPLETED)
                for future in done:
                    tell(future.result())
            return [future.result() for future in futures]
        finally:
            self._stop.set()
            pool.shutdown(cancel_futures=True)

    def case(self, case: Case, contender: Contender, seconds: float | None = None) -> Outcome:
        """Run it. seconds: instead of the case's own."""
        outcome = Outcome(case, contender.name)
        try:
            with self._slots, contextlib.ExitStack() as stack:
                with self._beginning:
                    self._pause(0)
                    world = stack.enter_context(_world(case, contender))
                    env = dict.fromkeys(("http_proxy", "https_proxy"), f"http://{PROXY}") if case.proxied else {}
                    if self._alone and case.open_way and contender is OURS:
                        tries = [self._first(OURS.alone(world, case, env)) for _ in range(2)]
                        outcome.alone_s = min((each for each in tries if each is not None), default=None)
                    before = carried(world)
                    phone = contender.phone(world, POINTS, case.every_s, env)
                    start = time.monotonic()
                    if case.open_way:
                        self._until(lambda: phone.has("confirmed"), BEGIN_S)
                broken = []
                for each in case.breaks:
                    self._pause(start + each.after_s - time.monotonic())
                    if each.seconds or len(case.breaks) == 1:
                        broken.append(time.monotonic() + each.seconds)
                    each.what(world, phone)
                self._pause(start + (seconds or case.seconds) - time.monotonic())
                outcome.bytes = carried(world) - before
                phone.stop(SETTLE_S)
                outcome.result = measure(phone.lines, broken)
        except _Stopped:
            outcome.failed = "the run was ended"
        except Exception as error:
            outcome.failed = f"{type(error).__name__}: {error}"
        return outcome

    def _first(self, phone: Phone) -> float | None:
        """Seconds to the first confirmed message of a phone that is then not needed any more."""
        self._until(lambda: phone.has("confirmed"), ALONE_S)
        phone.stop(0)
        return measure(phone.lines, []).up_s

    def _until(self, holds: Callable[[], bool], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not holds() and time.monotonic() < end:
            self._pause(0.02)

    def _pause(self, seconds: float) -> None:
        if self._stop.wait(max(0.0, seconds)):
            raise _Stopped


def carried(world: World) -> int:
    """Bytes of IP packets that have passed through the air, both ways."""
    return sum(sum(link.carried()) for link in world.air.values())


@contextlib.contextmanager
def _world(case: Case, contender: Contender) -> Iterator[World]:
    folder = scratch()
    try:
        with World(folder, contender.serve, case.dns, case.dns_delay_s) as world:
            case.prepare(world)
            yield world
    finally:
        shutil.rmtree(folder)
