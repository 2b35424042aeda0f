"""The outbox against a model of the gateway's rule: every interleaving of a small world, walks in a large one."""

from __future__ import annotations

import copy
import random
from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from imcore._codec import DUP, FAILED
from imcore.client.uplink import UNSURE, WINDOW, WINDOW_BYTES, Entry, Outbox
from imcore.errors import BadHello, OutboxFull
from imcore.messages import Refusal
from tests.models.uplink import GatewayModel

LATER = Refusal("overloaded", "later", 0)
NEVER = Refusal("bad_frame", "never", None)
MAX_FRAME = 65536
FAR = 1e9


class NoGap:
    """Begins right above what was accepted, so that numbers are small."""

    def randrange(self, stop: int) -> int:
        return 0


class World:
    """A client, a gateway, and every link that there was between them: an old one's bytes may still be on their way."""

    def __init__(
        self, count: int, links: int, refusals: int, *, hold: bool = True, withdraws: bool = False, early: bool = False
    ) -> None:
        self.early = early
        self.gateway = GatewayModel(self.judge, hold=hold)
        self.outcomes: dict[bytes, Refusal | None] = {}
        self.outbox = Outbox(self.settle, rng=cast(random.Random, NoGap()))
        self.up: list[tuple[Any, ...]] = [()]
        self.down: list[tuple[Any, ...]] = [()]
        self.links = links
        self.refusals = refusals
        self.refuse = False
        self.count = count
        entries = [self.outbox.add("", bytes([i]), bytes([i])) for i in range(count)]
        self.withdrawable = entries[:1] if withdraws else []
        self.withdrawn: set[bytes] = set()
        self.up[0] = ("HELLO",)

    def judge(self, body: bytes) -> Refusal | None:
        return NEVER if body == b"\x01" else LATER if self.refuse else None

    def settle(self, entry: Entry, refusal: Refusal | None) -> None:
        assert entry.waiter not in self.outcomes, "told twice"
        assert entry.waiter not in self.withdrawn, "told who wants to know no more"
        self.outcomes[entry.waiter] = refusal

    def moves(self) -> list[tuple[str, int]]:
        moves = [("read", link) for link in range(len(self.up)) if self.up[link]]
        if self.down[-1]:
            moves.append(("hear", 0))
        if len(self.up) < self.links:
            moves.append(("cut", 0))
        if self.refusals and any(self.up):
            moves += [("refuse", link) for link in range(len(self.up)) if self.up[link] and self.up[link][0] != "HELLO"]
        if copy.deepcopy(self.outbox).next(FAR) is not None:
            moves.append(("send", 0))
        if self.withdrawable and self.withdrawable[0].waiter not in self.outcomes:
            moves.append(("withdraw", 0))
        return moves

    def make(self, move: str, link: int) -> None:
        if move == "send":
            entry = self.outbox.next(FAR)
            assert entry is not None
            self.up[-1] += ((entry.number, entry.body, bool(entry.flags & FAILED)),)
        elif move == "hear":
            (number, said), *rest = self.down[-1]
            self.down[-1] = tuple(rest)
            if number == 0:
                self.outbox.begin(said, MAX_FRAME)
            else:
                self.outbox.answer(number, said, 0.0)
        elif move == "withdraw":
            entry = self.withdrawable.pop()
            self.withdrawn.add(entry.waiter)
            self.outbox.withdraw(entry)
        elif move == "cut":
            self.outbox.end()
            if self.early:
                self.outbox.open()
            self.down[-1] = ()
            self.up.append(("HELLO",))
            self.down.append(())
        else:
            self.refuse = move == "refuse"
            item, *rest = self.up[link]
            self.up[link] = tuple(rest)
            if item == "HELLO":
                answer: tuple[int, Any] = (0, self.gateway.accepted)
            else:
                number, body, withdrawn = item
                before = len(self.gateway.log)
                answer = (number, self.gateway.read(link, number, body, withdrawn))
                if self.refuse and len(self.gateway.log) == before and answer[1] is LATER:
                    self.refusals -= 1
            if link == len(self.up) - 1:
                self.down[link] += (answer,)

    def key(self) -> tuple[Any, ...]:
        box = self.outbox
        numbered = tuple((e.number, e.sent, e.refusal is None, e.told) for e in box._numbered.values())
        again = tuple(e.number for e in box._again)
        client: tuple[Any, ...] = (
            numbered,
            again,
            tuple(box._flying),
            box._refused,
            box._window,
            box._highest,
            len(box._waiting),
        )
        outcomes = tuple(sorted((k, v is None) for k, v in self.outcomes.items()))
        held = tuple(sorted(self.gateway.held.items()))
        gateway = (self.gateway.accepted, tuple(self.gateway.log), held)
        client += (box._opened, box._known, box._linked)
        return client, outcomes, gateway, tuple(self.up), tuple(self.down), self.refusals, len(self.withdrawn)

    def check(self) -> None:
        log = self.gateway.log
        assert log == sorted(set(log)), "doubled or out of order"
        for body, refusal in self.outcomes.items():
            assert (body in log) == (refusal is None), "an untruth"


