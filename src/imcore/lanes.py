"""How messages come to their handlers: in order for one device, at once for different ones, again when they failed.

Each device with something to do has a lane. A handler that returns a future (its push, on its way to the disk) is
through as far as its lane goes: the next message begins at once, and each is settled when its future is done. If one
fails, nothing more begins in that lane until those that were begun have come back; then the failed ones run again,
before what came behind them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from operator import attrgetter

import msgspec

from .bus.ports import Uplink, UplinkQueue
from .errors import EngineError

__all__ = ["Handler", "Lanes", "Tries"]

Handler = Callable[[Uplink], Awaitable[object]]
"""Handles a message. What it returns, or what that comes to when it is awaited, may be a future to settle on."""

TURN = 64
"""After so many messages a worker lets the loop go round, even if no handler waits for anything; and so many of one
lane it begins before it looks at the next."""
LONGEST_S = 30.0
"""The longest pause between two tries."""

log = logging.getLogger("imcore.service")


class Tries(msgspec.Struct, frozen=True):
    """How a message is tried again."""

    most: int
    """So often at most, then it is put aside."""
    pause_s: float
    """The pause before the second try; each one after that is twice as long."""

    def pause(self, tries: int) -> float:
        """The pause after so many tries."""
        return min(LONGEST_S, self.pause_s * 2.0 ** min(tries - 1, 32))


class _Lane:
    """What one device sent and is not settled yet, in order."""

    __slots__ = ("begun", "failed", "held", "messages", "place", "tried", "tries", "watched", "worked")

    def __init__(self, place: tuple[str, str]) -> None:
        self.place = place
        self.messages: deque[Uplink] = deque()
        self.begun: list[tuple[Uplink, asyncio.Future[object]]] = []  # handled but for their pushes
        self.failed: dict[Uplink, BaseException] = {}
        self.held = False  # ready, worked on, or waiting for another try
        self.worked = False
        self.watched = False  # somebody is told when what was begun last is done
        self.tried = 0  # the message, by its number, that failed last
        self.tries = 0


class Lanes:
    """Hands messages to their handlers, at most `parallel` of which run at once."""

    def __init__(self, queue: UplinkQueue, handlers: Mapping[str, Handler], parallel: int, tries: Tries) -> None:
        self._queue = queue
        self._handlers = handlers
        self._parallel = parallel
        self._tries = tries
        self._loop = asyncio.get_running_loop()
        self._lanes: dict[tuple[str, str], _Lane] = {}
        self._ready: deque[_Lane] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._retries: dict[_Lane, asyncio.TimerHandle] = {}
        self._hiring = 0
        self._resting = 0
        self._closing = False

    def __len__(self) -> int:
        """Devices with a message that is not settled."""
        return len(self._lanes)

    @property
    def running(self) -> int:
        """Handlers that run now."""
        return len(self._workers)

    def take(self, messages: Sequence[Uplink]) -> None:
        """These have come, in order."""
        if self._closing:
            return
        lanes, ready = self._lanes, self._ready
        place: tuple[str, str] = "", ""
        lane: _Lane | None = None
        for message in messages:
            if lane is None or message.device != place[1] or message.user != place[0]:
                place = message.user, message.device
                lane = lanes.get(place)
                if lane is None:
                    lane = lanes[place] = _Lane(place)
            lane.messages.append(message)
            if not lane.held:
                lane.held = True
                ready.append(lane)
        self._hire()

    async def close(self, grace_s: float) -> None:
        """Take nothing new; wait `grace_s` seconds for what was begun, then cancel the handlers that still run."""
        self._closing = True
        self._ready.clear()
        for timer in self._retries.values():
            timer.cancel()
        self._retries.clear()
        end = self._loop.time() + grace_s
        if self._workers:
            _, late = await asyncio.wait(self._workers, timeout=grace_s)
            for worker in late:
                worker.cancel()
            if late:
                log.warning("%d handlers did not return in %s s; their messages come again", len(late), grace_s)
                await asyncio.wait(late)
        begun = [future for lane in self._lanes.values() for _, future in lane.begun]
        if begun:
            await asyncio.wait(begun, timeout=max(0.0, end - self._loop.time()))
        for lane in self._lanes.values():
            self._collect(lane)
        self._lanes.clear()

    def _hire(self) -> None:
        """Get a worker for what is ready, after those who are about to be free have had their turn."""
        if not self._hiring and self._ready:
            self._hiring = 1
            self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        """One worker does for handlers that wait for nothing. While all of them wait, each turn gets twice as many."""
        count = 0 if self._resting else min(self._hiring, len(self._ready), self._parallel - len(self._workers))
        for _ in range(count):
            worker = self._loop.create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._ended)
        self._hiring = 2 * count
        if count:
            self._loop.call_soon(self._begin)

    def _ended(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        if not worker.cancelled() and (error := worker.exception()) is not None:
            log.critical("a worker of the service failed", exc_info=error)
        if not self._closing:
            self._hire()

    async def _work(self) -> None:
        """Begin what is ready until nothing is."""
        ready, begun = self._ready, 0
        while ready:
            lane = ready.popleft()
            lane.worked = True
            try:
                begun += await self._handle(lane)
            finally:
                lane.worked = False
            self._leave(lane)
            if begun >= TURN:
                self._resting += 1
                try:
                    await asyncio.sleep(0)
                finally:
                    self._resting -= 1
                begun = 0
                self._hire()

    async def _handle(self, lane: _Lane) -> int:
        """Begin messages of this lane, at most `TURN`; returns how many. What one device sent together stays so."""
        messages, handlers = lane.messages, self._handlers
        if lane.begun:
            self._collect(lane)
        count = 0
        while messages and count < TURN and not lane.failed:
            message = messages[0]
            count += 1
            try:
                begins = handlers[message.route](message)
                if isinstance(begins, asyncio.Future):
                    outcome: object = begins
                else:
                    outcome = await begins
                    self._collect(lane)  # meanwhile a push may have failed
            except (Exception, asyncio.CancelledError) as error:
                if isinstance(error, asyncio.CancelledError) and self._closing:
                    raise
                lane.failed[message] = error  # what a handler awaited may be cancelled: that is a failure too
            else:
                if isinstance(outcome, asyncio.Future):
                    lane.begun.append((message, outcome))
                else:
                    self._queue.settle((message,))
            messages.popleft()
        return count

    def _leave(self, lane: _Lane) -> None:
        """A worker is through with the lane, for now."""
        if lane.begun and not lane.watched:
            self._watch(lane)
        if lane.failed:
            if not lane.begun:
                self._failed(lane)
        elif lane.messages:
            self._ready.append(lane)
        else:
            lane.held = False
            if not lane.begun:
                del self._lanes[lane.place]

    def _watch(self, lane: _Lane) -> None:
        lane.watched = True
        lane.begun[-1][1].add_done_callback(partial(self._returned, lane))

    def _returned(self, lane: _Lane, _: object) -> None:
        """What was begun last has come back, and with it, mostly, all that was begun before."""
        lane.watched = False
        if self._closing:
            return
        self._collect(lane)
        if lane.worked:
            return  # its worker sees to the rest
        if lane.begun:
            self._watch(lane)
        elif lane.failed:
            self._failed(lane)
        elif not lane.held:
            del self._lanes[lane.place]

    def _collect(self, lane: _Lane) -> None:
        """Settle what was begun and is done."""
        begun, lane.begun = lane.begun, []
        settled: list[Uplink] = []
        for message, future in begun:
            if not future.done():
                lane.begun.append((message, future))
            elif future.cancelled():
                lane.failed[message] = asyncio.CancelledError()
            elif (error := future.exception()) is not None:
                lane.failed[message] = error
            else:
                settled.append(message)
        self._queue.settle(settled)

    def _failed(self, lane: _Lane) -> None:
        """Messages failed and nothing is under way: they run again, first and in order, or the first is put aside."""
        failed = sorted(lane.failed, key=attrgetter("id"))
        message, error = failed[0], lane.failed[failed[0]]
        lane.failed.clear()
        lane.messages.extendleft(reversed(failed))
        if lane.tried != message.id:
            lane.tried, lane.tries = message.id, 0
        lane.tries += 1
        if lane.tries >= self._tries.most and not isinstance(error, EngineError):
            log.error(
                "handler of route %r failed %d times on message %s; it is put aside",
                message.route, lane.tries, message.key, exc_info=error,
            )  # fmt: skip
            lane.messages.popleft()
            self._queue.bury(message, f"{type(error).__name__}: {error}")
            self._leave(lane)
            self._hire()
            return
        pause = self._tries.pause(lane.tries)
        log.warning(
            "handler of route %r failed on message %s, try %d of %d, next in %.1f s",
            message.route, message.key, lane.tries, self._tries.most, pause, exc_info=error,
        )  # fmt: skip
        if not self._closing:
            self._retries[lane] = self._loop.call_later(pause, self._again, lane)

    def _again(self, lane: _Lane) -> None:
        del self._retries[lane]
        self._ready.append(lane)
        self._hire()
