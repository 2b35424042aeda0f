"""Lanes: a device's pushes run ahead of the disk and are still appended in order, once, whatever fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imcore.bus.ports import Check, Sink, Uplink
from imcore.errors import EngineError
from imcore.lanes import LONGEST_S, TURN, Handler, Lanes, Tries
from tests.bus.engines import until, uplink


class Engine:
    """A queue, and inboxes whose appends wait for `land` or `fail`: what was gathered shares one fate."""

    def __init__(self) -> None:
        self.settled: list[int] = []
        self.buried: list[tuple[int, str]] = []
        self.inbox: list[int] = []
        self.gathered: list[tuple[int, asyncio.Future[object]]] = []

    def put(self, message: Uplink, sink: Sink) -> None:
        """Not asked here."""
        raise NotImplementedError

    def withdraw(self, user: str, device: str, id: int, sink: Sink) -> None:
        """Not asked here."""
        raise NotImplementedError

    def consume(self, routes: Mapping[str, Check | None], take: Callable[[Sequence[Uplink]], None]) -> None:
        """Not asked here."""
        raise NotImplementedError

    def settle(self, messages: Iterable[Uplink]) -> None:
        """Their handlers have returned, and their pushes are durable."""
        self.settled += [message.id for message in messages]

    def bury(self, message: Uplink, error: str) -> None:
        """Its handler failed too often."""
        self.buried.append((message.id, error))

    def push(self, message: Uplink) -> asyncio.Future[object]:
        """A handler that ends with its push."""
        future = asyncio.get_running_loop().create_future()
        self.gathered.append((message.id, future))
        return future

    def land(self) -> None:
        """What was gathered is durable; a repeat appends nothing."""
        gathered, self.gathered = self.gathered, []
        for id, future in gathered:
            if id not in self.inbox:
                self.inbox.append(id)
            future.set_result(None)

    def fail(self, error: Exception) -> None:
        """Nothing of it is."""
        gathered, self.gathered = self.gathered, []
        for _, future in gathered:
            future.set_exception(error)


def started(engine: Engine, handler: Handler, *, most: int = 3, pause_s: float = 0.001, parallel: int = 4) -> Lanes:
    """Lanes with one handler."""
    return Lanes(engine, {"chat": handler}, parallel, Tries(most, pause_s))


def test_the_next_message_begins_while_the_push_of_the_one_before_is_on_its_way() -> None:
    async def main() -> None:
        engine = Engine()
        lanes = started(engine, engine.push)
        lanes.take([uplink(id) for id in (1, 2, 3)])
        await until(lambda: len(engine.gathered) == 3)
        assert not engine.settled
        assert len(lanes) == 1
        engine.land()
        await until(lambda: not len(lanes))
        assert engine.settled == engine.inbox == [1, 2, 3]
        await lanes.close(1)

    asyncio.run(main())


def test_a_handler_that_waits_for_its_push_is_alone_in_its_lane() -> None:
    async def main() -> None:
        engine = Engine()

        async def handler(message: Uplink) -> None:
            await engine.push(message)

        lanes = started(engine, handler)
        lanes.take([uplink(1), uplink(2), uplink(1, device="desk")])
        for _ in range(10):
            await asyncio.sleep(0)
        assert [id for id, _ in engine.gathered] == [1, 1]
        engine.land()
        await until(lambda: len(engine.gathered) == 1)
        engine.land()
        await until(lambda: not len(lanes))
        assert sorted(engine.settled) == [1, 1, 2]
        await lanes.close(1)

    asyncio.run(main())


def test_behind_a_push_that_failed_nothing_begins_until_it_ran_again() -> None:
    async def main() -> None:
        engine = Engine()
        lanes = started(engine, engine.push, most=99)
        lanes.take([uplink(1), uplink(2)])
        await until(lambda: len(engine.gathered) == 2)
        engine.fail(EngineError("the disk is full"))
        lanes.take([uplink(3)])  # comes before the lane was told
        await until(lambda: len(engine.gathered) == 3)
        assert [id for id, _ in engine.gathered] == [1, 2, 3]
        engine.land()
        await until(lambda: not len(lanes))
        assert engine.settled == engine.inbox == [1, 2, 3]
        await lanes.close(1)

    asyncio.run(main())


def test_a_handler_that_raises_waits_for_what_was_begun_before_it_and_runs_again() -> None:
    async def main() -> None:
        engine = Engine()
        tries: list[int] = []

        def handler(message: Uplink) -> asyncio.Future[object]:
            tries.append(message.id)
            if message.id == 2 and tries.count(2) == 1:
                raise ValueError("not yet")
            return engine.push(message)

        lanes = started(engine, handler)
        lanes.take([uplink(id) for id in (1, 2, 3)])
        await until(lambda: tries == [1, 2])
        engine.land()
        await until(lambda: tries == [1, 2, 2, 3])
        engine.land()
        await until(lambda: not len(lanes))
        assert engine.settled == engine.inbox == [1, 2, 3]
        await lanes.close(1)

    asyncio.run(main())


def test_that_the_engine_takes_nothing_is_nobodys_last_try(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        engine = Engine()
        lanes = started(engine, engine.push, most=2)
        lanes.take([uplink(1)])
        for _ in range(5):
            await until(lambda: len(engine.gathered) == 1)
            engine.fail(EngineError("the disk is full"))
        await until(lambda: len(engine.gathered) == 1)
        engine.fail(ValueError("something else"))
        await until(lambda: not len(lanes))
        assert engine.buried == [(1, "ValueError: something else")]
        await lanes.close(1)

    with caplog.at_level(logging.CRITICAL):
        asyncio.run(main())


def test_a_push_that_was_cancelled_is_a_failure() -> None:
    async def main() -> None:
        engine = Engine()
        lanes = started(engine, engine.push, most=2)
        lanes.take([uplink(1)])
        for _ in range(2):
            await until(lambda: len(engine.gathered) == 1)
            engine.gathered.pop()[1].cancel()
        await until(lambda: not len(lanes))
        assert engine.buried == [(1, "CancelledError: ")]
        await lanes.close(1)

    asyncio.run(main())


def test_close_waits_for_pushes_and_settles_them() -> None:
    async def main() -> None:
        engine = Engine()
        lanes = started(engine, engine.push)
        lanes.take([uplink(1)])
        await until(lambda: len(engine.gathered) == 1)
        asyncio.get_running_loop().call_later(0.01, engine.land)
        await lanes.close(10)
        assert engine.settled == [1]

    asyncio.run(main())


def test_handlers_that_wait_for_nothing_share_one_worker_and_let_the_loop_go_round() -> None:
    async def main() -> None:
        engine = Engine()
        lanes = started(engine, engine.push, parallel=1024)
        lanes.take([uplink(1, user=f"user{n}") for n in range(3 * TURN)])
        seen = []
        while len(engine.gathered) < 3 * TURN:
            await asyncio.sleep(0)
            seen.append(len(engine.gathered))
            assert lanes.running <= 1
        assert {TURN, 2 * TURN} <= set(seen)
        engine.land()
        await lanes.close(1)

    asyncio.run(main())


def test_pauses_grow_to_half_a_minute_and_no_further() -> None:
    tries = Tries(5, 0.5)
    assert [tries.pause(n) for n in (1, 2, 3, 7, 8, 10_000)] == [0.5, 1, 2, LONGEST_S, LONGEST_S, LONGEST_S]


steps = st.lists(st.sampled_from(["send", "send2", "land", "fail", "turn", "raise"]), max_size=30)


@given(steps=steps)
def test_whatever_fails_and_when_each_message_is_appended_once_and_in_order(steps: list[str]) -> None:
    async def main() -> None:
        engine = Engine()
        sent = 0
        raising = False

        def handler(message: Uplink) -> asyncio.Future[object]:
            if raising:
                raise ValueError("a bad moment")
            return engine.push(message)

        lanes = started(engine, handler, most=10_000, pause_s=0.0)
        for step in [*steps, "turn"]:
            if step.startswith("send"):
                count = 2 if step == "send2" else 1
                lanes.take([uplink(sent + 1 + n) for n in range(count)])
                sent += count
            elif step == "land":
                engine.land()
            elif step == "fail":
                engine.fail(EngineError("the disk is full"))
            elif step == "raise":
                raising = not raising
            else:
                await asyncio.sleep(0)
        raising = False
        for _ in range(1000):
            if not len(lanes):
                break
            engine.land()
            await asyncio.sleep(0)
        assert engine.inbox == list(range(1, sent + 1))
        assert engine.settled == engine.inbox
        await lanes.close(1)

    logging.disable(logging.CRITICAL)
    try:
        asyncio.run(main())
    finally:
        logging.disable(logging.NOTSET)