def explore(count: int, links: int, refusals: int, **how: bool) -> int:
    """Every interleaving; returns how many states there are. Raises AssertionError with the way to what is wrong."""
    start = World(count, links, refusals, **how)
    seen = {start.key()}
    todo: list[tuple[World, tuple[str, ...]]] = [(start, ())]
    while todo:
        world, way = todo.pop()
        moves = world.moves()
        idle = not any(move in ("send", "hear") for move, _ in moves) and not world.up[-1]
        if idle:
            assert len(world.outcomes) + len(world.withdrawn) == world.count, f"stuck after {way}"
        for move, link in moves:
            following = copy.deepcopy(world)
            following.make(move, link)
            try:
                following.check()
            except AssertionError as error:
                raise AssertionError(f"{error} after {(*way, f'{move} {link}')}") from None
            key = following.key()
            if key not in seen:
                seen.add(key)
                todo.append((following, (*way, f"{move} {link}")))
    return len(seen)


class TestEveryInterleaving:
    @pytest.mark.parametrize(("count", "links", "refusals"), [(4, 2, 1), (3, 3, 1), (2, 3, 2), (4, 1, 3)])
    def test_nothing_is_lost_doubled_reordered_or_untrue(self, count: int, links: int, refusals: int) -> None:
        assert explore(count, links, refusals) > 300

    @pytest.mark.parametrize(("count", "links", "refusals"), [(3, 2, 1), (2, 3, 1)])
    def test_nor_when_a_sender_takes_its_message_back_at_any_moment(
        self, count: int, links: int, refusals: int
    ) -> None:
        assert explore(count, links, refusals, withdraws=True) > 300

    @pytest.mark.parametrize(
        ("count", "links", "refusals", "withdraws"), [(3, 2, 1, False), (2, 3, 1, False), (2, 2, 1, True)]
    )
    def test_nor_when_messages_follow_hello_at_once(
        self, count: int, links: int, refusals: int, withdraws: bool
    ) -> None:
        assert explore(count, links, refusals, early=True, withdraws=withdraws) > 300

    def test_without_the_hold_the_fault_is_found(self) -> None:
        with pytest.raises(AssertionError, match=r"an untruth|out of order"):
            explore(3, 2, 1, hold=False)


