"""The timer wheel against its model, and what the model can't see: references, ids, memory, the reach of 64 bits."""

from __future__ import annotations

import gc
import inspect
import pickle
import random
import sys
import weakref
from array import array
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from imcore._wheel import TimerWheel
from tests.models.wheel import WheelModel

LAST = 2**64 - 1

# Where levels meet, and one to either side: a level has 64 slots, each 4 times as wide as those of the level below.
EDGES = sorted({(1 << bits) + one for bits in range(0, 64, 2) for one in (-1, 0, 1)})
distances = st.integers(0, 200) | st.sampled_from(EDGES) | st.integers(0, LAST)
starts = st.just(0) | st.integers(0, 5000) | st.integers(LAST - 5000, LAST) | st.integers(0, LAST)


class Owner:
    """Something that a weak reference can point to."""


class WheelAndModel(RuleBasedStateMachine):
    """Every timer is owned by a list that holds its own id."""

    def __init__(self) -> None:
        super().__init__()
        self.wheel = TimerWheel()
        self.model = WheelModel()

    @initialize(now=starts)
    def start(self, now: int) -> None:
        self.wheel = TimerWheel(now)
        self.model = WheelModel(now)

    def arm(self, deadline: int) -> None:
        owner: list[int] = []
        owner.append(self.wheel.arm(deadline, owner))
        self.model.arm(owner[0], deadline)

    def ahead(self, distance: int) -> int:
        return min(self.wheel.now + distance, LAST)

    def any_of(self, which: int) -> int:
        return list(self.model.timers)[which % len(self.model)]

    def try_refresh(self, timer: int, deadline: int) -> None:
        try:
            self.model.refresh(timer, deadline)
        except ValueError:
            with pytest.raises(ValueError, match="hasten"):
                self.wheel.refresh(timer, deadline)
        else:
            self.wheel.refresh(timer, deadline)

    @rule(distance=distances)
    def arm_ahead(self, distance: int) -> None:
        self.arm(self.ahead(distance))

    @rule(deadline=st.integers(0, LAST))
    def arm_anywhere(self, deadline: int) -> None:
        self.arm(deadline)

    @precondition(lambda self: len(self.model) > 0)
    @rule(which=st.integers(0), distance=distances)
    def refresh(self, which: int, distance: int) -> None:
        self.try_refresh(self.any_of(which), self.ahead(distance))

    @precondition(lambda self: len(self.model) > 0)
    @rule(which=st.integers(0), deadline=distances.flatmap(lambda distance: st.sampled_from([distance, -1 - distance])))
    def hasten(self, which: int, deadline: int) -> None:
        timer = self.any_of(which)
        deadline = self.ahead(deadline) if deadline >= 0 else -1 - deadline
        self.wheel.hasten(timer, deadline)
        self.model.hasten(timer, deadline)

    @precondition(lambda self: len(self.model) > 0)
    @rule(which=st.integers(0))
    def cancel(self, which: int) -> None:
        timer = self.any_of(which)
        self.wheel.cancel(timer)
        self.model.cancel(timer)

    @precondition(lambda self: len(self.model.stale) > 0)
    @rule(which=st.integers(0))
    def touch_a_stale_id(self, which: int) -> None:
        timer = sorted(self.model.stale)[which % len(self.model.stale)]
        for touch in (self.wheel.cancel, lambda id: self.wheel.refresh(id, LAST), lambda id: self.wheel.hasten(id, 0)):
            with pytest.raises(LookupError):
                touch(timer)

    @rule(distance=distances)
    def advance(self, distance: int) -> None:
        now = self.ahead(distance)
        expired = self.wheel.advance(now)
        self.model.begin(now)
        for (timer,) in expired:
            self.model.expire(timer)
        self.model.end()

    @precondition(lambda self: len(self.model) > 0)
    @rule()
    def advance_to_the_earliest(self) -> None:
        self.advance(max((self.model.earliest or 0) - self.wheel.now, 0))

    @precondition(lambda self: self.wheel.now > 0)
    @rule(back=st.integers(1))
    def advance_backwards(self, back: int) -> None:
        with pytest.raises(ValueError, match="or later"):
            self.wheel.advance(max(self.wheel.now - back, 0))

    @rule(
        distance=distances,
        deeds=st.lists(
            st.tuples(st.sampled_from(["arm", "refresh", "hasten", "cancel"]), st.integers(0), distances | st.just(-1)),
            max_size=12,
        ),
    )
    def advance_with_callbacks_that_meddle(self, distance: int, deeds: list[tuple[str, int, int]]) -> None:
        now = self.ahead(distance)
        left = list(deeds)

        def callback(owner: list[int]) -> None:
            self.model.expire(owner[0])
            for deed, which, further in [left.pop() for _ in range(min(2, len(left)))]:
                deadline = self.ahead(further) if further >= 0 else 0
                if deed == "arm":
                    self.arm(deadline)
                elif len(self.model):
                    timer = self.any_of(which)
                    if deed == "refresh":
                        self.try_refresh(timer, deadline)
                    elif deed == "hasten":
                        self.wheel.hasten(timer, deadline)
                        self.model.hasten(timer, deadline)
                    else:
                        self.wheel.cancel(timer)
                        self.model.cancel(timer)

        self.model.begin(now)
        self.wheel.advance_into(now, callback)
        self.model.end()

    @invariant()
    def they_agree(self) -> None:
        assert len(self.wheel) == len(self.model)
        assert self.wheel.now == self.model.now
        if self.model.earliest is None:
            assert self.wheel.next is None
        else:
            assert self.wheel.next is not None
            assert self.wheel.now <= self.wheel.next <= max(self.model.earliest, self.wheel.now)


