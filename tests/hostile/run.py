"""One case, and many at once: each in a world of its own."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass

from .case import Break, Case
from .contenders import OURS, Contender
from .measure import Result, measure
from .namespaces import scratch
from .node import last
from .phone import Phone
from .world import World

__all__ = ["QUIET_S", "Outcome", "Run"]

SETTLE_S = 20.0
"""How long what is on its way may still come, when a phone has stopped sending."""
ALONE_S = 15.0
BEGIN_S = 5.0
"""How long others wait for a phone that begins, so that what it takes is the network's doing and not theirs."""
WAKE_S = 0.5
"""A signal may come to another thread: so often the one that it is for has a look."""
BEGINNING = 2
"""Worlds that are made, and phones that look for their first way in, at a time: they are what takes the processor."""
STILL_S = 3.0
"""After so long without a line of it a phone that was told to be quiet is."""
QUIET_S = 60.0
"""How long ours is silent for the bytes of an idle minute, where the case has no idle time of its own."""
AFTER_S = 12.0
"""How long it talks again after an idle time."""


@dataclass
class Outcome:
    """What a case came to."""

    case: Case
    who: str
    result: Result | None = None
    alone_s: float | None = None
    """To the first confirmed message where the phone knows only the best open way, the better of two tries."""
    bytes: int = 0
    """Of IP packets, both ways, while it talked."""
    idle_bytes: float | None = None
    """And a minute, while it was idle; of a crowd those of each."""
    after_idle_s: float | None = None
    """And from the end of that until messages went both ways; None = there was no such time, or they never did."""
    failed: str = ""
    """Why there is no result, or only what there was until the phone ended by itself."""

    @property
    def good(self) -> bool:
        """Messages passed both ways, and none was lost, doubled or reordered."""
        result = self.result
        return (
            not self.failed
            and result is not None
            and not result.faults
            and None not in (result.up_s, result.down_s, *result.silences_s)
        )


class _Stopped(Exception):
    """The run is to end."""


class Run:
    """at_once: cases that talk at a time. brief: ours is measured neither where it knows only the best open way, nor
    while it is idle."""

    def __init__(self, at_once: int, *, brief: bool = False) -> None:
        self._brief = brief
        self._stop = threading.Event()
        self._slots = threading.BoundedSemaphore(at_once)
        self._beginning = threading.BoundedSemaphore(BEGINNING)

    def all(
        self, work: Sequence[tuple[Case, Contender, float]], tell: Callable[[Outcome], None] = lambda _: None
    ) -> list[Outcome]:
        """Each case with its contender, and how long it talks, seconds. `tell` of each when it is over. The order is
        that of `work`. Whatever ends this, also ^C, leaves nothing behind."""
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

    def case(self, case: Case, contender: Contender, seconds: float) -> Outcome:
        """One of them."""
        outcome = Outcome(case, contender.name)
        try:
            with contextlib.ExitStack() as stack:
                with self._slots:
                    with self._beginning:
                        world, phone, before = self._begin(case, contender, outcome, stack)
                    broken = self._break(world, phone, case.breaks, seconds)
                    outcome.bytes = carried(world) - before
                self._hush(world, phone)
                if idle_s := case.idle_s or (QUIET_S if contender is OURS and not self._brief else 0.0):
                    self._idle(world, idle_s, outcome)
                if case.idle_s:
                    broken.append(self._speak(world, phone))
                    self._hush(world, phone)
                if phone.ended:
                    outcome.failed = f"the phone ended: {_last_words(world)}"
                told = last(world.folder / "news")
                phone.stop(SETTLE_S if phone.has("confirmed") else 0)
                outcome.result = measure(phone.lines, broken, told, all_kept=contender is OURS)
                if case.idle_s:
                    outcome.after_idle_s = outcome.result.silences_s.pop()
        except _Stopped:
            outcome.failed = "the run was ended"
        except Exception as error:
            outcome.failed = f"{type(error).__name__}: {error}"
        return outcome

    def _begin(
        self, case: Case, contender: Contender, outcome: Outcome, stack: contextlib.ExitStack
    ) -> tuple[World, Phone, int]:
        """The world, the phone that has begun, and what had passed through the air before."""
        self._pause(0)
        world = stack.enter_context(_world(case, contender))
        env = dict.fromkeys(("http_proxy", "https_proxy"), case.proxied) if case.proxied else {}
        if not self._brief and case.open_way and contender is OURS:
            tries = [self._first(OURS.alone(world, case, env)) for _ in range(2)]
            outcome.alone_s = min((each for each in tries if each is not None), default=None)
        before = carried(world)
        phone = contender.phone(world, case, env)
        if case.open_way:
            self._until(lambda: phone.has("confirmed"), BEGIN_S)
        return world, phone, before

    def _break(self, world: World, phone: Phone, breaks: Sequence[Break], seconds: float) -> list[float]:
        """Talk, while what happens happens. When that was, on the monotonic clock."""
        start, broken = time.monotonic(), []
        for each in breaks:
            self._pause(start + each.after_s - time.monotonic())
            if not each.heals:
                broken.append(time.monotonic() + each.seconds)
            each.what(world, phone)
        self._pause(start + seconds - time.monotonic())
        return broken

    def _hush(self, world: World, phone: Phone) -> None:
        """Nothing more is said, and what was said has come."""
        (world.folder / "quiet").touch()
        phone.tell("quiet")
        end, seen = time.monotonic() + SETTLE_S, -1
        while seen != len(phone.lines) and time.monotonic() < end:
            seen = len(phone.lines)
            self._pause(STILL_S)

    def _idle(self, world: World, seconds: float, outcome: Outcome) -> None:
        """What silence costs."""
        before = carried(world)
        self._pause(seconds)
        outcome.idle_bytes = (carried(world) - before) / seconds * 60 / (1 + outcome.case.crowd)

    def _speak(self, world: World, phone: Phone) -> float:
        """A word after it, and more. When that was."""
        (world.folder / "quiet").unlink()
        spoke = time.monotonic()
        phone.tell("talk")
        self._pause(AFTER_S)
        return spoke

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


def _last_words(world: World) -> str:
    """Of our phones: what the last line of their log says."""
    lines = (world.folder / "device.log").read_text(encoding="utf-8").rstrip("| +-\n").splitlines()
    return lines[-1].lstrip("| ") if lines else "without a word"


def carried(world: World) -> int:
    """Bytes of IP packets that have passed through the air, both ways."""
    return sum(sum(link.carried()) for link in world.air.values())


@contextlib.contextmanager
def _world(case: Case, contender: Contender) -> Iterator[World]:
    folder = scratch()
    try:
        several = case.several and contender is OURS
        with World(folder, contender.serve, several, case.dns, case.dns_delay_s) as world:
            case.prepare(world)
            yield world
    finally:
        shutil.rmtree(folder)