class OutboxWalk(RuleBasedStateMachine):
    """A client that may also lose its count, on links that may die at any byte."""

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.verdict: Refusal | None = None
        self.gateway = GatewayModel(lambda body: self.verdict)
        self.outcomes: dict[bytes, Refusal | None] = {}
        self.alive: set[bytes] = set()
        self.made = 0
        self.links: list[list[Any]] = []
        self.answers: list[tuple[int, Any]] = []
        self.fresh_process()

    @rule()
    def fresh_process(self) -> None:
        self.outbox = Outbox(self.settle, rng=self.rng)
        self.alive = set()
        self.new_link()

    def settle(self, entry: Entry, refusal: Refusal | None) -> None:
        assert entry.waiter in self.alive, "told twice, or of another life"
        self.alive.remove(entry.waiter)
        assert refusal is not UNSURE, "nobody else used the numbers"
        self.outcomes[entry.waiter] = refusal

    @rule(early=st.booleans(), broken=st.booleans())
    def new_link(self, early: bool = False, broken: bool = True) -> None:
        self.outbox.end(broken=broken)
        if early:
            self.outbox.open()
        self.links.append(["HELLO"])
        self.answers = []

    @rule(count=st.integers(1, 100))
    def add(self, count: int) -> None:
        for _ in range(count):
            name = self.made.to_bytes(4)
            self.made += 1
            self.alive.add(name)
            self.outbox.add("r", name, name)

    @rule(count=st.integers(1, 100))
    def send(self, count: int) -> None:
        for _ in range(count):
            entry = self.outbox.next(FAR)
            if entry is None:
                return
            assert self.outbox.flying <= WINDOW
            self.links[-1].append((entry.number, entry.body, bool(entry.flags & FAILED)))

    @rule(data=st.data(), count=st.integers(1, 100), verdict=st.sampled_from([None, None, None, LATER, NEVER]))
    def read(self, data: st.DataObject, count: int, verdict: Refusal | None) -> None:
        link = data.draw(st.integers(max(0, len(self.links) - 3), len(self.links) - 1))
        self.verdict = None
        for item in self.links[link][:count]:
            if item == "HELLO":
                answer: tuple[int, Any] = (0, self.gateway.accepted)
            else:
                number, body, withdrawn = item
                if number <= self.gateway.accepted and not withdrawn and body in self.alive:
                    assert body in self.gateway.log, "a new message taken for a repeat"
                answer = (number, self.gateway.read(link, number, body, withdrawn))
            if link == len(self.links) - 1:
                self.answers.append(answer)
        del self.links[link][:count]
        # The verdict is on one message: the next that comes on the newest link. No older link may judge otherwise what
        # was refused for good.
        if verdict is not None and link == len(self.links) - 1 and self.links[link] and self.links[link][0] != "HELLO":
            number, body, withdrawn = self.links[link].pop(0)
            self.verdict = verdict
            if verdict is NEVER:
                for other in self.links[:-1]:
                    other.clear()
            self.answers.append((number, self.gateway.read(link, number, body, withdrawn)))
            self.verdict = None

    @precondition(lambda self: self.answers)
    @rule(count=st.integers(1, 100))
    def hear(self, count: int) -> None:
        for number, answer in self.answers[:count]:
            if number == 0:
                self.outbox.begin(answer, MAX_FRAME)
            else:
                self.outbox.answer(number, answer, 0.0)
        del self.answers[:count]

    @invariant()
    def holds(self) -> None:
        log = self.gateway.log
        assert log == sorted(set(log)), "doubled or out of order"
        there = set(log)
        for name, refusal in self.outcomes.items():
            assert (name in there) == (refusal is None), "an untruth"

    def teardown(self) -> None:
        if not hasattr(self, "outbox"):
            return
        self.new_link()
        while self.links[-1] or self.answers or self.outbox.flying:
            number = self.links[-1].pop(0) if self.links[-1] else None
            if number == "HELLO":
                self.answers.append((0, self.gateway.accepted))
            elif number is not None:
                self.answers.append((number[0], self.gateway.read(len(self.links) - 1, *number)))
            if self.answers:
                self.hear(1)
            self.send(1)
        assert not self.alive, "left without an outcome on a link that works"
        self.holds()


TestOutboxWalk = OutboxWalk.TestCase
TestOutboxWalk.settings = settings(max_examples=60, stateful_step_count=40)