TestWheelAndModel = WheelAndModel.TestCase
TestWheelAndModel.settings = settings(stateful_step_count=60, suppress_health_check=[HealthCheck.too_slow])


class TestExpiry:
    @given(start=starts, distance=distances)
    def test_is_never_early_and_never_late(self, start: int, distance: int) -> None:
        deadline = min(start + distance, LAST)
        wheel = TimerWheel(start)
        wheel.arm(deadline, "owner")
        if deadline > start:
            assert wheel.advance(deadline - 1) == []
        assert wheel.advance(deadline) == ["owner"]

    @pytest.mark.parametrize("distance", EDGES)
    def test_is_never_early_and_never_late_where_levels_meet(self, distance: int) -> None:
        for start in (0, 1, 63, 64, 1023, 4095, 2**32 - 1):
            wheel = TimerWheel(start)
            deadline = min(start + distance, LAST)
            wheel.arm(deadline, "owner")
            assert wheel.advance(max(deadline - 1, start)) == ([] if distance else ["owner"])
            assert wheel.advance(deadline) == (["owner"] if distance else [])

    def test_comes_tick_by_tick_at_the_tick(self) -> None:
        wheel = TimerWheel(1000)
        order = list(range(1001, 3000))
        random.Random(1).shuffle(order)
        for deadline in order:
            wheel.arm(deadline, deadline)
        for now in range(1001, 3000):
            assert wheel.advance(now) == [now]

    def test_of_a_deadline_that_has_passed_comes_at_the_next_advance_to_the_same_tick(self) -> None:
        wheel = TimerWheel(100)
        wheel.arm(100, "now")
        wheel.arm(0, "long ago")
        assert wheel.next == 100
        assert sorted(wheel.advance(100)) == ["long ago", "now"]
        assert wheel.advance(100) == []

    def test_has_no_order_within_an_advance_and_forgets_nothing(self) -> None:
        wheel = TimerWheel()
        deadlines = [random.Random(2).getrandbits(bits % 64) for bits in range(5000)]
        for deadline in deadlines:
            wheel.arm(deadline, deadline)
        assert sorted(wheel.advance(LAST)) == sorted(deadlines)
        assert len(wheel) == 0

    def test_after_a_leap_costs_no_walk_over_the_ticks_between(self) -> None:
        wheel = TimerWheel()
        timer = wheel.arm(600, "owner")
        wheel.refresh(timer, LAST)
        for now in (2**40, 2**63, LAST - 1):
            assert wheel.advance(now) == []
        assert wheel.advance(LAST) == ["owner"]

    def test_of_a_timer_that_is_always_refreshed_never_comes(self) -> None:
        wheel = TimerWheel()
        timer = wheel.arm(600, "owner")
        for now in range(1, 20_000, 7):
            assert wheel.advance(now) == []
            wheel.refresh(timer, now + 600)
        last = wheel.now + 600
        assert wheel.advance(last - 1) == []
        assert wheel.advance(last) == ["owner"]

    def test_after_hasten_comes_at_the_earlier_tick(self) -> None:
        wheel = TimerWheel()
        timer = wheel.arm(10_000, "owner")
        wheel.hasten(timer, 5)
        assert wheel.next == 5
        assert wheel.advance(4) == []
        assert wheel.advance(5) == ["owner"]


