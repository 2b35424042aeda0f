"""What every engine promises (`bus/ports.py`); the suite runs once for each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from itertools import combinations, permutations, product
from pathlib import Path
from typing import Any

import pytest

from imcore.bus.ports import Bus, Load, Route, Uplink
from imcore.errors import EngineError
from imcore.messages import Refusal, Resume, Role
from tests.bus.engines import ENGINES, Engine, Link, Taker, run, until, uplink

Open = Callable[..., AbstractAsyncContextManager[Bus]]


@pytest.fixture(params=list(ENGINES))
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Starts a bus on the test's place, and closes it."""
    engine: Engine = ENGINES[request.param]

    @asynccontextmanager
    async def opened(**limits: Any) -> AsyncIterator[Bus]:
        bus = engine(tmp_path / "data", **limits)
        await bus.start()
        try:
            yield bus
        finally:
            await bus.close()

    return opened


class TestQueue:
    def test_a_message_is_answered_and_handed_over_once(self, opened: Open) -> None:
        async def main() -> None:
            async with opened() as bus:
                taker, link = Taker().attach(bus), Link()
                for id in (1, 2, 7):
                    bus.queue.put(uplink(id), link)
                await until(lambda: len(link.answers) == 3)
                assert link.answers == [(1, None), (2, None), (7, None)]
                assert [(m.user, m.device, m.id, m.body) for m in await taker.took(3)] == [
                    ("alice", "phone", id, b"body %d" % id) for id in (1, 2, 7)
                ]

        run(main())

    def test_its_link_may_object_to_a_message_and_to_a_number_given_up_but_not_to_a_repeat(self, opened: Open) -> None:
        class Shut(Link):
            def objection(self) -> Refusal | None:
                return Refusal("overloaded", "the node is late", 1000)

        async def main() -> None:
            async with opened() as bus:
                taker, link, shut = Taker().attach(bus), Link(), Shut()
                bus.queue.put(uplink(5), link)
                bus.queue.put(uplink(5), shut)  # while the first is on its way
                bus.queue.put(uplink(6), shut)
                bus.queue.withdraw("alice", "phone", 6, shut)
                await until(lambda: len(shut.answers) == 3)
                assert shut.durable == [5]
                assert [(id, why.code) for id, why in shut.answers if why is not None] == [(6, "overloaded")] * 2
                bus.queue.put(uplink(6), link)
                await until(lambda: link.durable == [5, 6])
                bus.queue.withdraw("alice", "phone", 6, shut)
                await until(lambda: shut.durable == [5, 6])
                assert [m.id for m in await taker.took(2)] == [5, 6]

        run(main())

    def test_a_repeat_is_answered_and_not_handed_over(self, opened: Open) -> None:
        async def main() -> None:
            async with opened() as bus:
                taker, link, later = Taker().attach(bus), Link(), Link()
                bus.queue.put(uplink(5), link)
                bus.queue.put(uplink(5), later)  # while the first is on its way
                bus.queue.put(uplink(3), later)
                await until(lambda: len(later.answers) == 2)
                bus.queue.put(uplink(4), later)
                await until(lambda: len(later.answers) == 3)
                assert later.durable == [5, 3, 4]
                assert [m.id for m in await taker.took(1)] == [5]

        run(main())

    def test_numbers_up_to_the_wires_limit_hold(self, opened: Open) -> None:
        async def main() -> None:
            async with opened() as bus:
                Taker().attach(bus)
                link = Link()
                bus.queue.put(uplink(2**64 - 1), link)
                await until(lambda: link.answers == [(2**64 - 1, None)])
            async with opened() as bus:
                assert (await bus.inbox.open("alice", "phone", None, "oldest")).accepted == 2**64 - 1

        run(main())

    def test_devices_and_users_count_apart(self, opened: Open) -> None:
        async def main() -> None:
            async with opened() as bus:
                taker, link = Taker().attach(bus), Link()
                for user, device in (("alice", "phone"), ("alice", "desk"), ("bob", "phone")):
                    bus.queue.put(uplink(1, user=user, device=device), link)
                await until(lambda: len(link.answers) == 3)
                assert len(await taker.took(3)) == 3

        run(main())

    def test_a_withdrawn_number_is_accepted_and_never_handed_over(self, opened: Open) -> None:
        async def main() -> None:
            async with opened() as bus:
                taker, link = Taker().attach(bus), Link()
                bus.queue.put(uplink(1), link)
                bus.queue.withdraw("alice", "phone", 2, link)
                bus.queue.put(uplink(2), link)
                bus.queue.put(uplink(3), link)
                bus.queue.withdraw("alice", "phone", 3, link)
                await until(lambda: len(link.answers) == 5)
                assert link.durable == [1, 2, 2, 3, 3]
                assert [m.id for m in await taker.took(2)] == [1, 3]
            async with opened() as bus:
                assert (await bus.inbox.open("alice", "phone", None, "oldest")).accepted == 3

        run(main())

    def test_a_route_that_nobody_serves_is_refused_before_put_returns(self, opened: Open) -> None:
        async def main() -> None:
            async with opened() as bus:
                taker, link = Taker().attach(bus), Link()
                await bus.inbox.open("alice", "phone", None, "oldest")
                bus.queue.put(uplink(1, route="mail"), link)
                ((id, refusal),) = link.answers
                assert id == 1
                assert refusal is not None
                assert (refusal.code, refusal.text, refusal.retry_ms) == (
                    "no_route",
                    "no service 'mail'; known: chat",
                    None,
                )
                bus.queue.put(uplink(1), link)  # refused is not accepted: the number is free
                await until(lambda: link.durable == [1])
                assert [m.route for m in await taker.took(1)] == ["chat"]

        run(main())

    def test_what_the_check_objects_to_is_refused_with_its_text(self, opened: Open) -> None:
        async def main() -> None:
            async with opened() as bus:
                taker, link = Taker(), Link()

                def check(message: Uplink) -> str | None:
                    return None if message.body == b"good" else "expected good"

                bus.queue.consume({"chat": check}, taker.take)
                await bus.inbox.open("alice", "phone", None, "oldest")
                bus.queue.put(uplink(1, body=b"bad"), link)
                refusal = link.answers[0][1]
                assert refusal is not None
                assert (refusal.code, refusal.text, refusal.retry_ms) == ("bad_frame", "expected good", None)
                bus.queue.put(uplink(2, body=b"good"), link)
                await until(lambda: link.durable == [2])
                bus.queue.put(uplink(1, body=b"bad"), link)  # below the highest accepted: a repeat, whatever is in it
                await until(lambda: link.durable == [2, 1])

        run(main())

    def test_a_check_that_raises_refuses_its_message_and_harms_no_other(
        self, opened: Open, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def main() -> None:
            async with opened() as bus:
                taker, link, other = Taker(), Link(), Link()

                def check(message: Uplink) -> str | None:
                    raise ZeroDivisionError("the program's own mistake")

                bus.queue.consume({"chat": check, "note": None}, taker.take)
                bus.queue.put(uplink(1), link)  # the device is unknown here yet: it waits, and what follows does
                bus.queue.put(uplink(1, route="note", device="desk"), other)
                await until(lambda: other.durable == [1])
                await until(lambda: bool(link.answers))
                bus.queue.put(uplink(1), link)
                for id, refusal in link.answers:
                    assert refusal is not None
                    assert (id, refusal.code, refusal.retry_ms) == (1, "internal", None)
                assert len(link.answers) == 2
                bus.queue.put(uplink(1, route="note"), link)
                await until(lambda: link.durable == [1])

        run(main())
        assert caplog.text.count("the check of route 'chat' failed") >= 2

    def test_what_waits_behind_a_refused_message_of_its_device_is_held_back(self, opened: Open) -> None:
        async def main() -> None:
            async with opened() as bus:
                taker, link = Taker().attach(bus), Link()
                bus.queue.put(uplink(1, route="mail"), link)  # the device is unknown here yet, so no answer at once
                bus.queue.put(uplink(2), link)
                bus.queue.put(uplink(1, device="desk"), link)
                await until(lambda: len(link.answers) == 3)
                assert [m.device for m in await taker.took(1)] == ["desk"]
                assert [(id, refusal.retry_ms) for id, refusal in link.answers if refusal is not None] == [
                    (1, None),
                    (2, 0),
                ]

        run(main())

    def test_what_is_not_settled_comes_again_after_a_restart_before_what_is_new(self, opened: Open) -> None:
        async def main() -> None:
            link = Link()
            async with opened() as bus:
                taker = Taker().attach(bus)
                for id in range(1, 6):
                    bus.queue.put(uplink(id), link)
                await until(lambda: len(taker.messages) == 5)
                bus.queue.settle([taker.messages[1]])
                bus.queue.settle([taker.messages[1]])
                bus.queue.settle([taker.messages[3]])
            async with opened() as bus:
                taker = Taker().attach(bus)
                bus.queue.put(uplink(9), link)
                await until(lambda: len(taker.messages) == 4)
                assert [m.id for m in taker.messages] == [1, 3, 5, 9]
                assert taker.messages[0].body == b"body 1"
                for message in taker.messages:
                    bus.queue.settle([message])
            async with opened() as bus:
                assert Taker().attach(bus).messages == []

        run(main())

    def test_a_buried_message_does_not_come_again(self, opened: Open) -> None:
        async def main() -> None:
            async with opened() as bus:
                taker, link = Taker().attach(bus), Link()
                bus.queue.put(uplink(1), link)
                await until(lambda: len(taker.messages) == 1)
                bus.queue.bury(taker.messages[0], "ValueError: no")
            async with opened() as bus:
                assert Taker().attach(bus).messages == []

        run(main())

    def test_a_closed_engine_refuses_what_comes_and_asks_for_a_retry(self, opened: Open) -> None:
        async def main() -> None:
            async with opened() as bus:
                taker, link = Taker().attach(bus), Link()
                bus.queue.put(uplink(1), link)
            assert link.answers == [(1, None)]  # what was put before is durable when close returns
            bus.queue.put(uplink(2), link)
            refusal = link.answers[1][1]
            assert refusal is not None
            assert refusal.retry_ms
            with pytest.raises(EngineError):
                await bus.inbox.append("bob", "chat", b"late")
            assert len(taker.messages) <= 1

        run(main())

    def test_a_link_that_raises_harms_no_other(self, opened: Open) -> None:
        class Broken(Link):
            def answered(self, id: int, refusal: object) -> None:
                raise RuntimeError("this link is broken")

        async def main() -> None:
            async with opened() as bus:
                taker, link = Taker().attach(bus), Link()
                bus.queue.put(uplink(1), Broken())
                bus.queue.put(uplink(1, user="bob"), link)
                await until(lambda: link.durable == [1])
                assert len(await taker.took(2)) == 2

        run(main())


class TestInbox:
    def test_numbers_rise_by_one_for_each_user(self, opened: Open) -> None:
        async def main() -> None:
            async with opened() as bus:
                users = ["alice", "bob"] * 50
                numbers = await asyncio.gather(*(bus.inbox.append(user, "chat", b"x") for user in users))
                assert list(numbers[::2]) == list(numbers[1::2]) == list(range(1, 51))
            async with opened() as bus:
                assert await bus.inbox.append("bob", "chat", b"x") == 51

        run(main())

    def test_a_wake_up_comes_with_the_message_and_not_after_append_returns(self, opened: Open) -> None:
        async def main() -> None:
            async with opened() as bus:
                taker = Taker().attach(bus)
                for n in range(1, 4):
                    assert await bus.inbox.append("bob", "chat", b"%d" % n) == n
                    assert [(w.user, w.seq, w.route, w.body) for w in taker.wakes][-1] == ("bob", n, "chat", b"%d" % n)
                assert len(taker.wakes) == 3

        run(main())

    def test_a_repeated_key_appends_nothing(self, opened: Open) -> None:
        async def main() -> None:
            async with opened() as bus:
                taker = Taker().attach(bus)
                append = bus.inbox.append
                both = await asyncio.gather(*(append("bob", "chat", b"x", "k") for _ in range(2)))
                assert both == [1, 1]
                assert await append("bob", "chat", b"x", "k") == 1
                assert await append("carol", "chat", b"x", "k") == 1  # keys are the user's
                assert await append("bob", "chat", b"x", "l") == 2
                assert [(w.user, w.seq) for w in taker.wakes] == [("bob", 1), ("carol", 1), ("bob", 2)]
            async with opened() as bus:
                assert await bus.inbox.append("bob", "chat", b"x", "k") == 1
                assert (await bus.inbox.open("bob", "p", None, "oldest")).head == 2

        run(main())

    def test_the_key_of_a_message_is_known_until_it_is_settled(self, opened: Open) -> None:
        async def main() -> None:
            async with opened() as bus:
                taker, link = Taker().attach(bus), Link()
                for id in range(1, 201):
                    bus.queue.put(uplink(id), link)
                await until(lambda: len(taker.messages) == 200)
                for message in taker.messages:
                    await bus.inbox.append("bob", "chat", b"x", message.key)
                for message in taker.messages[1:]:
                    bus.queue.settle([message])
                for n in range(2000):
                    bus.queue.put(uplink(1000 + n, user="carol"), link)
                await until(lambda: len(taker.messages) == 2200)
                await asyncio.gather(*(bus.inbox.append("bob", "chat", b"x", m.key) for m in taker.messages[200:]))
            async with opened() as bus:
                taker = Taker().attach(bus)
                await until(lambda: bool(taker.messages))
                assert taker.messages[0].id == 1
                assert await bus.inbox.append("bob", "chat", b"x", taker.messages[0].key) == 1

        run(main())

    def test_an_append_that_was_cancelled_leaves_no_hole(self, opened: Open) -> None:
        async def main() -> None:
            async with opened() as bus:
                taker = Taker().attach(bus)
                await bus.inbox.append("bob", "chat", b"1")
                task = asyncio.ensure_future(bus.inbox.append("bob", "chat", b"2", "k"))
                await asyncio.sleep(0)
                task.cancel()
                again = bus.inbox.append("bob", "chat", b"2", "k")
                assert await again == 2
                assert await bus.inbox.append("bob", "chat", b"3") == 3
                assert [w.seq for w in taker.wakes] == [1, 2, 3]

        run(main())

    def test_read_gives_what_follows_within_count_and_size(self, opened: Open) -> None:
        async def main() -> None:
            async with opened() as bus:
                for n in range(1, 11):
                    await bus.inbox.append("bob", "chat", b"%02d" % n * 50)

                async def read(after: int, count: int, size: int) -> list[int]:
                    return [m.seq for m in await bus.inbox.read("bob", after, count, size)]

                assert await read(0, 100, 10_000) == list(range(1, 11))
                assert await read(4, 3, 10_000) == [5, 6, 7]
                assert await read(4, 100, 250) == [5, 6]
                assert await read(4, 100, 1) == [5]
                assert await read(10, 100, 10_000) == []
                assert await read(99, 100, 10_000) == []
                assert await bus.inbox.read("nobody", 0, 100, 10_000) == []
                first = (await bus.inbox.read("bob", 0, 1, 1))[0]
                assert (first.route, first.body) == ("chat", b"01" * 50)

        run(main())

    def test_the_newest_number_is_that_of_the_last_append(self, opened: Open) -> None:
        async def main() -> None:
            async with opened() as bus:
                for i in range(3):
                    await bus.inbox.append("bob", "chat", b"%d" % i)
            async with opened() as bus:  # nobody is at hand
                bob: list[int] = []
                nobody: list[int] = []
                bus.inbox.newest("bob", bob.append)
                bus.inbox.newest("nobody", nobody.append)
                bus.inbox.newest("bob", bob.append)
                await until(lambda: len(bob) == 2 and len(nobody) == 1)
                assert (bob, nobody) == ([3, 3], [0])
                await bus.inbox.append("bob", "chat", b"3")
                bus.inbox.newest("bob", bob.append)
                await until(lambda: len(bob) == 3)
                assert bob[2] == 4

        run(main())

    def test_a_new_device_begins_at_the_oldest_or_behind_the_head(self, opened: Open) -> None:
        async def main() -> None:
            async with opened() as bus:
                for _ in range(3):
                    await bus.inbox.append("bob", "chat", b"x")
                oldest = await bus.inbox.open("bob", "phone", None, "oldest")
                assert (oldest.head, oldest.first, oldest.resumed, oldest.accepted) == (3, 1, True, 0)
                head = await bus.inbox.open("bob", "desk", None, "head")
                assert (head.head, head.first, head.resumed) == (3, 4, True)
            async with opened() as bus:  # what it did not take in it gets, though it asked for the head once
                await bus.inbox.append("bob", "chat", b"x")
                assert (await bus.inbox.open("bob", "desk", None, "head")).first == 4

        run(main())

    def test_without_a_resume_point_delivery_goes_on_behind_what_was_taken(self, opened: Open) -> None:
        async def main() -> None:
            async with opened() as bus:
                await bus.inbox.open("bob", "phone", None, "oldest")
                await bus.inbox.open("bob", "desk", None, "oldest")
                for _ in range(5):
                    await bus.inbox.append("bob", "chat", b"x")
                bus.inbox.taken("bob", "phone", 3)
                bus.inbox.taken("bob", "phone", 2)  # never goes back
                opening = await bus.inbox.open("bob", "phone", None, "head")
                assert (opening.first, opening.resumed) == (4, True)
            async with opened() as bus:
                assert (await bus.inbox.open("bob", "phone", None, "oldest")).first == 4
                assert (await bus.inbox.open("bob", "desk", None, "oldest")).first == 1

        run(main())

    def test_a_resume_point_acknowledges_and_delivery_goes_on_behind_it(self, opened: Open) -> None:
        async def main() -> None:
            async with opened() as bus:
                epoch = (await bus.inbox.open("bob", "phone", None, "oldest")).epoch
                await bus.inbox.open("bob", "desk", None, "oldest")
                for _ in range(5):
                    await bus.inbox.append("bob", "chat", b"x")
                opening = await bus.inbox.open("bob", "phone", Resume(epoch, 4), "oldest")
                assert (opening.epoch, opening.head, opening.first, opening.resumed) == (epoch, 5, 5, True)
                assert (await bus.inbox.open("bob", "phone", None, "oldest")).first == 5
                back = await bus.inbox.open("bob", "phone", Resume(epoch, 1), "oldest")  # it lost what it had
                assert (back.first, back.resumed) == (2, True)
            async with opened() as bus:
                assert (await bus.inbox.open("bob", "phone", Resume(epoch, 5), "oldest")).resumed

        run(main())

    def test_what_cannot_be_resumed_says_so_and_begins_at_the_oldest(self, opened: Open) -> None:
        async def main() -> None:
            async with opened(inbox_count=3) as bus:
                epoch = (await bus.inbox.open("bob", "phone", None, "oldest")).epoch
                for _ in range(5):
                    await bus.inbox.append("bob", "chat", b"x")
                for resume in (Resume("another", 4), Resume(epoch, 6), Resume(epoch, 1)):
                    opening = await bus.inbox.open("bob", "phone", resume, "oldest")
                    assert (opening.first, opening.resumed) == (3, False), resume
                assert (await bus.inbox.open("bob", "phone", Resume(epoch, 2), "oldest")).resumed
                assert (await bus.inbox.open("bob", "phone", Resume(epoch, 2), "oldest")).first == 3

        run(main())

    def test_messages_go_when_all_devices_have_them(self, opened: Open) -> None:
        async def main() -> None:
            async with opened() as bus:
                await bus.inbox.open("bob", "phone", None, "oldest")
                await bus.inbox.open("bob", "desk", None, "oldest")
                for _ in range(5):
                    await bus.inbox.append("bob", "chat", b"x")
                bus.inbox.taken("bob", "phone", 5)
                assert len(await bus.inbox.read("bob", 0, 100, 1000)) == 5
                bus.inbox.taken("bob", "desk", 3)
                assert [m.seq for m in await bus.inbox.read("bob", 0, 100, 1000)] == [4, 5]

        run(main())

    def test_a_device_that_only_sends_holds_nothing_back(self, opened: Open) -> None:
        async def main() -> None:
            async with opened() as bus:
                Taker().attach(bus)
                link = Link()
                await bus.inbox.open("bob", "phone", None, "oldest")
                await bus.inbox.open("bob", "script", None, "oldest", down=False)
                bus.queue.put(uplink(3, user="bob", device="script"), link)
                await until(lambda: link.durable == [3])
                await bus.inbox.append("bob", "chat", b"x")
                bus.inbox.taken("bob", "phone", 1)
                assert await bus.inbox.read("bob", 0, 100, 1000) == []
                opening = await bus.inbox.open("bob", "script", None, "oldest", down=False)
                assert (opening.head, opening.accepted) == (1, 3)

        run(main())


class TestRoutes:
    def test_a_newer_link_takes_over_and_the_older_ones_node_is_told(self, opened: Open) -> None:
        async def main() -> None:
            async with opened() as bus:
                told: list[tuple[Route, Route]] = []
                bus.routes.attach("n", lambda route, newer: told.append((route, newer)))
                names = ("phone", "phone", "desk")
                old, new, desk = (Route("bob", name, "n", name, "both", n) for n, name in enumerate(names, 1))
                assert await bus.routes.claim(old) is None
                assert await bus.routes.claim(new) is None
                assert await bus.routes.claim(desk) is None
                await until(lambda: told == [(old, new)])
                bus.routes.release(old)  # too late: it does not stand any more
                assert sorted(await bus.routes.online("bob"), key=lambda route: route.order) == [new, desk]
                assert await bus.routes.claim(new) is None  # again
                bus.routes.release(new)
                bus.routes.release(new)
                assert await bus.routes.online("bob") == [desk]
                bus.routes.release(desk)
                assert await bus.routes.online("bob") == []
                assert told == [(old, new)]

        run(main())

    def test_a_claim_that_comes_late_never_takes_over_from_a_newer_one(self, opened: Open) -> None:
        async def main() -> None:
            async with opened() as bus:
                told: list[tuple[Route, Route]] = []
                bus.routes.attach("n", lambda route, newer: told.append((route, newer)))
                late, early = Route("bob", "phone", "n", "", "both", 1), Route("bob", "desk", "n", "", "both", 2)
                assert await bus.routes.claim(early) is None
                assert await bus.routes.claim(late) == early
                assert await bus.routes.online("bob") == [early]
                assert told == []

        run(main())

    def test_of_rivals_the_newest_stands_in_whatever_order_the_claims_come(self, opened: Open) -> None:
        """All of three links of one user: of two devices, in one place or in places of their own, of any ways."""

        async def main() -> None:
            async with opened() as bus:
                ways: tuple[Role, ...] = ("up", "down", "both")
                links = list(product(("phone", "desk"), ways))
                told: list[tuple[Route, Route]] = []
                bus.routes.attach("n", lambda route, newer: told.append((route, newer)))
                for number, (three, shared) in enumerate(product(product(links, repeat=3), (True, False))):
                    for turn, claims in enumerate(permutations(enumerate(three, 1))):
                        user = f"user {number} {turn}"
                        refused: list[tuple[Route, Route]] = []
                        told.clear()
                        for order, (device, way) in claims:
                            route = Route(user, device, "n", "" if shared else device, way, order)
                            newer = await bus.routes.claim(route)
                            refused += [(route, newer)] if newer is not None else []
                        standing = await bus.routes.online(user)
                        assert not [pair for pair in combinations(standing, 2) if pair[0].rivals(pair[1])]
                        assert 3 in [route.order for route in standing]
                        fallen = 3 - len(standing) - len(refused)
                        if len(told) < fallen:
                            await until(partial(lambda count: len(told) == count, fallen))
                        assert len(told) == fallen
                        for route, newer in told + refused:
                            assert route not in standing
                            assert route.rivals(newer)
                            assert newer.newer(route)

        run(main())

    def test_orders_rise(self, opened: Open) -> None:
        async def main() -> None:
            async with opened() as bus:
                orders = [bus.routes.order() for _ in range(1000)]
                assert orders == sorted(set(orders))

        run(main())


class TestPush:
    def test_a_broadcast_reaches_every_node_that_has_members(self, opened: Open) -> None:
        async def main() -> None:
            async with opened() as bus:
                one, two = Taker().attach(bus, "one"), Taker().attach(bus, "two")
                bus.push.joined("one", "hall")
                bus.push.joined("two", "hall")
                await bus.push.broadcast("hall", b"hello")
                await until(lambda: bool(one.rooms and two.rooms))
                assert one.rooms == two.rooms == [("hall", b"hello")]

        run(main())


class TestLoads:
    def test_what_a_node_reports_is_told_to_all_who_watch(self, opened: Open) -> None:
        async def main() -> None:
            async with opened() as bus:
                first: list[Load] = []
                second: list[Load] = []
                bus.loads.watch(first.append)
                bus.loads.watch(second.append)
                reports = [Load("n", 3, 0.5, 1.5, 0.25), Load("m", 0, 0.0, 0.0, 0.0, draining=True)]
                for load in reports:
                    bus.loads.report(load)
                await until(lambda: len(first) == len(second) == 2)
                assert first == second == reports

        run(main())

    def test_a_watcher_that_fails_harms_nobody_else(self, opened: Open) -> None:
        def failing(load: Load) -> None:
            raise ValueError(load)

        async def main() -> None:
            async with opened() as bus:
                told: list[Load] = []
                bus.loads.watch(failing)
                bus.loads.watch(told.append)
                bus.loads.report(Load("n", 1, 0.0, 0.0, 0.0))
                await until(lambda: bool(told))

        run(main())
