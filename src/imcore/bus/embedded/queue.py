"""The uplink queue: messages from devices, durable before they are answered, in memory until they are settled.

One number per device recognises every repeat: `accepted` is what is durable, `pending` what is on its way there. What
is refused at the door is refused before `put` returns, because the link holds back what follows it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

from ...errors import EngineError
from ...messages import Refusal
from ..checks import objection
from ..ports import Check, Sink, Uplink
from .clock import now_ms
from .core import Core
from .dead import Request, bury, drop, forget
from .journal import UP, Up
from .users import Device, User

__all__ = ["EmbeddedQueue"]

RETRY_MS = 1000
CROWD = 8192
"""From so many unsettled messages on, no more are taken than are settled: devices wait, rather than be refused."""
BURST = 64
"""So many messages of one link may make a part of a batch larger than `UP`: what came together stays together."""

log = logging.getLogger("imcore.bus")


class EmbeddedQueue:
    """Follows `ports.UplinkQueue`."""

    def __init__(self, core: Core, unsettled: dict[str, Uplink], backlog: int, backlog_size: int) -> None:
        self.unsettled = unsettled
        """By key, oldest first."""
        self._core = core
        self._journal = core.journal
        self._users = core.users
        self._counters = core.counters
        self._backlog = backlog
        self._backlog_size = backlog_size
        self._count = len(unsettled)
        self._size = sum(len(message.body) for message in unsettled.values())
        self._routes: Mapping[str, Check | None] = {}
        self._take: Callable[[Sequence[Uplink]], None] | None = None
        self._journal.crowded = lambda: len(unsettled) > CROWD
        self._fulfilling: set[int] = set()
        self.consumed: Callable[[Mapping[str, Check | None]], None] = lambda routes: None
        """Told which routes are served."""
        self._parked: dict[str, list[tuple[Uplink, Sink, bool]]] = {}

    def put(self, message: Uplink, sink: Sink) -> None:
        """Store the message unless its number is not above the highest accepted from this device."""
        user = self._users.get(message.user)
        if user is None:
            self._park(message, sink, False)
        else:
            self._put(user, message, sink)

    def withdraw(self, user: str, device: str, id: int, sink: Sink) -> None:
        """The device gives this number up: it counts as accepted, and nothing is processed."""
        owner = self._users.get(user)
        message = Uplink(user, device, id, "", b"")
        if owner is None:
            self._park(message, sink, True)
        else:
            self._withdraw(owner, message, sink)

    def consume(self, routes: Mapping[str, Check | None], take: Callable[[Sequence[Uplink]], None]) -> None:
        """Hand over what an earlier process left unsettled, and from now on what comes."""
        self._routes, self._take = routes, take
        self.consumed(routes)
        left = [message for message in self.unsettled.values() if message.route in routes]
        if len(left) < len(self.unsettled):
            log.warning("%d messages wait for services that nobody runs here", len(self.unsettled) - len(left))
        if left:
            take(left)

    def settle(self, messages: Iterable[Uplink]) -> None:
        """Their handlers have returned; they leave the queue."""
        self._counters["settled"] += self._leave(messages)

    def bury(self, message: Uplink, error: str) -> None:
        """The handler failed too often: the message is put aside with its last error."""
        if self._leave([message]):
            self._counters["dead"] += 1
            self._core.dead_keys.add(message.key)
            self._journal.extra += bury(message, error, now_ms())

    def fulfil(self, request: Request) -> None:
        """Somebody wants a dead letter to come to its handler again, or to be given up."""
        if request.number in self._fulfilling:
            return
        self._fulfilling.add(request.number)
        if request.message is not None and request.action == "replay":
            self._count += 1
            self._size += len(request.message.body)
            self._journal.up.puts.append(request.message)
            self._journal.up.replayed.append(request.number)
        elif request.message is not None:
            self._counters["dropped"] += 1
            self._core.dead_keys.discard(request.message.key)
            self._journal.extra += drop(request.number)
        else:
            self._journal.extra += forget(request.number)
        self._journal.soon()

    def landed(self, up: Up) -> None:
        """The batch is durable: answer, and hand over."""
        touch = self._core.touch
        for sink, id, device in up.answers:
            if id > device.accepted:
                device.accepted = id
                if not device.user.dirty:
                    touch(device.user)
            try:
                sink.answered(id, None)
            except Exception:
                log.exception("a link failed on the answer to message %d", id)
        self._counters["withdrawn"] += len(up.withdrawn)
        puts = up.puts
        if puts:
            self._counters["accepted"] += len(puts) - len(up.replayed)
            self._counters["replayed"] += len(up.replayed)
            unsettled = self.unsettled
            for message in puts:
                unsettled[message.key] = message
            if up.replayed:
                self._core.dead_keys.difference_update([message.key for message in puts])
                self._fulfilling.difference_update(up.replayed)
            if self._take is not None:
                self._take(puts)

    def failed(self, ups: Sequence[Up], refusal: Refusal) -> None:
        """Nothing of these is durable."""
        for up in ups:
            self._fulfilling.difference_update(up.replayed)
            self._count -= len(up.puts)
            self._size -= sum(len(message.body) for message in up.puts)
            for _, _, device in up.answers:
                device.pending = device.accepted
        for up in ups:
            for sink, id, _ in up.answers:
                self._refuse(sink, id, refusal)

    def _put(self, user: User, message: Uplink, sink: Sink) -> bool:
        user.used = True
        device, id = user.device(message.device), message.id
        if id <= device.pending:
            self._repeat(device, id, sink)
            return True
        if (refusal := sink.objection()) is not None:
            self._refuse(sink, id, refusal)
            return False
        if (check := self._routes.get(message.route, self._nobody)) is not None:
            refusal = objection(check, message, "bad_frame" if message.route in self._routes else "no_route")
            if refusal is not None:
                self._refuse(sink, id, refusal)
                return False
        if self._core.closing:
            self._refuse(sink, id, Refusal("draining", "the node is closing; another one will take it", RETRY_MS))
            return False
        if self._count >= self._backlog or self._size >= self._backlog_size:
            text = f"{self._count} messages of {self._size} bytes wait for their service; the queue takes no more"
            self._refuse(sink, id, Refusal("overloaded", text, RETRY_MS))
            return False
        device.pending = id
        self._count += 1
        self._size += len(message.body)
        up = self._part(sink)
        up.puts.append(message)
        up.answers.append((sink, id, device))
        self._journal.soon()
        return True

    def _withdraw(self, user: User, message: Uplink, sink: Sink) -> bool:
        user.used = True
        device, id = user.device(message.device), message.id
        if id <= device.pending:
            self._repeat(device, id, sink)
            return True
        if (refusal := sink.objection()) is not None:
            self._refuse(sink, id, refusal)
            return False
        if self._core.closing:
            self._refuse(sink, id, Refusal("draining", "the node is closing; another one will take it", RETRY_MS))
            return False
        device.pending = id
        up = self._part(sink)
        up.withdrawn.append((message.user, message.device, id))
        up.answers.append((sink, id, device))
        self._journal.soon()
        return True

    def _part(self, sink: Sink) -> Up:
        """The part of a batch that gathers: another one when it is full, but what one link sent together stays so."""
        up = self._journal.up
        count = len(up.answers)
        if count >= UP and (up.answers[-1][0] is not sink or count >= UP + BURST):
            up = self._journal.next_up()
        return up

    def _repeat(self, device: Device, id: int, sink: Sink) -> None:
        self._counters["repeated"] += 1
        if device.pending == device.accepted:
            sink.answered(id, None)
        else:  # behind what is still on its way, perhaps the very message that this one repeats
            self._part(sink).answers.append((sink, id, device))
            self._journal.soon()

    def _refuse(self, sink: Sink, id: int, refusal: Refusal) -> None:
        self._counters["refused"] += 1
        try:
            sink.answered(id, refusal)
        except Exception:
            log.exception("a link failed on the refusal of message %d", id)

    def _nobody(self, message: Uplink) -> str:
        return f"no service {message.route!r}; known: {', '.join(sorted(self._routes)) or 'none'}"

    def _park(self, message: Uplink, sink: Sink, withdrawn: bool) -> None:
        """The user is not in memory: wait, in order."""
        parked = self._parked.get(message.user)
        if parked is not None:
            parked.append((message, sink, withdrawn))
            return
        self._parked[message.user] = [(message, sink, withdrawn)]
        self._core.load(message.user, lambda user: self._unpark(message.user, user))

    def _unpark(self, name: str, user: User | EngineError) -> None:
        refused: set[str] = set()
        for message, sink, withdrawn in self._parked.pop(name):
            if isinstance(user, EngineError):
                self._refuse(sink, message.id, Refusal("overloaded", str(user), RETRY_MS))
            elif message.device in refused:  # its link could not know yet that it has to hold this one back
                self._refuse(sink, message.id, Refusal("overloaded", "held back behind a refused message", 0))
            elif not (self._withdraw if withdrawn else self._put)(user, message, sink):
                refused.add(message.device)

    def _leave(self, messages: Iterable[Uplink]) -> int:
        """How many of them were in the queue."""
        unsettled, fold, left = self.unsettled, self._core.fold, 0
        for message in messages:
            known = unsettled.pop(message.key, None)
            if known is None:
                continue
            left += 1
            self._size -= len(known.body)
            if known.entry in fold.stored:
                fold.gone.append(known.entry)
            self._journal.settled.append(known.entry)
        if left:
            self._count -= left
            self._journal.relieved(left)
        return left