class TestNext:
    def test_is_none_on_an_empty_wheel(self) -> None:
        wheel = TimerWheel(7)
        assert wheel.next is None
        wheel.cancel(wheel.arm(8, "owner"))
        assert wheel.next is None

    @given(start=starts, distance=distances)
    def test_lies_close_to_the_deadline(self, start: int, distance: int) -> None:
        """A sixteenth of the way remains at most: on its way down a timer is placed anew once a level, or less."""
        deadline = min(start + distance, LAST)
        wheel = TimerWheel(start)
        wheel.arm(deadline, "owner")
        assert wheel.next is not None
        assert wheel.next == deadline == start or 16 * (wheel.next - start) > 15 * (deadline - start)

    @given(start=starts, far=st.lists(distances, min_size=1, max_size=20))
    def test_alone_drives_the_wheel(self, start: int, far: list[int]) -> None:
        """Advancing only to `next` expires each timer at its tick, in few steps however far it is."""
        wheel = TimerWheel(start)
        deadlines = [min(start + distance, LAST) for distance in far]
        for deadline in deadlines:
            wheel.arm(deadline, deadline)
        expired: list[int] = []
        for _ in range(30 * len(far)):
            if wheel.next is None:
                break
            came = wheel.advance(wheel.next)
            assert set(came) <= {wheel.now}
            expired += came
        assert expired == sorted(deadlines)


class TestCallbacks:
    def test_arming_in_the_past_expire_at_the_next_advance_and_do_not_loop(self) -> None:
        wheel = TimerWheel()
        wheel.arm(5, 0)
        expired = []

        def again(owner: int) -> None:
            expired.append(owner)
            wheel.arm(owner, owner + 1)

        for count in range(1, 4):
            wheel.advance_into(5, again)
            assert expired == list(range(count))

    @pytest.mark.parametrize(
        ("meddle", "later"),
        [
            (lambda wheel, other: wheel.cancel(other), None),
            (lambda wheel, other: wheel.refresh(other, 11), 11),
            (lambda wheel, other: wheel.hasten(other, 11), 11),
            (lambda wheel, other: wheel.hasten(other, 2**50), 2**50),
        ],
    )
    def test_that_cancel_or_put_off_what_is_due_keep_it_from_expiring(
        self, meddle: Callable[[TimerWheel, int], None], later: int | None
    ) -> None:
        wheel = TimerWheel()
        timers = {name: wheel.arm(10, name) for name in "ab"}
        expired: list[str] = []

        def callback(owner: str) -> None:
            expired.append(owner)
            [other] = set("ab") - {owner}
            if len(expired) == 1:
                meddle(wheel, timers[other])

        wheel.advance_into(10, callback)
        assert len(expired) == 1
        if later is not None:
            assert wheel.advance(later - 1) == []
            assert wheel.advance(later) == list(set("ab") - set(expired))
        assert len(wheel) == 0

    def test_that_hasten_what_is_due_leave_it_due(self) -> None:
        wheel = TimerWheel()
        timers = {name: wheel.arm(10, name) for name in "ab"}
        expired: list[str] = []

        def callback(owner: str) -> None:
            expired.append(owner)
            for other in set("ab") - set(expired):
                wheel.hasten(timers[other], 3)

        wheel.advance_into(10, callback)
        assert sorted(expired) == ["a", "b"]

    def test_find_their_own_id_stale(self) -> None:
        wheel = TimerWheel()
        timer = wheel.arm(1, "owner")

        def callback(owner: str) -> None:
            with pytest.raises(LookupError):
                wheel.cancel(timer)

        wheel.advance_into(1, callback)
        assert len(wheel) == 0

    def test_that_raise_let_the_others_expire_and_are_raised_together_at_the_end(self) -> None:
        wheel = TimerWheel()
        for number in range(6):
            wheel.arm(number, number)
        expired = []

        def callback(owner: int) -> None:
            expired.append(owner)
            if owner % 2:
                raise ZeroDivisionError(owner)

        with pytest.raises(ExceptionGroup) as raised:
            wheel.advance_into(4, callback)
        assert sorted(expired) == [0, 1, 2, 3, 4]
        assert sorted(error.args for error in raised.value.exceptions) == [(1,), (3,)]
        assert wheel.advance(5) == [5]

    def test_may_raise_what_ends_the_program(self) -> None:
        wheel = TimerWheel()
        wheel.arm(0, "owner")

        def callback(owner: str) -> None:
            raise KeyboardInterrupt

        with pytest.raises(BaseExceptionGroup) as raised:
            wheel.advance_into(0, callback)
        assert raised.group_contains(KeyboardInterrupt)
        assert wheel.advance(1) == []

    def test_can_not_advance(self) -> None:
        wheel = TimerWheel()
        wheel.arm(0, "owner")

        def callback(owner: str) -> None:
            with pytest.raises(RuntimeError, match="at rest"):
                wheel.advance(9)

        wheel.advance_into(0, callback)
        assert wheel.now == 0
        assert wheel.advance(9) == []


