"""Wake-ups and room broadcasts to the gateways of this process: plain calls, since all of them are at hand."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from ..ports import Wake

__all__ = ["LocalPush"]

log = logging.getLogger("imcore.bus")


class LocalPush:
    """Every gateway of the process hears everything, and looks up by itself whether it has a link for it."""

    def __init__(self) -> None:
        self._nodes: dict[str, tuple[Callable[[Sequence[Wake]], None], Callable[[str, bytes], None]]] = {}

    spreads = False
    """What members say stays with their gateway."""
    dropped = 0
    """Nothing is."""

    def attach(
        self,
        node: str,
        wake: Callable[[Sequence[Wake]], None],
        room: Callable[[str, bytes], None],
        said: Callable[[str, str, str, bytes], None] | None = None,
    ) -> None:
        """This node's gateway takes wake-ups for its users, and broadcasts for rooms that have members here."""
        self._nodes[node] = wake, room

    def joined(self, node: str, room: str) -> bool:
        """Nobody need know: every gateway hears everything."""
        return True

    def left(self, node: str, room: str) -> None:
        """Nor this."""

    def relay(self, node: str, room: str, body: bytes) -> None:
        """There are no other nodes."""

    async def say(self, user: str, device: str, room: str, body: bytes) -> bool:
        """Whoever hears, hears here."""
        return False

    async def broadcast(self, room: str, body: bytes) -> None:
        """Hand a transient message to every node; returns when it is on its way."""
        for _, hand in list(self._nodes.values()):
            hand(room, body)

    def wake(self, wakes: Sequence[Wake]) -> None:
        """Tell every node what is durable now. A wake-up is a hint: one that fails harms nobody else."""
        for node, (hand, _) in self._nodes.items():
            try:
                hand(wakes)
            except Exception:
                log.exception("node %s failed on a wake-up; its links heal by their heartbeat", node)
