"""What was learned about a way through the tunnel: how it treats what is streamed, and its limits (wire: "The HTTP
tunnel"). Sans-I/O: it is told what happened, and says how to ask next. A network that nothing is known of starts with
the best, and loses only what is shown not to hold; what was lost is tried again after a while.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal, Protocol

import msgspec

__all__ = ["AGAIN_S", "Learned", "Manner", "Memory", "Mode"]

Mode = Literal["stream", "padded", "poll"]
"""How messages come down: at once; at once if what holds them back is filled up behind them; asked for again and
again."""

IDLE_S = 45.0
"""How long a connection may have been idle and still be used, to begin with, seconds."""
HOLD_S = 25.0
"""How long a response may be held back, to begin with, seconds."""
BODY = 64 * 1024
"""Bytes of a request's body, to begin with."""
LEAST_IDLE_S, LEAST_HOLD_S, LEAST_BODY = 1.0, 1.0, 1024
BROKEN_MOST = 2
"""Streams in a row that may break before they were seen to stream."""
AGAIN_S = 600.0
"""After how long a lost mode, and a lowered limit, is tried again, seconds; twice as long each time, up to a day."""
AGAIN_MOST_S = 86400.0

_NEXT: dict[Mode, Mode] = {"stream": "padded", "padded": "poll", "poll": "poll"}


class Learned(msgspec.Struct, frozen=True):
    """All that is worth keeping of one way on one network."""

    mode: Mode = "stream"
    idle_s: float = IDLE_S
    hold_s: float = HOLD_S
    body: int = BODY
    again_s: float = AGAIN_S
    """How long the next loss of the mode holds."""
    again_at: float = 0.0
    """When the best is tried again, seconds since 1970; 0 = nothing was lost."""
    passage: str = ""
    """How the proxy was passed that stands there (`proxies.Passage`)."""


class Memory(Protocol):
    """Where it is kept. An implementation keeps it apart for each network that the device is on."""

    def recall(self, way: str) -> Learned | None:
        """What was kept of this way on the network of now."""

    def keep(self, way: str, learned: Learned) -> None:
        """It has changed."""


class Manner:
    """How to ask through one way. path: what it shares with the same port and way of other machines: what the network
    does to one of them it probably does to one that nothing is known of. clock: seconds since 1970."""

    def __init__(self, memory: Memory, way: str, path: str, clock: Callable[[], float] = time.time) -> None:
        self._memory = memory
        self._way = way
        self._path = path
        self._clock = clock
        self.sure = False
        """The mode has shown since the client began that it holds."""
        self._silent_s = 0.0  # how long the last stream had been silent that broke
        self._broken = 0  # streams in a row that broke before they were seen to stream

    @property
    def now(self) -> Learned:
        """What holds now."""
        learned = self._memory.recall(self._way) or self._memory.recall(self._path) or Learned()
        if learned.again_at and self._clock() >= learned.again_at:
            learned = Learned(again_s=learned.again_s, again_at=0.0)
            self.sure = False
            self._memory.keep(self._way, learned)
        return learned

    def streams(self) -> None:
        """Both pings came, apart from each other: the mode holds."""
        self.sure = True
        self._broken = 0
        learned = self.now
        if learned.mode == "stream" and learned.again_s != AGAIN_S and not learned.again_at:
            self._keep(again_s=AGAIN_S)

    def holds_back(self) -> None:
        """What was streamed did not come when it was said."""
        self._lose_mode()

    def broke(self) -> None:
        """A stream was cut off before it was seen to stream: by chance, or always."""
        self._broken += 1
        if self._broken > BROKEN_MOST:
            self._broken = 0
            self._lose_mode()

    def stalled(self, silent_s: float) -> None:
        """A stream that had streamed broke after `silent_s` without a byte: by chance, or each time after so long."""
        before, self._silent_s = self._silent_s, silent_s
        if silent_s >= LEAST_HOLD_S and abs(silent_s - before) <= 0.2 * silent_s:
            self._silent_s = 0.0
            self._limit(hold_s=max(LEAST_HOLD_S, min(self.now.hold_s, silent_s * 0.8)))
            self._lose_mode("poll")

    def held_too_long(self, held_s: float) -> None:
        """A response that was held back so long never came."""
        self._limit(hold_s=max(LEAST_HOLD_S, min(self.now.hold_s, held_s) / 2))

    def idled_too_long(self, idle_s: float) -> None:
        """A connection that was idle so long was dead."""
        if idle_s > LEAST_IDLE_S:
            self._limit(idle_s=max(LEAST_IDLE_S, min(self.now.idle_s, idle_s) * 0.8))

    def too_large(self, size: int) -> bool:
        """A request's body of so many bytes was not let through. False if even the least is too much."""
        if size <= LEAST_BODY:
            return False
        self._limit(body=max(LEAST_BODY, min(self.now.body, size) // 2))
        return True

    def _lose_mode(self, mode: Mode | None = None) -> None:
        learned = self.now
        self.sure = False
        mode = mode or _NEXT[learned.mode]
        again_s = min(learned.again_s * 2, AGAIN_MOST_S) if mode == "poll" != learned.mode else learned.again_s
        self._keep(mode=mode, again_s=again_s, again_at=self._clock() + learned.again_s)

    def _limit(self, **limits: float) -> None:
        learned = self.now
        self._keep(**limits, again_at=learned.again_at or self._clock() + learned.again_s)

    def _keep(self, **changes: Any) -> None:
        learned = msgspec.structs.replace(self.now, **changes)
        self._memory.keep(self._way, learned)
        self._memory.keep(self._path, learned)
