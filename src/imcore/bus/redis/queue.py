"""The uplink queue's door: what comes from links is looked at, and goes into its user's shard.

The highest number accepted from each device is in Redis, and compared there in the step that stores the message. What
this process remembers of it only decides about what the door objects to: a repeat is never refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from ...errors import EngineError
from ...messages import Refusal
from ..ports import Check, Sink, Uplink
from .consumer import Consumer
from .pipe import Pipe
from .services import Services

__all__ = ["RedisQueue"]

RETRY_MS = 1000
KNOWN = 200_000
"""Devices whose highest number is remembered here; the one that was not heard of for longest is asked for again."""

Place = tuple[str, str]

log = logging.getLogger("imcore.bus")
_encode = msgspec.msgpack.Encoder().encode


class RedisQueue:
    """Follows `ports.UplinkQueue`. backlog: messages that wait for their service at most, in all shards."""

    def __init__(self, pipe: Pipe, consumer: Consumer, services: Services, backlog: int) -> None:
        self._pipe = pipe
        self._shard = pipe.keys.shard
        self._consumer = consumer
        self._services = services
        self._backlog = backlog
        self._accepted: dict[Place, int] = {}
        self._parked: dict[Place, list[tuple[Uplink, bool, Sink]]] = {}
        self.counters = {"refused": 0}

    def put(self, message: Uplink, sink: Sink) -> None:
        """Store the message unless its number is not above the highest accepted from this device."""
        self._come(message, False, sink)

    def withdraw(self, user: str, device: str, id: int, sink: Sink) -> None:
        """The device gives this number up: it counts as accepted, and nothing is processed."""
        self._come(Uplink(user, device, id, "", b""), True, sink)

    def consume(self, routes: Mapping[str, Check | None], take: Callable[[Sequence[Uplink]], None]) -> None:
        """Hand messages of these routes to `take`: of the shards that this process gets hold of."""
        self._services.mine = routes
        self._services.tell()
        self._consumer.begin(routes, take)

    def settle(self, messages: Iterable[Uplink]) -> None:
        """Their handlers have returned; they leave the queue."""
        self._consumer.settle(messages)

    def bury(self, message: Uplink, error: str) -> None:
        """The handler failed too often: the message is put aside with its last error."""
        self._consumer.bury(message, error)

    def knows(self, user: str, device: str, accepted: int) -> None:
        """The highest number accepted from this device."""
        self._accepted.pop((user, device), None)
        self._accepted[user, device] = accepted
        if len(self._accepted) > KNOWN:
            del self._accepted[next(iter(self._accepted))]

    def forget_all(self) -> None:
        """History was lost: what is known here may be wrong."""
        self._accepted.clear()

    def _come(self, message: Uplink, withdrawn: bool, sink: Sink) -> None:
        place = message.user, message.device
        if self._parked:
            waiting = self._parked.get(place)
            if waiting is not None:
                waiting.append((message, withdrawn, sink))
                return
        known = self._accepted.get(place)
        if known is not None and message.id <= known and self._pipe.up:
            self._send(message, withdrawn, sink)  # a repeat: it is answered in its turn, whatever is in it
            return
        refusal = self._objection(message, withdrawn, sink)
        if refusal is None:
            self._send(message, withdrawn, sink)
        elif known is not None or not self._pipe.up:
            self._refuse(sink, message.id, refusal)
        else:
            self._parked[place] = [(message, withdrawn, sink)]
            self._pipe.do(self._shard(message.user), b"accepted", place, partial(self._unpark, place))

    def _objection(self, message: Uplink, withdrawn: bool, sink: Sink) -> Refusal | None:
        pipe = self._pipe
        if not pipe.up:
            if pipe.closed:
                return Refusal("draining", "the node is closing; another one will take it", RETRY_MS)
            return Refusal("overloaded", str(pipe.trouble()), RETRY_MS)
        refusal = sink.objection()
        if refusal is not None or withdrawn:
            return refusal
        refusal = self._services.objection(message)
        if refusal is None and pipe.lag >= self._backlog:
            text = f"{pipe.lag} messages wait for their service; the queue takes no more"
            refusal = Refusal("overloaded", text, RETRY_MS)
        return refusal

    def _send(self, message: Uplink, withdrawn: bool, sink: Sink) -> None:
        args = (message.user, message.device, message.id, b"" if withdrawn else _encode(message))
        landed = partial(self._landed, sink, message.user, message.device, message.id)
        self._pipe.do(self._shard(message.user), b"put", args, landed, len(message.body))

    def _landed(self, sink: Sink, user: str, device: str, id: int, result: Any) -> None:
        if isinstance(result, EngineError):
            self._refuse(sink, id, Refusal("overloaded", str(result), RETRY_MS))
            return
        if id > self._accepted.get((user, device), 0):
            self.knows(user, device, id)
        try:
            sink.answered(id, None)
        except Exception:
            log.exception("a link failed on the answer to message %d", id)

    def _refuse(self, sink: Sink, id: int, refusal: Refusal) -> None:
        self.counters["refused"] += 1
        try:
            sink.answered(id, refusal)
        except Exception:
            log.exception("a link failed on the refusal of message %d", id)

    def _unpark(self, place: Place, result: Any) -> None:
        """How far the device is has become known: what waited for that goes on, in order."""
        waiting = self._parked.pop(place)
        if isinstance(result, EngineError):
            for message, _, sink in waiting:
                self._refuse(sink, message.id, Refusal("overloaded", str(result), RETRY_MS))
            return
        self.knows(*place, int(result))
        held = False
        for message, withdrawn, sink in waiting:
            refusal = self._objection(message, withdrawn, sink) if message.id > self._accepted[place] else None
            if refusal is None and held:  # its link could not know yet that it has to hold this one back
                refusal = Refusal("overloaded", "held back behind a refused message", 0)
            if refusal is None:
                self._send(message, withdrawn, sink)
            else:
                held = True
                self._refuse(sink, message.id, refusal)
