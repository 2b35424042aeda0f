"""The engine on a cluster of three masters: each shard is on the master that has its slot, and is found there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing

import pytest
from redis.crc import key_slot

from imcore.bus.ports import Route
from imcore.bus.redis import RedisBus
from imcore.bus.redis.audit import audit
from imcore.errors import EngineError
from tests import redis_server
from tests.bus.engines import Link, Taker, away, back, pipe, run, until, uplink
from tests.redis_server import RedisCluster, RedisServer

pytestmark = pytest.mark.skipif(redis_server.missing is not None, reason=redis_server.missing or "")

SHARDS = 4
"""Their slots: 13907, 9842, 5649, 1584; so each master has one, and one of them two."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    """For those who leave its slots where they are. One of its masters is killed, and must have lost nothing."""
    with closing(RedisCluster(sync="always")) as cluster:
        yield cluster


@pytest.fixture
def own_cluster() -> Iterator[RedisCluster]:
    """For who moves slots."""
    with closing(RedisCluster()) as cluster:
        yield cluster


def has(master: RedisServer, key: str) -> bool:
    return master.command("EXISTS", key) == b":1\r\n"


@asynccontextmanager
async def working(cluster: RedisCluster, space: str) -> AsyncIterator[tuple[RedisBus, Taker, Link, str]]:
    """An engine that has taken its first message, its taker and link, and who sent it: a user of the first shard."""
    bus = RedisBus(cluster.url, space=space, shards=SHARDS)
    await bus.start()
    try:
        taker, link = Taker().attach(bus), Link()
        await until(lambda: len(bus._consumer._held) == SHARDS)
        user = next(f"user {n}" for n in range(100) if bus._keys.shard(f"user {n}") == 0)
        bus.queue.put(uplink(1, user=user), link)
        await taker.took(1)
        yield bus, taker, link, user
    finally:
        await bus.close()


async def answered(link: Link, before: int) -> None:
    """More than so many answers have come."""
    await until(lambda: len(link.answers) > before, timeout_s=20)


def test_messages_cross_it_whichever_master_a_process_was_told_and_the_books_are_right(cluster: RedisCluster) -> None:
    async def main() -> None:
        one, two = (RedisBus(master.url, space="crossing", shards=SHARDS) for master in cluster.masters[:2])
        for bus in (one, two):
            await bus.start()
        taker, link = Taker().attach(two, "two"), Link()
        users = [f"user {n}" for n in range(20)]
        assert {one._keys.shard(user) for user in users} == set(range(SHARDS))
        await until(lambda: len(two._consumer._held) == SHARDS)
        await asyncio.gather(
            *(two.routes.claim(Route(user, "phone", "two", "phone", "both", n)) for n, user in enumerate(users))
        )
        one._services.tell()
        await pipe(one).quiet()
        for user in users:
            one.queue.put(uplink(1, user=user), link)
        messages = await taker.took(len(users))
        for message in messages:
            assert await one.inbox.append(message.user, "chat", message.body, message.key) == 1
        await until(lambda: sorted(wake.user for wake in taker.wakes) == sorted(users))
        two.push.joined("two", "hall")
        await pipe(two).quiet()
        await one.push.broadcast("hall", b"hello")
        await until(lambda: taker.rooms == [("hall", b"hello")])
        two.queue.settle(messages)
        for bus in (one, two):
            await bus.close()
        assert [sum(has(master, f"crossing:{{{n}}}:meta") for n in range(SHARDS)) for master in cluster.masters] == [
            1,
            2,
            1,
        ]
        books = audit(cluster.masters[2].url, "crossing")
        assert books.faults == []
        assert (books.accepted, books.settled, books.appended) == (20, 20, 20)

    run(main())


def test_an_engine_that_can_not_start_leaves_no_connection(cluster: RedisCluster) -> None:
    def connected() -> bool:
        return any(b"name=unread" in master.command("CLIENT", "LIST") for master in cluster.masters)

    async def main() -> None:
        bus = RedisBus(f"{cluster.url}?client_name=unread", space="unread", shards=SHARDS)
        await bus.start()
        assert connected()
        await bus.close()
        assert cluster.masters[0].command("HSET", f"unread:{{{SHARDS - 1}}}:meta", "format", "2") == b":0\r\n"
        with pytest.raises(EngineError, match="in format 2"):  # the shards before it have been reached
            await bus.start()
        await until(lambda: not connected(), "no connection to be left")

    run(main())


def test_while_a_master_is_away_sends_are_refused_and_all_goes_on_when_it_returns(cluster: RedisCluster) -> None:
    async def main() -> None:
        async with working(cluster, "away") as (bus, taker, link, user):
            lost: list[object] = []
            bus.inbox.attach(lost.append)
            master = cluster.masters[2]
            assert has(master, "away:{0}:meta")
            master.kill()
            await away(bus)
            bus.queue.put(uplink(2, user=user), link)
            refusal = link.answers[-1][1]
            assert refusal is not None
            assert refusal.retry_ms
            with pytest.raises(EngineError, match="away"):
                await bus.inbox.append(user, "chat", b"x")
            master.start()
            for each in cluster.masters:
                cluster.met(each)
            while link.durable != [1, 2]:  # as a client does
                told = len(link.answers)
                bus.queue.put(uplink(2, user=user), link)
                await answered(link, told)
                await asyncio.sleep(0.02)
            assert [message.id for message in await taker.took(2)] == [1, 2]
            await back(bus)
            assert await bus.inbox.append(user, "chat", b"x") == 1
            assert lost == []

    run(main())


def test_a_shard_whose_slot_has_moved_is_found_on_its_new_master(own_cluster: RedisCluster) -> None:
    async def main() -> None:
        slot = str(key_slot(b"moving:{0}:meta"))
        source, target = own_cluster.masters[2], own_cluster.masters[0]
        async with working(own_cluster, "moving") as (bus, taker, link, user):
            assert await bus.inbox.append(user, "chat", b"1") == 1
            target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", source.name)
            source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", target.name)
            keys = source.command("CLUSTER", "GETKEYSINSLOT", slot, "100").decode().split("\r\n")[2::2]
            assert "moving:{0}:meta" in keys
            moved = source.command("MIGRATE", "127.0.0.1", str(target.port), "", "0", "5000", "KEYS", *keys)
            assert moved == b"+OK\r\n"
            for master in own_cluster.masters:
                master.command("CLUSTER", "SETSLOT", slot, "NODE", target.name)
            pushed = asyncio.ensure_future(bus.inbox.append(user, "chat", b"2"))  # it comes back: the shard has moved
            assert await pushed == 2
            await back(bus)
            bus.queue.put(uplink(2, user=user), link)
            await until(lambda: link.durable == [1, 2])
            assert [message.id for message in await taker.took(2)] == [1, 2]
            assert has(target, "moving:{0}:meta")
            assert not has(source, "moving:{0}:meta")

    run(main())
