"""The outbox and its file against a plain model of the promise: the process may die between any two disk operations."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from imcore._codec import FAILED
from imcore.client import outbox_file
from imcore.client.outbox_file import Change, OutboxFile, base_of, forgotten, given_up, new
from imcore.client.uplink import UNSURE, WITHDRAWN, Entry, Outbox
from imcore.messages import Refusal
from tests.models.uplink import GatewayModel

LATER = Refusal("overloaded", "later", 0)
NEVER = Refusal("bad_frame", "never", None)
MAX_FRAME = 65536
FAR = 1e9


class Disk:
    """A book whose every step is the test's: what was asked for, then written, then told."""

    def __init__(self, file: OutboxFile) -> None:
        self.file = file
        self.asked: list[tuple[Change, Callable[[], None]]] = []
        self.written: list[Callable[[], None]] = []
        self.rows: dict[int, tuple[bytes, bool]] = {row.place: (row.body, row.refusal is not None) for row in file.rows}
        self.base = file.base

    def serve(self, outbox: Outbox) -> None:
        self.outbox = outbox

    def put(self, entry: Entry) -> None:
        place, body = entry.place, entry.body

        def durable() -> None:
            self.rows[place] = (body, False)

        self.ask(new(place, entry.route, body), durable, lambda: self.outbox.kept(entry))

    def give_up(self, entry: Entry) -> None:
        assert entry.refusal is not None
        place = entry.place

        def durable() -> None:
            self.rows[place] = (self.rows[place][0], True)

        self.ask(given_up(place, entry.refusal), durable, lambda: self.outbox.kept(entry))

    def rebase(self, base: int) -> None:
        def durable() -> None:
            self.base = base

        self.ask(base_of("alice", base), durable, lambda: self.outbox.based(base))

    def forget(self, entry: Entry) -> None:
        self.ask(forgotten(entry.place), lambda: self.rows.pop(entry.place, None), lambda: None)

    def ask(self, change: Change, durable: Callable[[], object], then: Callable[[], None]) -> None:
        def both() -> None:
            durable()
            self.written.append(then)

        self.asked.append((change, both))

    def write(self, count: int) -> None:
        """One transaction."""
        steps, self.asked = self.asked[:count], self.asked[count:]
        self.file.write([change for change, _ in steps])
        for _, durable in steps:
            durable()

    def tell(self, count: int) -> None:
        """The loop hears of what was written."""
        steps, self.written = self.written[:count], self.written[count:]
        for then in steps:
            then()