class TestIds:
    def test_never_name_another_timer_in_the_same_place(self) -> None:
        wheel = TimerWheel()
        given_out = set()
        for _ in range(1000):
            timer = wheel.arm(9, "owner")
            assert timer not in given_out
            given_out.add(timer)
            wheel.cancel(timer)
        wheel.arm(9, "the last")
        for timer in given_out:
            with pytest.raises(LookupError, match=f"got {timer}"):
                wheel.cancel(timer)
        assert wheel.advance(9) == ["the last"]

    @pytest.mark.parametrize("timer", [0, 1, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 3 << 32, 2**63, LAST])
    def test_that_were_never_given_out_are_unknown(self, timer: int) -> None:
        for wheel in (TimerWheel(), TimerWheel()):
            with pytest.raises(LookupError):
                wheel.cancel(timer)
        wheel = TimerWheel()
        armed = wheel.arm(5, "owner")
        if timer != armed:
            with pytest.raises(LookupError):
                wheel.hasten(timer, 0)
        assert wheel.advance(5) == ["owner"]

    def test_are_not_to_be_guessed_from_one_that_is_stale(self) -> None:
        wheel = TimerWheel()
        timer = wheel.arm(9, "owner")
        wheel.cancel(timer)
        for generation in range(1, 9):
            with pytest.raises(LookupError):
                wheel.cancel(timer + (generation << 32))

    @pytest.mark.parametrize("number", [-1, LAST + 1, 2**80])
    def test_and_ticks_are_64_unsigned_bits(self, number: int) -> None:
        wheel = TimerWheel()
        timer = wheel.arm(5, "owner")
        for call in (
            lambda: TimerWheel(number),
            lambda: wheel.arm(number, "owner"),
            lambda: wheel.refresh(timer, number),
            lambda: wheel.refresh(number, 5),
            lambda: wheel.hasten(timer, number),
            lambda: wheel.cancel(number),
            lambda: wheel.advance(number),
        ):
            with pytest.raises(OverflowError):
                call()
        assert wheel.advance(5) == ["owner"]


class TestRefreshMany:
    def test_puts_off_each(self) -> None:
        wheel = TimerWheel()
        timers = array("Q", (wheel.arm(5, number) for number in range(5000)))
        wheel.refresh_many(memoryview(timers)[:2500], 9)
        assert sorted(wheel.advance(8)) == list(range(2500, 5000))
        assert sorted(wheel.advance(9)) == list(range(2500))

    def test_takes_ids_that_lie_unaligned(self) -> None:
        wheel = TimerWheel()
        timers = array("Q", [wheel.arm(5, "owner")])
        wheel.refresh_many(memoryview(b"x" + timers.tobytes())[1:].cast("Q"), 9)
        assert wheel.advance(8) == []

    def test_stops_at_the_first_that_raises(self) -> None:
        wheel = TimerWheel()
        timers = array("Q", (wheel.arm(5, name) for name in "abc"))
        wheel.cancel(timers[1])
        with pytest.raises(LookupError):
            wheel.refresh_many(timers, 9)
        assert wheel.advance(5) == ["c"]
        with pytest.raises(ValueError, match="hasten"):
            wheel.refresh_many(timers[:1], 8)

    @pytest.mark.parametrize("wrong", [array("q", [1]), array("d", [1]), array("I", [1]), b"12345678"])
    def test_refuses_other_buffers(self, wrong: array[int] | array[float] | bytes) -> None:
        with pytest.raises(TypeError, match="64-bit"):
            TimerWheel().refresh_many(wrong, 9)

    def test_refuses_a_buffer_with_gaps(self) -> None:
        with pytest.raises(BufferError):
            TimerWheel().refresh_many(memoryview(array("Q", [1, 2, 3]))[::2], 9)


