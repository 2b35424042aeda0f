"""The embedded engine against its plain model, in any order: restarts, crashes, a full disk, passes to the tables, and
users that drop out of memory come between."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from imcore.bus.books import Action
from imcore.bus.embedded import EmbeddedBus
from imcore.bus.embedded.audit import audit
from imcore.bus.embedded.dead import ask, letters
from imcore.bus.embedded.store import Statement
from imcore.errors import EngineError
from imcore.messages import Resume
from tests.bus.engines import Link, Taker, uplink
from tests.models.inbox import InboxModel, QueueModel

LIMIT = 6
users = st.sampled_from(["alice", "bob"])
devices = st.sampled_from(["phone", "desk"])


class EngineMachine(RuleBasedStateMachine):
    """Operations gather until `land`; then everything that was promised is looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.place = Path(tempfile.mkdtemp(prefix="imcore-model-"))
        self.folder = self.place / "0"
        self.crashes = 0
        self.queue = QueueModel()
        self.inboxes = {name: InboxModel(LIMIT) for name in ("alice", "bob")}
        self.expected: list[tuple[Link, int]] = []
        self.appends: list[tuple[asyncio.Future[int], int]] = []
        self.bus = self.start()
        self.epoch = self.bus._store.epoch

    def start(self) -> EmbeddedBus:
        self.taker = Taker()
        self.handed: list[tuple[str, str, int]] = list(self.queue.unsettled)
        bus = EmbeddedBus(self.folder, inbox_count=LIMIT)
        self.runner.run(bus.start())
        self.taker.attach(bus)
        return bus

    async def quiet(self) -> None:
        core = self.bus._core
        assert core is not None
        await asyncio.sleep(0)  # tasks that append have begun
        await core.gathered()
        await asyncio.sleep(0)
        await core.journal.quiet()

    def flush(self) -> None:
        """Everything lands."""
        self.runner.run(self.quiet())
        for link, id in self.expected:
            assert link.answers == [(id, None)]
        for task, seq in self.appends:
            assert task.result() == seq
        self.expected.clear()
        self.appends.clear()
        assert [(m.user, m.device, m.id) for m in self.taker.messages] == self.handed

    async def _call(self, function: Any, *arguments: Any) -> None:
        function(*arguments)

    @rule(user=users, device=devices, id=st.integers(1, 12))
    def put(self, user: str, device: str, id: int) -> None:
        link = Link()
        if self.queue.put(user, device, id):
            self.handed.append((user, device, id))
        self.expected.append((link, id))
        self.runner.run(self._call(self.bus.queue.put, uplink(id, user=user, device=device), link))

    @rule(user=users, device=devices, id=st.integers(1, 12))
    def withdraw(self, user: str, device: str, id: int) -> None:
        link = Link()
        self.queue.withdraw(user, device, id)
        self.expected.append((link, id))
        self.runner.run(self._call(self.bus.queue.withdraw, user, device, id, link))

    @rule(user=users, key=st.none() | st.sampled_from("abc"))
    def append(self, user: str, key: str | None) -> None:
        body = b"%d" % len(self.inboxes[user].bodies)

        async def begin() -> asyncio.Future[int]:
            await self._loaded(user)
            return self.bus.inbox.append(user, "chat", body, key)

        self.appends.append((self.runner.run(begin()), self.inboxes[user].append(body, key)))

    async def _loaded(self, user: str) -> None:
        core = self.bus._core
        assert core is not None
        await core.user(user)

    @rule(user=users, device=devices, seq=st.integers(0, 20))
    def taken(self, user: str, device: str, seq: int) -> None:
        self.flush()
        self.runner.run(self._loaded(user))
        self.inboxes[user].taken(device, seq)
        self.runner.run(self._call(self.bus.inbox.taken, user, device, seq))

    @rule(
        user=users,
        device=devices,
        resume=st.none() | st.tuples(st.sampled_from([True, True, False]), st.integers(0, 20)),
        fresh=st.sampled_from(["oldest", "head"]),
    )
    def open(self, user: str, device: str, resume: tuple[bool, int] | None, fresh: str) -> None:
        self.flush()
        point = resume and Resume(self.epoch if resume[0] else "another", resume[1])
        opening = self.runner.run(self.bus.inbox.open(user, device, point, fresh))
        first, resumed = self.inboxes[user].open(device, resume, fresh)
        assert (opening.head, opening.first, opening.resumed) == (self.inboxes[user].head, first, resumed)
        assert opening.accepted == self.queue.accepted.get((user, device), 0)

    @rule(which=st.integers(0, 100))
    def settle(self, which: int) -> None:
        self.flush()
        if self.taker.messages:
            message = self.taker.messages[which % len(self.taker.messages)]
            self.runner.run(self._call(self.bus.queue.settle, [message]))
            place = message.user, message.device, message.id
            if place in self.queue.unsettled:
                self.queue.unsettled.remove(place)

    @rule(which=st.integers(0, 100))
    def bury(self, which: int) -> None:
        """A handler failed too often."""
        self.flush()
        waiting = [m for m in self.taker.messages if (m.user, m.device, m.id) in self.queue.unsettled]
        if waiting:
            message = waiting[which % len(waiting)]
            self.runner.run(self._call(self.bus.queue.bury, message, "why"))
            self.queue.unsettled.remove((message.user, message.device, message.id))
            self.queue.dead.append((message.user, message.device, message.id))

    @rule(which=st.integers(0, 100), action=st.sampled_from(["replay", "drop"]))
    def ask_for_a_dead_letter(self, which: int, action: Action) -> None:
        """Somebody else's connection leaves a request; the engine's next look finds it."""
        self.flush()
        with closing(sqlite3.connect(self.folder / "imcore.db", isolation_level=None)) as connection:
            found = list(letters(connection))
            assert [(each.message.user, each.message.device, each.message.id) for each in found] == self.queue.dead
            if found:
                ask(connection, [found[which % len(found)].number], action)
        self.runner.run(self.bus._look_for_requests())
        if found:
            place = self.queue.dead.pop(which % len(found))
            if action == "replay":
                self.queue.unsettled.append(place)
                self.handed.append(place)

    @rule()
    def count(self) -> None:
        """The books add up at any time, while the engine works."""
        self.flush()
        books = audit(self.folder)
        assert books.faults == []
        assert (books.waiting, books.dead) == (len(self.queue.unsettled), len(self.queue.dead))
        assert books.appended == sum(inbox.head for inbox in self.inboxes.values())
        counters = self.bus.counters
        assert counters["accepted"] == books.accepted
        assert counters["appended"] == books.appended
        assert counters["dead"] == books.dead + books.dropped + books.replayed

    @rule()
    def land(self) -> None:
        self.flush()

    @rule(steps=st.integers(1, 6))
    def fold(self, steps: int) -> None:
        """A part of a pass, or all of it."""
        core = self.bus._core
        assert core is not None
        self.flush()
        core.fold._begun = float("-inf")
        for _ in range(steps):
            if core.fold.due:
                self.runner.run(core.journal.quiet())

    @rule()
    def sweep(self) -> None:
        """Who has nothing on the way leaves memory."""
        self.flush()
        core = self.bus._core
        assert core is not None
        for _ in range(2):
            core.users.sweep(10)

    @rule(user=users, device=devices)
    def full_disk(self, user: str, device: str) -> None:
        """What comes while the disk is full is refused, and it is as if it had not come."""
        self.flush()
        self.runner.run(self._loaded(user))
        self.runner.run(self._full_disk(user, device))

    async def _full_disk(self, user: str, device: str) -> None:
        core = self.bus._core
        assert core is not None
        writer = core.journal.writer
        assert writer is not None
        error = sqlite3.OperationalError("database or disk is full")

        def full(statements: Sequence[Statement]) -> None:
            core.loop.call_soon(core.journal.done, error)

        writer.write = full  # type: ignore[method-assign]  # its disk is full on purpose
        link = Link()
        id = self.queue.accepted.get((user, device), 0) + 1
        self.bus.queue.put(uplink(id, user=user, device=device), link)
        task = asyncio.ensure_future(self.bus.inbox.append(user, "chat", b"lost", "z"))
        await asyncio.sleep(0)
        self.bus.queue.put(uplink(id + 1, user=user, device=device), link)
        await core.journal.quiet()
        del writer.write
        assert [(number, refusal is not None) for number, refusal in link.answers] == [(id, True), (id + 1, True)]
        assert isinstance(task.exception(), EngineError)

    @rule()
    def restart(self) -> None:
        self.flush()
        self.runner.run(self.bus.close())
        self.bus = self.start()

    @rule()
    def crash(self) -> None:
        """The process is killed: what is on the disk at this moment is all there is."""
        self.flush()
        self.crashes += 1
        dead, self.folder = self.folder, self.place / str(self.crashes)
        self.folder.mkdir()
        for name in ("imcore.db", "imcore.db-wal", "mark"):
            shutil.copy(dead / name, self.folder / name)
        self.runner.run(self.bus.close())
        shutil.rmtree(dead)
        self.bus = self.start()

    @invariant()
    def keeps_what_it_should(self) -> None:
        if self.appends or self.expected:
            return
        for name, inbox in self.inboxes.items():
            kept = self.runner.run(self.bus.inbox.read(name, 0, 100, 10_000))
            assert [(m.seq, m.body) for m in kept] == inbox.kept()

    def teardown(self) -> None:
        self.runner.run(self.bus.close())
        assert audit(self.folder).faults == []
        self.runner.close()
        shutil.rmtree(self.place)


TestEngineMachine = EngineMachine.TestCase
TestEngineMachine.settings = settings(max_examples=25, stateful_step_count=30)
