"""What only the Redis engine promises: many processes, a Redis that goes, comes back, forgets or is full."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from imcore.bus.ports import Route
from imcore.bus.redis import RedisBus
from imcore.bus.redis.audit import audit, letters, settle_letter
from imcore.bus.redis.push import RELAY_COSTS, RELAYED_MOST
from imcore.errors import EngineError
from imcore.messages import Resume
from tests import redis_server
from tests.bus.engines import Link, Taker, away, back, pipe, run, until, uplink
from tests.redis_server import RedisServer

pytestmark = pytest.mark.skipif(redis_server.missing is not None, reason=redis_server.missing or "")


@asynccontextmanager
async def process(server: RedisServer, **options: Any) -> AsyncIterator[RedisBus]:
    """An engine, as another process would have it."""
    bus = RedisBus(server.url, **({"shards": 4} | options))
    await bus.start()
    try:
        yield bus
    finally:
        await bus.close()


def waiting(bus: RedisBus, name: str) -> tuple[int, int]:
    """Operations that gather for the shard of this user or room, and the bytes of their bodies."""
    number = pipe(bus).keys.shard(name)
    shard = pipe(bus)._of[number].shards[number]
    return len(shard.ops), shard.size


class TestProcesses:
    def test_a_message_goes_from_one_gateway_over_a_service_to_another_gateway(self, server: RedisServer) -> None:
        async def main() -> None:
            async with process(server) as up, process(server) as service, process(server) as down:
                there, elsewhere = Taker(), Taker()
                service.queue.consume({"chat": None}, there.take)
                down.push.attach("down", elsewhere.wakes.extend, lambda room, body: None)
                assert await down.routes.claim(Route("bob", "phone", "down", "phone", "down", 1)) is None
                link = Link()
                up.queue.put(uplink(1), link)
                await until(lambda: bool(link.answers))
                if link.durable != [1]:  # it came before the gateway had heard of the service
                    refusal = link.answers[0][1]
                    assert refusal is not None
                    assert refusal.retry_ms
                    await asyncio.sleep(1.1)
                    up.queue.put(uplink(1), link)
                    await until(lambda: link.durable == [1])
                (message,) = await there.took(1)
                assert await service.inbox.append("bob", "chat", b"hello", message.key) == 1
                service.queue.settle([message])
                await until(lambda: bool(elsewhere.wakes))
                (wake,) = elsewhere.wakes
                assert (wake.user, wake.seq, wake.route, wake.body) == ("bob", 1, "chat", b"hello")
                assert [m.body for m in await down.inbox.read("bob", 0, 10, 1000)] == [b"hello"]

        run(main())

    def test_what_a_dead_consumer_held_comes_to_another_before_what_is_new(self, server: RedisServer) -> None:
        async def main() -> None:
            async with process(server) as other:
                async with process(server) as dying:
                    taker, link = Taker(), Link()
                    dying.queue.consume({"chat": None}, taker.take)
                    await asyncio.sleep(0)
                    for id in range(1, 21):
                        dying.queue.put(uplink(id, user=f"user {id % 4}"), link)
                    await taker.took(20)
                    pipe(dying).abandon()  # as if killed: nothing is given back
                heir = Taker()
                other.queue.consume({"chat": None}, heir.take)
                other.queue.put(uplink(21, user="user 1"), link)
                await heir.took(21)
                for user in range(4):
                    numbers = [m.id for m in heir.messages if m.user == f"user {user}"]
                    assert numbers == sorted(numbers)
                    assert len(numbers) >= 5

        run(main())

    def test_two_services_share_the_shards_and_what_one_device_sends_comes_in_order(self, server: RedisServer) -> None:
        async def main() -> None:
            async with process(server) as one, process(server) as two:
                first, second, link = Taker(), Taker(), Link()
                seen: dict[str, list[int]] = {}

                def take_on(bus: RedisBus, taker: Taker) -> Any:
                    def take(messages: Any) -> None:
                        taker.take(messages)
                        for message in messages:
                            seen.setdefault(message.user, []).append(message.id)
                        bus.queue.settle(messages)

                    return take

                one.queue.consume({"chat": None}, take_on(one, first))
                sent = 0
                while not second.messages or not first.messages or sent < 3000:
                    if sent == 500:
                        two.queue.consume({"chat": None}, take_on(two, second))
                    sent += 1
                    one.queue.put(uplink(sent, user=f"user {sent % 16}"), link)
                    if sent % 10 == 0:
                        await asyncio.sleep(0.005)
                    assert sent < 20_000, "the shards were never shared"
                await until(lambda: len(first.messages) + len(second.messages) == sent)
                assert all(numbers == sorted(set(numbers)) for numbers in seen.values())
            assert audit(server.url, "imcore").settled == sent

        run(main())

    def test_a_service_that_knows_more_routes_gets_the_shards(self, server: RedisServer) -> None:
        async def main() -> None:
            async with process(server) as old, process(server) as new:
                before, after, link = Taker(), Taker(), Link()
                old.queue.consume({"chat": None}, before.take)
                await asyncio.sleep(0.3)
                new.queue.consume({"chat": None, "mail": None}, after.take)
                new.queue.put(uplink(1, route="mail"), link)
                assert [m.route for m in await after.took(1)] == ["mail"]
                assert before.messages == []

        run(main())

    def test_a_route_of_another_node_falls_and_its_node_is_told(self, server: RedisServer) -> None:
        async def main() -> None:
            async with process(server) as one, process(server) as two:
                told: list[tuple[Route, Route]] = []
                one.push.attach("one", lambda wakes: None, lambda room, body: None)
                one.routes.attach("one", lambda route, newer: told.append((route, newer)))
                two.routes.attach("two", lambda route, newer: None)
                old = Route("bob", "phone", "one", "phone", "both", 1, "app/1")
                new = Route("bob", "phone", "two", "phone", "both", 2, "app/2")
                assert await one.routes.claim(old) is None
                assert await two.routes.claim(new) is None
                await until(lambda: told == [(old, new)])
                one.routes.release(old)  # too late: nothing of the newer one goes
                await one.routes.online("carol")
                assert await one.routes.online("bob") == await two.routes.online("bob") == [new]

        run(main())

    def test_routes_of_a_dead_node_fall_by_themselves(
        self, server: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("imcore.bus.redis.push.NODE_MS", 300)

        async def main() -> None:
            async with process(server) as two:
                async with process(server) as one:
                    one.routes.attach("one", lambda route, newer: None)
                    await one.routes.claim(Route("bob", "phone", "one", "phone", "both", 1))
                    assert len(await two.routes.online("bob")) == 1
                    pipe(one).abandon()
                for _ in range(100):
                    if not await two.routes.online("bob"):
                        break
                    await asyncio.sleep(0.05)
                assert await two.routes.online("bob") == []

        run(main())

    def test_a_broadcast_goes_to_nodes_with_members_and_to_no_other(self, server: RedisServer) -> None:
        async def main() -> None:
            async with process(server) as one, process(server) as two, process(server) as three:
                takers = [Taker(), Taker(), Taker()]
                for bus, taker, name in zip((one, two, three), takers, ("one", "two", "three"), strict=True):
                    taker.attach(bus, name)
                one.push.joined("one", "hall")
                two.push.joined("two", "hall")
                three.push.joined("three", "hall")
                three.push.left("three", "hall")
                await asyncio.gather(*(bus.routes.online("nobody") for bus in (one, two, three)))
                for bus in (one, two, three):
                    await pipe(bus).quiet()
                await one.push.broadcast("hall", b"hello")
                await until(lambda: all(taker.rooms for taker in takers[:2]))
                assert takers[0].rooms == takers[1].rooms == [("hall", b"hello")]
                assert server.command("XLEN", f"imcore:{{{pipe(three).keys.shard('hall')}}}:wakes:three") == b":0\r\n"

        run(main())

    def test_what_members_say_faster_than_redis_takes_it_is_dropped_and_counted(self, server: RedisServer) -> None:
        async def main() -> None:
            async with process(server) as one, process(server) as two:
                taker = Taker().attach(two, "two")
                Taker().attach(one, "one")
                two.push.joined("two", "hall")
                await pipe(two).quiet()
                server.stop(True)
                for number in range(1000):
                    one.push.relay("one", "hall", number.to_bytes(2) + bytes(65_000))
                server.stop(False)
                taken = 1000 - one.push.dropped
                assert taken == RELAYED_MOST // (65_002 + RELAY_COSTS)
                await until(lambda: len(taker.rooms) == taken)
                assert [body[:2] for _, body in taker.rooms] == [number.to_bytes(2) for number in range(taken)]
                one.push.relay("one", "hall", b"again")
                await until(lambda: taker.rooms[-1] == ("hall", b"again"))
                assert one.push.dropped == 1000 - taken

        run(main())

    def test_what_is_said_elsewhere_goes_in_calls_that_its_bytes_keep_small(self, server: RedisServer) -> None:
        async def main() -> None:
            async with process(server) as bus:
                server.stop(True)
                bus.inbox.newest("alice", lambda head: None)
                await asyncio.sleep(0)  # from here on all gathers behind what is on its way
                said = [asyncio.ensure_future(bus.push.say("alice", "phone", "hall", bytes(60_000))) for _ in range(50)]
                cast = [asyncio.ensure_future(bus.push.broadcast("alice", bytes(60_000))) for _ in range(50)]
                await asyncio.sleep(0)
                assert waiting(bus, "alice")[1] >= 99 * 60_000
                server.stop(False)
                assert await asyncio.gather(*said) == [False] * 50
                await asyncio.gather(*cast)

        run(main())

    def test_who_asks_much_has_one_question_on_its_way(self, server: RedisServer) -> None:
        async def main() -> None:
            async with process(server) as bus:
                await bus.inbox.append("alice", "chat", b"x")
                first: list[int] = []
                others = [list[int]() for _ in range(1000)]
                server.stop(True)
                for _ in range(1000):
                    bus.inbox.newest("alice", first.append)
                for heads in others:
                    bus.inbox.newest("alice", heads.append)
                assert waiting(bus, "alice") == (1, 0)
                server.stop(False)
                await until(lambda: all(others))
                assert (first, others) == ([1, 1], [[1]] * 1000)

        run(main())

    def test_rooms_that_begin_and_end_faster_than_redis_is_told_are_told_as_they_are_now(
        self, server: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("imcore.bus.redis.push.CHANGES_MOST", 10)

        async def main() -> None:
            async with process(server) as one, process(server) as two:
                taker = Taker().attach(one, "one")
                Taker().attach(two, "two")
                await pipe(one).quiet()
                server.stop(True)
                for _ in range(100):
                    assert one.push.joined("one", "hall")
                    one.push.left("one", "hall")
                    assert one.push.joined("one", "yard")
                    one.push.left("one", "yard")
                assert one.push.joined("one", "hall")
                assert waiting(one, "hall")[0] <= 2
                assert [one.push.joined("one", f"room {n}") for n in range(12)] == [True] * 8 + [False] * 4
                server.stop(False)
                await pipe(one).quiet()
                assert one.push.joined("one", "room 9")
                await pipe(one).quiet()
                for room in ("yard", "room 8", "room 9", "hall"):
                    two.push.relay("two", room, b"hello")
                    await pipe(two).quiet()
                await until(lambda: ("hall", b"hello") in taker.rooms)
                assert sorted(taker.rooms) == [("hall", b"hello"), ("room 9", b"hello")]

        run(main())

    def test_what_members_say_while_redis_is_away_is_counted_as_dropped(self, server: RedisServer) -> None:
        async def main() -> None:
            async with process(server) as one:
                Taker().attach(one, "one")
                one.push.relay("one", "hall", b"on its way")
                server.kill()
                await away(one)
                one.push.relay("one", "hall", b"too late")
                assert one.push.dropped == 1

        run(main())


class TestAway:
    def test_sends_are_refused_with_a_time_to_come_back_and_go_on_when_it_returns(self, server: RedisServer) -> None:
        async def main() -> None:
            async with process(server) as bus:
                taker, link = Taker().attach(bus), Link()
                bus.queue.put(uplink(1), link)
                await taker.took(1)
                server.kill()
                await away(bus)
                bus.queue.put(uplink(2), link)
                id, refusal = link.answers[-1]
                assert id == 2
                assert refusal is not None
                assert refusal.code == "overloaded"
                assert refusal.retry_ms
                with pytest.raises(EngineError, match="away"):
                    await bus.inbox.append("bob", "chat", b"x")
                with pytest.raises(EngineError, match="away"):
                    await bus.routes.claim(Route("bob", "phone", "n", "phone", "both", 1))
                server.start()
                await back(bus)
                bus.queue.put(uplink(2), link)
                await until(lambda: link.durable == [1, 2])
                assert [m.id for m in await taker.took(2)] == [1, 2]
                assert await bus.inbox.append("bob", "chat", b"x") == 1

        run(main())

    def test_what_was_on_its_way_is_done_once_whatever_redis_had_of_it(self, server: RedisServer) -> None:
        async def main() -> None:
            async with process(server) as bus:
                taker, link = Taker().attach(bus), Link()
                await taker_is_ready(bus)
                for turn in range(5):
                    server.stop(True)
                    await asyncio.sleep(0.05)  # nothing is under way
                    bus.queue.put(uplink(turn + 1), link)
                    pushed = [bus.inbox.append("bob", "chat", b"%d" % n) for n in range(20)]
                    await asyncio.sleep(0.05)
                    if turn % 2:
                        server.kill()
                        server.start()
                    else:
                        server.stop(False)
                    assert [await each for each in pushed] == [turn * 20 + n + 1 for n in range(20)]
                await until(lambda: link.durable == [1, 2, 3, 4, 5])
                assert [m.id for m in await taker.took(5)] == [1, 2, 3, 4, 5]
                kept = await bus.inbox.read("bob", 0, 1000, 10_000)
                assert [m.body for m in kept] == [b"%d" % n for n in range(20)] * 5

        async def taker_is_ready(bus: RedisBus) -> None:
            await until(lambda: len(bus._consumer._held) == 4)

        run(main())

    def test_a_connection_that_is_cut_is_no_loss(self, server: RedisServer) -> None:
        async def main() -> None:
            async with process(server) as bus:
                epoch = (await bus.inbox.open("bob", "phone", None, "oldest")).epoch
                told: list[object] = []
                bus.inbox.attach(told.append)
                for n in range(3):
                    server.command("CLIENT", "KILL", "TYPE", "normal")
                    await away(bus)
                    await back(bus)
                    assert await bus.inbox.append("bob", "chat", b"x") == n + 1
                assert (await bus.inbox.open("bob", "phone", Resume(epoch, 3), "oldest")).resumed
                assert told == []

        run(main())


class TestHistory:
    def test_a_redis_that_lost_its_tail_is_another_epoch_and_gateways_are_told(self, server: RedisServer) -> None:
        async def main() -> None:
            async with process(server) as bus, process(server) as other:
                told: list[Any] = []
                bus.inbox.attach(told.append)
                other.inbox.attach(told.append)
                await bus.inbox.append("bob", "chat", b"1")
                opening = await bus.inbox.open("bob", "phone", None, "oldest")
                for n in range(2, 6):
                    await bus.inbox.append("bob", "chat", b"%d" % n)
                await other.inbox.read("bob", 0, 1, 1)
                server.kill()
                (log,) = (server.folder / "appendonlydir").glob("*.incr.aof")
                data = log.read_bytes()
                cut = data.rindex(b"MULTI", 0, len(data) * 2 // 3)
                log.write_bytes(data[: data.rindex(b"*1\r\n", 0, cut)])
                await away(bus)
                server.start()
                await back(bus)
                await until(lambda: len(told) == 2, "both to be told")
                assert all(concerns("bob") for concerns in told)
                again = await bus.inbox.open("bob", "phone", Resume(opening.epoch, 5), "oldest")
                assert again.epoch != opening.epoch
                assert not again.resumed
                assert (await other.inbox.open("bob", "phone", Resume(again.epoch, again.head), "oldest")).resumed
            assert audit(server.url, "imcore").faults == []

        run(main())

    def test_after_everything_was_wiped_routes_and_rooms_are_put_back_within_one_renewal(
        self, server: RedisServer
    ) -> None:
        async def main() -> None:
            async with process(server) as bus, process(server) as other:
                taker = Taker().attach(bus, "one")
                bus.routes.attach("one", lambda route, newer: None)
                bus.push.joined("one", "hall")
                routes = [Route(f"user {n}", "phone", "one", "phone", "both", n + 1) for n in range(50)]
                for route in routes:
                    assert await bus.routes.claim(route) is None
                server.command("FLUSHALL")
                await asyncio.sleep(2.5)
                for route in routes:
                    assert await other.routes.online(route.user) == [route]
                await other.push.broadcast("hall", b"hello")
                await until(lambda: taker.rooms == [("hall", b"hello")])
                await other.inbox.append("user 7", "chat", b"x")
                await until(lambda: [wake.user for wake in taker.wakes] == ["user 7"])

        run(main())

    def test_another_number_of_shards_is_an_error_that_says_which_is_right(self, server: RedisServer) -> None:
        async def main() -> None:
            async with process(server, shards=4):
                pass
            with pytest.raises(EngineError, match="set it to 4"):
                await RedisBus(server.url, shards=5).start()

        run(main())

    def test_no_redis_is_an_error_that_says_what_to_do(self) -> None:
        async def main() -> None:
            with pytest.raises(EngineError, match=r"is it running, and is \[bus\] url right"):
                await RedisBus("redis://127.0.0.1:1/0").start()

        run(main())


class TestFull:
    def test_without_memory_sends_are_refused_and_what_makes_room_is_done(self, server: RedisServer) -> None:
        async def main() -> None:
            async with process(server) as bus:
                taker, link = Taker().attach(bus), Link()
                for id in range(1, 11):
                    bus.queue.put(uplink(id), link)
                await taker.took(10)
                server.command("CONFIG", "SET", "maxmemory", "1")
                bus.queue.put(uplink(11), link)
                await until(lambda: len(link.answers) == 11)
                refusal = link.answers[-1][1]
                assert refusal is not None
                assert "maxmemory" in refusal.text
                assert refusal.retry_ms
                with pytest.raises(EngineError, match="maxmemory"):
                    await bus.inbox.append("bob", "chat", b"x")
                bus.queue.settle(taker.messages)
                await until(lambda: audit(server.url, "imcore").settled == 10)
                server.command("CONFIG", "SET", "maxmemory", "0")
                bus.queue.put(uplink(11), link)
                await taker.took(11)
                assert await bus.inbox.append("bob", "chat", b"x") == 1
            assert audit(server.url, "imcore").faults == []

        run(main())


class TestBooks:
    def test_every_message_is_somewhere(self, server: RedisServer) -> None:
        async def main() -> None:
            async with process(server, inbox_count=3) as bus:
                taker, link = Taker().attach(bus), Link()
                await bus.inbox.open("bob", "phone", None, "oldest")
                for id in range(1, 8):
                    bus.queue.put(uplink(id), link)
                bus.queue.withdraw("alice", "phone", 8, link)
                await taker.took(7)
                for message in taker.messages[:4]:
                    await bus.inbox.append("bob", "chat", b"x", message.key)
                bus.queue.settle(taker.messages[:4])
                bus.queue.bury(taker.messages[4], "ValueError: no")
                bus.inbox.taken("bob", "phone", 3)
                for _ in range(4):
                    await bus.inbox.append("bob", "chat", b"y")
            books = audit(server.url, "imcore")
            assert books.faults == []
            assert (books.accepted, books.settled, books.waiting, books.dead, books.withdrawn) == (7, 4, 2, 1, 1)
            assert (books.appended, books.devices) == (8, 1)
            assert books.delivered + books.undelivered + books.expired == 8

        run(main())

    def test_what_does_not_add_up_is_said(self, server: RedisServer) -> None:
        async def main() -> None:
            async with process(server) as bus:
                for _ in range(3):
                    await bus.inbox.append("bob", "chat", b"x")
                server.command("XDEL", f"imcore:{{{pipe(bus).keys.shard('bob')}}}:inbox:bob", "2-0")
            (fault,) = audit(server.url, "imcore").faults
            assert "inbox of 'bob': expected 1 to 3, found 2" in fault

        run(main())

    def test_a_space_that_is_not_there_is_an_error(self, server: RedisServer) -> None:
        with pytest.raises(EngineError, match="nothing of 'elsewhere'"):
            audit(server.url, "elsewhere")

    @pytest.mark.parametrize("action", ["replay", "drop"])
    def test_a_dead_letter_can_be_handled_again_or_given_up(self, server: RedisServer, action: Any) -> None:
        async def main() -> None:
            async with process(server) as bus:
                taker, link = Taker().attach(bus), Link()
                bus.queue.put(uplink(1), link)
                (message,) = await taker.took(1)
                assert await bus.inbox.append("bob", "chat", b"x", message.key) == 1
                bus.queue.bury(message, "ValueError: no")
                await until(lambda: len(letters(server.url, "imcore")) == 1)
                (letter,) = letters(server.url, "imcore")
                assert (letter.error, letter.message.id, letter.message.body) == ("ValueError: no", 1, b"body 1")
                assert settle_letter(server.url, "imcore", letter.number, action)
                assert not settle_letter(server.url, "imcore", letter.number, action)
                if action == "replay":
                    again = (await taker.took(2))[1]
                    assert again.key == message.key
                    assert await bus.inbox.append("bob", "chat", b"x", again.key) == 1, "not pushed twice"
                    bus.queue.settle([again])
            books = audit(server.url, "imcore")
            assert books.faults == []
            assert (books.dead, books.dropped, books.replayed) == ((0, 0, 1) if action == "replay" else (0, 1, 0))

        run(main())
