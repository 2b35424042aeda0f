"""What a device remembers of the ways in, for each network that it was on: who won, what failed, how long it took.

A failure is a delay and never a ban: 2 seconds, twice as long each time up to 30, and after five minutes it is
forgotten. So whatever happened, everything that is known is tried, only in another order. The file is written whole, or
not at all.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from ..access_list import Direction
from ..errors import ConfigError
from .candidate import Candidate, Listed
from .learned import Learned
from .race import Entry
from .still import Still

__all__ = ["DELAY_MOST_S", "DELAY_S", "FORGET_S", "Memory"]

Value = TypeVar("Value")

_log = logging.getLogger(__name__)

DELAY_S = 2.0
DELAY_MOST_S = 30.0
FORGET_S = 300.0
"""After so long without another one, a failure has left no trace."""
NETWORKS = 16
"""That are remembered: the latest."""
CANDIDATES = 64
"""Of each network, and of each list; the same of ways whose limits were learned."""


class _Seen(msgspec.Struct, omit_defaults=True):
    """What became of a candidate."""

    candidate: Candidate
    cost_s: float | None = None
    failures: float = 0.0
    """In a row; each weighs less as time goes by."""
    failed_at: float = 0.0


class _Place(msgspec.Struct, omit_defaults=True):
    """One network; the lists are in the order of their last use."""

    network: str
    winners: dict[str, Candidate] = {}
    seen: list[_Seen] = []
    learned: dict[str, Learned] = {}
    still: dict[str, Still] = {}


class _File(msgspec.Struct, omit_defaults=True):
    """The whole file."""

    version: int = 1
    places: list[_Place] = []
    points: dict[str, list[Listed]] = {}


class Memory:
    """path: None = as long as the process lives. clock: seconds since 1970. Raises `ConfigError` for a path that can't
    be written. A file that is no memory is put aside, as it may be another program's, and a new one is begun:
    nothing rests on it."""

    def __init__(self, path: str | os.PathLike[str] | None = None, clock: Callable[[], float] = time.time) -> None:
        self._path = Path(path) if path is not None else None
        self._clock = clock
        self._file = self._load()
        self._dirty = False
        self.journeys = 0
        """How often the device was told to be elsewhere, or slept: networks far apart may have one name."""
        self._place = _Place("unknown")
        self.network("unknown")

    def network(self, name: str) -> bool:
        """The device is on this network now. True if it was on another one before."""
        changed = name != self._place.network
        places = [place for place in self._file.places if place.network != name]
        self._place = next((place for place in self._file.places if place.network == name), _Place(name))
        self._file.places = [*places, self._place][-NETWORKS:]
        return changed

    @property
    def place(self) -> str:
        """The network's name."""
        return self._place.network

    # What to try, and in which order.

    def entries(self, role: Direction, listed: Iterable[Listed]) -> list[Entry]:
        """All of them, for a race. Where a way through won here before, each machine is tried that way first."""
        winner = self._place.winners.get(role)
        seen = {one.candidate: one for one in self._place.seen}
        machines: dict[str, list[Listed]] = {}
        for one in dict.fromkeys(listed):
            machines.setdefault(one.candidate.machine, []).append(one)
        entries = []
        for ways in machines.values():
            if winner is not None:
                ways.sort(key=lambda one: (one.candidate.path != winner.path, one.turn))
            for turn, one in enumerate(ways):
                was = seen.get(one.candidate) or _Seen(one.candidate)
                favourite = one.candidate == winner
                turn = turn if winner is not None else one.turn
                entries.append(Entry(one.candidate, one.level, turn, was.cost_s, favourite, self._wait_s(was)))
        return entries

    def points(self, role: Direction) -> list[Listed]:
        """Who won here, and the last list that was good anywhere."""
        winner = self._place.winners.get(role)
        known = [Listed(winner)] if winner is not None else []
        return [*known, *(one for one in self._file.points.get(role, []) if one.candidate != winner)]

    def winner(self, role: Direction) -> Candidate | None:
        """Who won here last."""
        return self._place.winners.get(role)

    def wait_s(self, candidate: Candidate) -> float:
        """For how long others had better be tried, seconds."""
        return self._wait_s(self._find(candidate))

    def cost_s(self, candidate: Candidate) -> float | None:
        """What it took last, from start to verified, seconds; None = not known."""
        return self._find(candidate).cost_s

    # What happened.

    def listed(self, role: Direction, points: Iterable[Listed]) -> None:
        """A list that can be trusted came."""
        self._file.points[role] = list(points)[:CANDIDATES]
        self._dirty = True

    def won(self, role: Direction, candidate: Candidate) -> None:
        """It was the way in."""
        if self._place.winners.get(role) != candidate:
            self._place.winners[role] = candidate
            self._dirty = True

    def took(self, candidate: Candidate, cost_s: float) -> None:
        """It was verified, and in that time."""
        one = self._touch(candidate)
        one.cost_s, one.failures, one.failed_at = cost_s, 0.0, 0.0

    def failed(self, candidate: Candidate) -> None:
        """It did not lead in, or did not hold."""
        one = self._touch(candidate)
        left = max(0.0, 1 - self._age(one) / FORGET_S)
        one.failures = 1 + one.failures * left
        one.failed_at = self._clock()

    def recall(self, way: str) -> Learned | None:
        """What was kept of this way's limits on this network."""
        return self._place.learned.get(way)

    def keep(self, way: str, learned: Learned) -> None:
        """They have changed."""
        _put(self._place.learned, way, learned)
        self._dirty = True

    def still(self, proxy: str) -> Still:
        """How long a connection may be still on this network, by that proxy or (`""`) without one."""
        return self._place.still.get(proxy) or Still()

    def keep_still(self, proxy: str, still: Still) -> None:
        """That has changed."""
        if still != self.still(proxy):
            _put(self._place.still, proxy, still)
            self._dirty = True

    async def save(self) -> None:
        """To the file, if anything is new. What goes wrong is logged: it costs time at the next start, and no more."""
        if self._path is None or not self._dirty:
            return
        self._dirty = False
        data = msgspec.json.format(msgspec.json.encode(self._file))
        try:
            await asyncio.get_running_loop().run_in_executor(None, _replace, self._path, data)
        except OSError as error:
            _log.warning("the memory of ways in can't be written: %s: %s", self._path, error.strerror)

    def _load(self) -> _File:
        if self._path is None:
            return _File()
        if not os.access(self._path.parent, os.W_OK) or self._path.is_dir():
            raise ConfigError(f"memory: expected a file in a folder that can be written, got {self._path}")
        try:
            file = msgspec.json.decode(self._path.read_bytes(), type=_File)
        except FileNotFoundError:
            return _File()
        except OSError as error:
            _log.warning("the memory of ways in is begun anew: %s: %s", self._path, error)
            return _File()
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            why = str(error)
        else:
            if file.version == 1:
                return file
            why = f"version {file.version}"
        aside = self._path.with_name(f"{self._path.name}.damaged")
        _log.warning("the memory of ways in is begun anew, and %s kept as %s: %s", self._path, aside, why)
        with suppress(OSError):
            os.replace(self._path, aside)
        return _File()

    def _find(self, candidate: Candidate) -> _Seen:
        return next((one for one in self._place.seen if one.candidate == candidate), _Seen(candidate))

    def _touch(self, candidate: Candidate) -> _Seen:
        one = self._find(candidate)
        rest = [other for other in self._place.seen if other.candidate != candidate]
        self._place.seen = [*rest, one][-CANDIDATES:]
        self._dirty = True
        return one

    def _age(self, one: _Seen) -> float:
        return max(0.0, self._clock() - one.failed_at)  # a clock that was set back makes nothing older or younger

    def _wait_s(self, one: _Seen) -> float:
        if not one.failures:
            return 0.0
        delay_s = DELAY_S * math.pow(2.0, min(one.failures, 10.0) - 1)
        return max(0.0, min(delay_s, DELAY_MOST_S) - self._age(one))


def _put(kept: dict[str, Value], key: str, value: Value) -> None:
    """As the latest; the oldest go where there are too many."""
    kept.pop(key, None)
    kept[key] = value
    while len(kept) > CANDIDATES:
        del kept[next(iter(kept))]


def _replace(path: Path, data: bytes) -> None:
    """The file has either its old bytes or these, whenever the machine stops."""
    descriptor, new = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    except BaseException:
        os.unlink(new)
        raise