class Crashes(RuleBasedStateMachine):
    """One device: lives of a process, links, a disk; and a gateway that remembers everything."""

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "outbox"
        self.verdict: Refusal | None = None
        self.gateway = GatewayModel(lambda body: self.verdict)
        self.made = 0
        self.told: dict[bytes, Refusal | None] = {}  # over all lives
        self.withdrawn: set[bytes] = set()
        self.on_wire: dict[int, bytes] = {}  # over all lives: no number ever stands for two messages
        self.links: list[list[Any]] = []
        self.disk: Disk | None = None
        self.start()

    def start(self) -> None:
        """A process begins, with what the file has."""
        with mock.patch.object(outbox_file, "SYNCHRONOUS", "OFF"):  # the process dies, not the machine
            file = OutboxFile(self.path, "phone")
        file.claim("alice")
        self.disk = Disk(file)
        self.outbox = Outbox(self.settle, rng=self.rng, book=self.disk)
        self.disk.serve(self.outbox)
        self.alive: dict[bytes, Entry] = {}
        entries = []
        for row in file.rows:
            entry = Entry(row.place, row.route, row.body, row.body)
            entry.refusal = row.refusal
            if row.refusal is not None:
                entry.told = True
                if row.refusal.code != WITHDRAWN.code:
                    self.judge(row.body, row.refusal)
            else:
                self.alive[row.body] = entry
            entries.append(entry)
        self.outbox.restore(file.base, file.last, entries)
        self.new_link()

    @rule()
    def crash(self) -> None:
        assert self.disk is not None
        self.disk.file.close()
        self.start()

    def settle(self, entry: Entry, refusal: Refusal | None) -> None:
        del self.alive[entry.waiter]
        self.judge(entry.waiter, refusal)

    def judge(self, name: bytes, refusal: Refusal | None) -> None:
        assert refusal is not UNSURE, "nobody else used the numbers"
        if name in self.told:
            assert (self.told[name] is None) == (refusal is None), "told otherwise before"
        self.told[name] = refusal

    @rule(early=st.booleans(), broken=st.booleans())
    def new_link(self, early: bool = False, broken: bool = True) -> None:
        """early: messages may follow HELLO at once. broken: the one before did not end as foreseen."""
        self.outbox.end(broken=broken)
        if early:
            self.outbox.open()
        self.links.append(["HELLO"])
        self.answers: list[tuple[int, Any]] = []

    @rule(count=st.integers(1, 20))
    def add(self, count: int) -> None:
        for _ in range(count):
            name = self.made.to_bytes(4)
            self.made += 1
            self.alive[name] = self.outbox.add("r", name, name)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.alive)))
        self.outbox.withdraw(self.alive.pop(name))
        self.withdrawn.add(name)

    @rule(steps=st.integers(1, 24), first=st.integers(0, 4), count=st.sampled_from([1, 2, 5, 30]))
    def work(self, steps: int, first: int, count: int) -> None:
        """The world goes round, and stops anywhere in a round."""
        around = [self.read, self.hear, self.disk_writes, self.disk_is_heard, self.send]
        for step in range(first, first + steps):
            around[step % 5](count)

    def disk_writes(self, count: int) -> None:
        assert self.disk is not None
        self.disk.write(count)

    def disk_is_heard(self, count: int) -> None:
        assert self.disk is not None
        self.disk.tell(count)

    def send(self, count: int) -> None:
        assert self.disk is not None
        for _ in range(count):
            entry = self.outbox.next(FAR)
            if entry is None:
                return
            body, gone = self.disk.rows[entry.place]
            assert self.disk.base is not None
            assert entry.number == self.disk.base + entry.place, "a number that the disk does not know"
            assert gone == bool(entry.flags & FAILED), "the disk does not have it as it goes"
            assert entry.body == (b"" if gone else body)
            assert self.on_wire.setdefault(entry.number, body) == body, "a number that stands for two messages"
            self.links[-1].append((entry.number, entry.body, gone))

    def read(self, count: int, link: int = -1) -> None:
        items = self.links[link]
        for item in items[:count]:
            if item == "HELLO":
                answer: tuple[int, Any] = (0, self.gateway.accepted)
            else:
                answer = (item[0], self.gateway.read(link % len(self.links), *item))
            if items is self.links[-1]:
                self.answers.append(answer)
        del items[:count]

    def hear(self, count: int) -> None:
        for number, answer in self.answers[:count]:
            if number == 0:
                self.outbox.begin(answer, MAX_FRAME)
            else:
                self.outbox.answer(number, answer, 0.0)
        del self.answers[:count]

    @precondition(lambda self: len(self.links) > 1)
    @rule(data=st.data(), count=st.integers(1, 5))
    def read_what_an_old_link_left(self, data: st.DataObject, count: int) -> None:
        self.read(count, data.draw(st.integers(max(0, len(self.links) - 3), len(self.links) - 2)))

    @precondition(lambda self: self.links[-1] and self.links[-1][0] != "HELLO")
    @rule(verdict=st.sampled_from([LATER, NEVER]))
    def refuse(self, verdict: Refusal) -> None:
        """The next message on the newest link. No older link may judge otherwise what was refused for good."""
        if verdict is NEVER:
            for other in self.links[:-1]:
                other.clear()
        self.verdict = verdict
        self.read(1)
        self.verdict = None

    @invariant()
    def holds(self) -> None:
        log = self.gateway.log
        assert log == sorted(set(log)), "doubled or out of order"
        there = set(log)
        for name, refusal in self.told.items():
            assert (name in there) == (refusal is None), "an untruth"

    def teardown(self) -> None:
        if not hasattr(self, "outbox"):
            return
        try:
            self.settle_all()
        finally:
            assert self.disk is not None
            self.disk.file.close()
            self.folder.cleanup()

    def settle_all(self) -> None:
        """One more life, on a link that works, settles all that the file has: whatever was in memory only is lost."""
        self.crash()
        assert self.disk is not None
        waiting = set(self.alive)
        for _ in range(20 + len(self.outbox)):
            self.work(5, 0, 30)
        assert len(self.outbox) == 0, "stuck on a link that works"
        assert waiting <= set(self.told), "left without an outcome"
        assert not self.disk.rows, "settled, and still in the file"
        self.holds()


TestCrashes = Crashes.TestCase
TestCrashes.settings = settings(max_examples=250, stateful_step_count=40, deadline=None)