class Recorder:
    def __init__(self, count: int = 1000, size: int = 1 << 24) -> None:
        self.outcomes: list[tuple[Any, Refusal | None]] = []
        self.outbox = Outbox(lambda entry, why: self.outcomes.append((entry.waiter, why)), count=count, size=size)

    def sent(self, now: float = FAR) -> list[Entry]:
        entries = []
        while (entry := self.outbox.next(now)) is not None:
            entries.append(entry)
        return entries


class TestNumbers:
    def test_none_is_given_before_the_first_welcome(self) -> None:
        box = Recorder()
        entry = box.outbox.add("chat", b"x", 1)
        assert box.sent() == []
        assert entry.number == 0

    def test_a_lost_count_begins_at_random_far_above_what_was_accepted(self) -> None:
        starts = set()
        for _ in range(8):
            box = Recorder()
            box.outbox.begin(7, MAX_FRAME)
            box.outbox.add("chat", b"x", 1)
            starts.add(box.sent()[0].number)
        assert len(starts) == 8
        assert min(starts) > 7

    def test_they_rise_and_go_on_over_links_and_requests(self) -> None:
        box = Recorder()
        box.outbox.begin(0, MAX_FRAME)
        first = box.outbox.number()
        box.outbox.add("chat", b"x", 1)
        [one] = box.sent()
        box.outbox.begin(0, MAX_FRAME)
        box.outbox.add("chat", b"y", 2)
        again, two = box.sent()
        assert again is one
        assert first < one.number < two.number

    def test_what_was_sent_before_says_so(self) -> None:
        box = Recorder()
        box.outbox.begin(0, MAX_FRAME)
        entry = box.outbox.add("chat", b"x", 1)
        box.sent()
        assert entry.flags == 0
        box.outbox.begin(0, MAX_FRAME)
        box.sent()
        assert entry.flags == DUP

    def test_numbers_that_another_link_used_are_not_taken_for_ours(self) -> None:
        box = Recorder()
        box.outbox.begin(0, MAX_FRAME)
        entry = box.outbox.add("chat", b"x", 1)
        box.sent()
        box.outbox.begin(entry.number + 5, MAX_FRAME)
        assert box.outcomes == [(1, UNSURE)]

    def test_a_device_without_numbers_left_is_an_error(self) -> None:
        with pytest.raises(BadHello, match="expected accepted below"):
            Recorder().outbox.begin(2**64 - 1, MAX_FRAME)