class TestOwners:
    def held(self, wheel: TimerWheel, deadline: int = 5) -> tuple[weakref.ref[Owner], int]:
        owner = Owner()
        return weakref.ref(owner), wheel.arm(deadline, owner)

    def test_are_held_while_armed_and_let_go_by_expiry(self) -> None:
        wheel = TimerWheel()
        owner, _ = self.held(wheel)
        wheel.advance(4)
        assert owner() is not None
        assert [type(each) for each in wheel.advance(5)] == [Owner]
        assert owner() is None

    def test_are_let_go_by_cancel(self) -> None:
        wheel = TimerWheel()
        owner, timer = self.held(wheel)
        wheel.refresh(timer, 9)
        wheel.hasten(timer, 7)
        assert owner() is not None
        wheel.cancel(timer)
        assert owner() is None

    def test_are_let_go_with_the_wheel(self) -> None:
        wheel = TimerWheel()
        owners = [self.held(wheel, deadline)[0] for deadline in (0, 5, 2**40) for _ in range(3000)]
        del wheel
        assert not any(owner() for owner in owners)

    def test_are_let_go_by_a_callback_that_raised(self) -> None:
        wheel = TimerWheel()
        owner, _ = self.held(wheel)

        def callback(owner: Owner) -> None:
            del owner
            raise ZeroDivisionError

        with pytest.raises(ExceptionGroup):
            wheel.advance_into(5, callback)
        assert owner() is None

    def test_may_stand_on_many_timers(self) -> None:
        wheel = TimerWheel()
        owner, _ = self.held(wheel)
        for _ in range(10):
            wheel.arm(6, owner())
        wheel.advance(5)
        assert owner() is not None
        wheel.advance(6)
        assert owner() is None

    def test_may_refer_to_their_wheel(self) -> None:
        wheel = TimerWheel()
        beside = Owner()
        before = sys.getrefcount(beside)
        wheel.arm(5, (wheel, beside))  # a tuple: only the wheel can break the circle
        assert sys.getrefcount(beside) == before + 1
        del wheel
        gc.collect()
        assert sys.getrefcount(beside) == before

    def test_are_shown_to_the_collector_only_while_armed(self) -> None:
        wheel = TimerWheel()
        owner = Owner()
        timer = wheel.arm(5, owner)
        assert owner in gc.get_referents(wheel)
        wheel.cancel(timer)
        assert owner not in gc.get_referents(wheel)

    def test_may_come_back_to_the_wheel_while_they_are_let_go(self) -> None:
        wheel = TimerWheel()

        class Phoenix:
            def __del__(self) -> None:
                wheel.arm(7, "risen")

        wheel.cancel(wheel.arm(5, Phoenix()))
        wheel.arm(6, Phoenix())
        wheel.advance_into(6, lambda owner: None)
        assert wheel.advance(7) == ["risen", "risen"]


class TestMemory:
    def test_is_at_most_32_bytes_a_deadline(self) -> None:
        wheel = TimerWheel()
        for deadline in range(50_000):
            wheel.arm(deadline, None)
        assert wheel.memory <= 32 * len(wheel)

    def test_does_not_grow_as_timers_come_and_go(self) -> None:
        wheel = TimerWheel()
        for now in range(0, 200_000, 100):
            for far in range(100):
                wheel.arm(now + far, None)
            wheel.advance(now + 100)
        assert wheel.memory < 2**17
        assert len(wheel) == 0


def test_a_wheel_is_not_to_be_copied() -> None:
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(TimerWheel())


@pytest.mark.parametrize("name", ["arm", "refresh", "refresh_many", "hasten", "cancel", "advance", "advance_into"])
def test_methods_are_documented_and_show_their_arguments(name: str) -> None:
    method = getattr(TimerWheel, name)
    assert inspect.getdoc(method)
    assert "self" in inspect.signature(method).parameters
