"""What races measured, as figures that forget: for each (carrier, region, role, point, port, way) how long it takes.

A figure is a histogram of times whose weights halve every few minutes. A failure is a time without end, so that one
quantile tells both speed and reliability, and a minority of liars can shift it only a little.
"""

from __future__ import annotations

import math
from array import array
from collections import OrderedDict
from collections.abc import Iterable
from itertools import accumulate
from typing import NamedTuple

import msgspec

__all__ = ["FIGURES_MOST", "FRESH", "Figures", "Key", "Row"]

HALF_LIFE_S = 300.0
"""After so long what was measured counts half."""
FRESH = 8.0
"""The weight (measurements, the older the less) from which a figure is believed."""
SUPPORT = 0.3
"""Of the weight of its point, what a way's figure must have: else it is the word of a few who chose to speak of it."""
QUANTILE = 0.6
"""Of ten attempts the sixth-fastest: when four of ten fail, it fails; and three of ten liars can't say that it does."""
STEP = 1.15
"""From one bucket to the next: times are told apart that differ by so much."""
BUCKETS = 82
"""Up to 80 s; the last one is for failures."""
FAILED = BUCKETS - 1
FIGURES_MOST = 50_000
"""Figures that are kept: beyond it the longest untouched goes. About 600 bytes each."""
KEPT_S = 86_400.0
"""A figure that old says nothing any more."""

ALL = "*"
"""As a carrier or region: whichever."""

_SCALE = math.log(STEP)
_RESCALE = 40.0  # half-lives after which weights are brought down again: 2**40 still adds up well


class Key(NamedTuple):
    """Of a figure. Carrier and region `*`: all of them."""

    carrier: str
    region: str
    role: str
    point: str
    port: int
    way: str

    @property
    def whole(self) -> Key:
        """The point's own figure: by its best way."""
        return self._replace(port=0, way="")


class Row(msgspec.Struct, frozen=True):
    """A figure as it is stored."""

    key: Key
    weights: bytes
    """Of each bucket, as 32-bit floats in the machine's order."""
    at: float
    """The time for which the weights hold, seconds since 1970."""


class _Figure:
    """One histogram. A weight of 1 at time `t` is written as 2**((t - since) / half-life), so that nothing has to be
    touched for it to fade."""

    __slots__ = ("half_life", "latest", "since", "speed", "total", "weights")

    def __init__(self, now: float, half_life: float) -> None:
        self.half_life = half_life
        self.weights = array("f", bytes(4 * BUCKETS))
        self.total = 0.0
        self.since = now
        self.latest = now
        self.speed = 0.0  # the quantile, 0 = to be found anew

    def add(self, bucket: int, now: float) -> None:
        age = (now - self.since) / self.half_life
        if age > _RESCALE:
            self.fade(now)
            age = 0.0
        weight = 2.0 ** max(age, 0.0)
        self.weights[bucket] += weight
        self.total += weight
        self.latest = max(now, self.latest)
        self.speed = 0.0

    def fade(self, now: float) -> None:
        """Bring the weights down to what they are worth now."""
        factor = 2.0 ** (max(self.since - now, -1000 * self.half_life) / self.half_life)
        self.weights = array("f", [weight * factor for weight in self.weights])
        self.total = sum(self.weights)
        self.since = now

    def weight(self, now: float) -> float:
        """How many measurements it is worth now."""
        return float(self.total * 2.0 ** (min(self.since - now, 0.0) / self.half_life))

    def quantile(self, share: float) -> float:
        """That of which so large a share is not slower; infinity = too many attempts fail."""
        if self.speed:
            return self.speed
        up_to = accumulate(self.weights)
        bucket = next((number for number, weight in enumerate(up_to) if weight >= self.total * share), FAILED)
        self.speed = math.inf if bucket == FAILED else STEP**bucket
        return self.speed


class Figures:
    """All of them, the longest untouched first. half_life_s: after so long what was measured counts half. quantile:
    which share of it decides."""

    def __init__(self, half_life_s: float = HALF_LIFE_S, quantile: float = QUANTILE) -> None:
        self._half_life_s = half_life_s
        self._quantile = quantile
        self._figures: OrderedDict[Key, _Figure] = OrderedDict()
        self._changed: set[Key] = set()

    def __len__(self) -> int:
        return len(self._figures)

    @property
    def unsaved(self) -> int:
        """How many have changed since they were asked for last."""
        return len(self._changed)

    def add(self, key: Key, took_ms: float | None, now: float) -> None:
        """An attempt took so long, or failed (None). It counts for the key's carrier and region, for all regions of the
        carrier, and for all. now: seconds since 1970."""
        bucket = FAILED if took_ms is None else min(int(math.log(max(took_ms, 1.0)) / _SCALE + 0.5), FAILED - 1)
        for wider in _wider(key):
            figure = self._figures.get(wider)
            if figure is None:
                figure = self._figures[wider] = _Figure(now, self._half_life_s)
                if len(self._figures) > FIGURES_MOST:
                    self._changed.discard(self._figures.popitem(last=False)[0])
            else:
                self._figures.move_to_end(wider)
            figure.add(bucket, now)
            self._changed.add(wider)

    def speed(self, key: Key, now: float) -> tuple[float | None, bool]:
        """How long an attempt takes, milliseconds: infinity = most fail, None = nobody knows. By callers of the same
        carrier and region, or of the same carrier, or by all: the first of them that has fresh figures. And whether
        the carrier's own callers have said so."""
        for wider in _wider(key):
            figure = self._figures.get(wider)
            if figure is not None and figure.weight(now) >= max(FRESH, SUPPORT * self._weight(wider.whole, now)):
                return figure.quantile(self._quantile), wider.carrier != ALL
        return None, False

    def _weight(self, key: Key, now: float) -> float:
        figure = self._figures.get(key)
        return figure.weight(now) if figure is not None else 0.0

    def changed(self, now: float) -> list[Row]:
        """What was added to since it was asked for last."""
        rows = []
        for key in self._changed:
            figure = self._figures[key]
            figure.fade(now)
            rows.append(Row(key, figure.weights.tobytes(), now))
        self._changed.clear()
        return rows

    def again(self, rows: Iterable[Row]) -> None:
        """These could not be stored: they are still to be."""
        self._changed.update(row.key for row in rows if row.key in self._figures)

    def restore(self, rows: Iterable[Row], now: float) -> None:
        """What an earlier process left. Rows of another form are passed over."""
        for row in rows:
            if len(row.weights) != 4 * BUCKETS or now - row.at > KEPT_S:
                continue
            figure = _Figure(min(row.at, now), self._half_life_s)
            figure.weights.frombytes(row.weights)
            figure.weights = figure.weights[BUCKETS:]
            figure.total = sum(figure.weights)
            if math.isfinite(figure.total) and min(figure.weights) >= 0:
                self._figures[row.key] = figure


def _wider(key: Key) -> tuple[Key, ...]:
    everybody = key._replace(carrier=ALL, region=ALL)
    return (key, key._replace(region=ALL), everybody) if key.carrier else (key, everybody)
