"""Load levels: from what the nodes report to a figure from 0 to 4 that is slow to change its mind.

One bad report moves nobody, a node that is silent is taken to be gone, and one that drains is never given.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from ..bus.ports import Load

__all__ = ["FULL", "SILENT_S", "Levels"]

FULL = 4
"""The level of a node that has no room."""
SILENT_S = 7.0
"""A node that has not reported for so long is gone, seconds: three reports that were lost."""
RISE = 2
"""Reports in a row that take a level up."""
FALL = 5
"""Reports in a row that bring it down."""
MARGIN = 0.85
"""How far below a threshold the figure must be to count as below it."""

# At which figure levels 1, 2, 3 and 4 begin.
CPU = (0.5, 0.7, 0.85, 0.95)
LAG_MS = (20.0, 60.0, 200.0, 1000.0)
MEMORY = (0.6, 0.75, 0.85, 0.95)
LINKS = (0.6, 0.75, 0.9, 1.0)


class Levels:
    """links_most: links that fill a node. clock: seconds, steady; its zero does not matter."""

    def __init__(self, links_most: int, clock: Callable[[], float]) -> None:
        self._links_most = links_most
        self._clock = clock
        self._began = clock()
        self._nodes: dict[str, _Node] = {}

    def take(self, load: Load) -> None:
        """A node's report."""
        node = self._nodes.get(load.node)
        if node is None:
            self._forget()
            node = self._nodes[load.node] = _Node()
        node.seen = self._clock()
        node.draining = load.draining
        node.high.append(self._level(load, 1.0))
        node.low.append(self._level(load, MARGIN))
        if len(node.high) == RISE:
            node.level = max(node.level, min(node.high))
        if len(node.low) == FALL:
            node.level = min(node.level, max(node.low))

    def of(self, nodes: Sequence[str], *, silent: bool = False) -> int | None:
        """The level of a point with these nodes behind it: that of the one with most room. None: it is not to be given,
        because all of them drain or are silent. silent: give those that are silent all the same, as full."""
        if not nodes:
            return 0
        found = [level for node in nodes if (level := self._of(node, silent)) is not None]
        return min(found, default=None)

    def _of(self, name: str, silent: bool) -> int | None:
        node = self._nodes.get(name)
        now = self._clock()
        if node is None and now - self._began <= SILENT_S:
            return 0  # it has not had the time to say anything
        if node is not None and node.draining:
            return None
        if node is None or now - node.seen > SILENT_S:
            return FULL if silent else None
        return node.level

    def _level(self, load: Load, margin: float) -> int:
        figures = (
            (load.cpu, CPU),
            (load.lag_ms, LAG_MS),
            (load.memory, MEMORY),
            (load.links / self._links_most, LINKS),
        )
        return max(sum(figure >= margin * threshold for threshold in thresholds) for figure, thresholds in figures)

    def _forget(self) -> None:
        """Nodes that come and go under ever new names leave nothing behind."""
        gone = self._clock() - 100 * SILENT_S
        for name in [name for name, node in self._nodes.items() if node.seen < gone]:
            del self._nodes[name]


class _Node:
    """What is known of one node."""

    __slots__ = ("draining", "high", "level", "low", "seen")

    def __init__(self) -> None:
        self.level = 0
        self.seen = 0.0
        self.draining = False
        self.high: deque[int] = deque(maxlen=RISE)
        self.low: deque[int] = deque(maxlen=FALL)