class TestBounds:
    def test_a_full_outbox_says_so_and_has_room_when_something_is_answered(self) -> None:
        box = Recorder(count=2)
        box.outbox.begin(0, MAX_FRAME)
        one = box.outbox.add("", b"1", 1)
        box.outbox.add("", b"2", 2)
        with pytest.raises(OutboxFull, match="holds 2 unconfirmed messages"):
            box.outbox.add("", b"3", 3)
        box.sent()
        box.outbox.answer(one.number, None, 0.0)
        box.outbox.add("", b"3", 3)

    def test_bytes_are_bounded_and_one_message_always_fits(self) -> None:
        box = Recorder(size=10)
        box.outbox.add("", bytes(20), 1)
        with pytest.raises(OutboxFull):
            box.outbox.add("", b"1", 2)

    def test_the_window_bounds_what_flies(self) -> None:
        box = Recorder()
        box.outbox.begin(0, MAX_FRAME)
        for i in range(2 * WINDOW):
            box.outbox.add("", b"x", i)
        flying = box.sent()
        assert len(flying) == WINDOW
        box.outbox.answer(flying[0].number, None, 0.0)
        assert len(box.sent()) == 1

    def test_the_window_bounds_bytes_too(self) -> None:
        box = Recorder()
        box.outbox.begin(0, 1 << 20)
        for i in range(8):
            box.outbox.add("", bytes(WINDOW_BYTES // 4), i)
        assert len(box.sent()) == 4

    def test_what_was_never_sent_can_be_dropped_and_what_was_sent_not(self) -> None:
        box = Recorder()
        waiting = box.outbox.add("", b"x", 1)
        assert box.outbox.drop(waiting)
        assert not box.outbox.drop(waiting)
        sent = box.outbox.add("", b"y", 2)
        box.outbox.begin(0, MAX_FRAME)
        assert box.sent() == [sent]
        assert not box.outbox.drop(sent)
        assert box.outbox.close() == [sent]
        assert len(box.outbox) == 0

    def test_a_message_over_the_frame_limit_is_refused_without_being_sent(self) -> None:
        box = Recorder()
        box.outbox.add("chat", bytes(100), 1)
        small = box.outbox.add("chat", bytes(10), 2)
        box.outbox.begin(0, 50)
        assert box.sent() == [small]
        [(waiter, why)] = box.outcomes
        assert waiter == 1
        assert why is not None
        assert why.code == "too_large"

    def test_one_that_only_the_next_link_finds_too_large_is_given_up(self) -> None:
        box = Recorder()
        entry = box.outbox.add("chat", bytes(100), 1)
        box.outbox.begin(0, 1000)
        box.sent()
        box.outbox.begin(0, 50)
        assert box.sent() == [entry]
        assert (entry.flags, entry.body) == (FAILED, b"")


class TestRefusals:
    def test_nothing_goes_until_every_answer_is_in_and_then_all_goes_again_in_order(self) -> None:
        box = Recorder()
        box.outbox.begin(0, MAX_FRAME)
        for i in range(3):
            box.outbox.add("", bytes([i]), i)
        one, two, three = box.sent()
        box.outbox.answer(one.number, Refusal("overloaded", "", 500), 10.0)
        assert box.sent(11.0) == []
        box.outbox.answer(two.number, LATER, 10.0)
        box.outbox.answer(three.number, LATER, 10.0)
        assert box.outbox.not_before == 10.5
        assert box.sent(10.4) == []
        again = box.sent(10.5)
        assert again == [one]  # the window opens anew
        box.outbox.answer(one.number, None, 10.6)
        assert box.sent(10.6) == [two, three]

    def test_one_for_good_is_told_at_once_and_its_number_given_up(self) -> None:
        box = Recorder()
        box.outbox.begin(0, MAX_FRAME)
        bad = box.outbox.add("chat", b"bad", 1)
        good = box.outbox.add("chat", b"good", 2)
        box.sent()
        box.outbox.answer(bad.number, NEVER, 0.0)
        assert box.outcomes == [(1, NEVER)]
        box.outbox.answer(good.number, LATER, 0.0)
        assert box.sent() == [bad]
        assert (bad.flags, bad.body, bad.route) == (FAILED, b"", "")
        box.outbox.answer(bad.number, None, 0.0)
        assert box.sent() == [good]
        box.outbox.answer(good.number, None, 0.0)
        assert box.outcomes == [(1, NEVER), (2, None)]
        assert len(box.outbox) == 0

    def test_many_bad_messages_cost_a_few_frames_each_not_a_window(self) -> None:
        box = Recorder()
        gateway = GatewayModel(lambda body: NEVER)
        box.outbox.begin(0, MAX_FRAME)
        for i in range(WINDOW):
            box.outbox.add("", b"x", i)
        frames = 0
        while flying := box.sent():
            frames += len(flying)
            for entry in flying:
                why = gateway.read(0, entry.number, entry.body, bool(entry.flags & FAILED))
                box.outbox.answer(entry.number, why, 0.0)
        assert len(box.outcomes) == WINDOW
        assert frames < 5 * WINDOW

    def test_a_gateway_that_refuses_in_a_circle_is_asked_more_and_more_seldom(self) -> None:
        box = Recorder()
        box.outbox.begin(0, MAX_FRAME)
        entry = box.outbox.add("", b"x", 1)
        waits = []
        for _ in range(10):
            assert box.sent() == [entry]
            box.outbox.answer(entry.number, LATER, 100.0)
            waits.append(box.outbox.not_before - 100.0)
        assert waits == sorted(waits)
        assert waits[0] == 0.0
        assert waits[-1] == 5.0
