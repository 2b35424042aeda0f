"""A cluster that moves the slot of a shard, key by key, while messages flow: what comes meanwhile waits for it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from contextlib import closing

import pytest
from redis.crc import key_slot

from imcore.bus.redis import RedisBus
from imcore.bus.redis.audit import audit
from imcore.errors import EngineError
from tests import redis_server
from tests.bus.engines import away, back, pipe, run, until, watched
from tests.bus.flow import Flow
from tests.redis_server import RedisCluster, RedisServer

pytestmark = pytest.mark.skipif(redis_server.missing is not None, reason=redis_server.missing or "")

SHARDS = 4
META = "moving:{0}:meta"
SLOT = key_slot(META.encode())


@pytest.fixture
def cluster() -> Iterator[RedisCluster]:
    with closing(RedisCluster()) as cluster:
        yield cluster


class Move:
    """Of the first shard's slot, from its master to another one, as `redis-cli --cluster reshard` does it."""

    def __init__(self, cluster: RedisCluster, source: RedisServer, target: RedisServer) -> None:
        self._cluster = cluster
        self._source = source
        self._target = target
        target.command("CLUSTER", "SETSLOT", str(SLOT), "IMPORTING", source.name)
        source.command("CLUSTER", "SETSLOT", str(SLOT), "MIGRATING", target.name)

    def keys(self) -> list[str]:
        """Those that have not gone."""
        found = self._source.command("CLUSTER", "GETKEYSINSLOT", str(SLOT), "1000").decode()
        return found.split("\r\n")[2::2]

    def take(self, keys: Sequence[str]) -> None:
        """They go."""
        for key in keys:
            words = ("MIGRATE", "127.0.0.1", str(self._target.port), key, "0", "5000")
            assert self._source.command(*words) in (b"+OK\r\n", b"+NOKEY\r\n")

    def end(self) -> None:
        """The rest goes, and everybody knows it."""
        while keys := self.keys():
            self.take(keys)
        for node in (self._target, *self._cluster.masters):
            assert node.command("CLUSTER", "SETSLOT", str(SLOT), "NODE", self._target.name) == b"+OK\r\n"

    async def meets_calls(self) -> None:
        """Until some have come that the source sends away for this."""
        before = self._sent_away()
        await until(lambda: self._sent_away() > before + 1, "calls to come while the slot moves")

    def _sent_away(self) -> int:
        errors = self._source.info("errorstats")
        found = (re.search(r"count=(\d+)", errors.get(f"errorstat_{name}", "")) for name in ("ASK", "TRYAGAIN"))
        return sum(int(count[1]) for count in found if count)


def test_no_call_fails_while_a_slot_moves_under_traffic(cluster: RedisCluster) -> None:
    async def main() -> None:
        here, there = cluster.masters[2], cluster.masters[0]
        async with watched(cluster.url, "moving", SHARDS) as (bus, lost):
            flow = Flow(bus)
            flowing = asyncio.create_task(flow.run())
            await flow.goes_on()
            flow.failed.clear()  # of the first ones, before there was a service
            for source, target, meta_first in ((here, there, True), (there, here, False)):
                move = Move(cluster, source, target)
                keys = move.keys()
                assert META in keys
                await asyncio.to_thread(move.take, [key for key in keys if (key == META) == meta_first])
                await move.meets_calls()
                await asyncio.to_thread(move.end)
                await flow.goes_on()
                assert target.command("EXISTS", META) == b":1\r\n"
            assert pipe(bus).up
            assert flow.failed == []
            assert lost == []
            flow.end()
            await flowing
        books = audit(cluster.url, "moving")
        assert books.faults == []
        assert books.accepted == books.settled == books.appended == sum(flow.durable.values())

    run(main())


def test_a_process_that_starts_while_a_slot_moves_waits_for_it(cluster: RedisCluster) -> None:
    async def main() -> None:
        async with watched(cluster.url, "moving", SHARDS):
            pass
        move = Move(cluster, cluster.masters[2], cluster.masters[0])
        bus = RedisBus(cluster.url, space="moving", shards=SHARDS)
        starting = asyncio.create_task(bus.start())
        await move.meets_calls()
        move.end()
        await starting
        await bus.close()

    run(main())


def test_a_move_that_takes_longer_than_an_answer_may_is_redis_being_away(
    cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with watched(cluster.url, "moving", SHARDS) as (bus, lost):
            user = next(f"user {n}" for n in range(100) if bus._keys.shard(f"user {n}") == 0)
            assert await bus.inbox.append(user, "chat", b"1") == 1
            monkeypatch.setattr("imcore.bus.redis.way.ANSWER_S", 1.0)
            move = Move(cluster, cluster.masters[2], cluster.masters[0])
            waiting = asyncio.ensure_future(bus.inbox.append(user, "chat", b"2"))
            await away(bus)
            with pytest.raises(EngineError, match="away"):
                await bus.inbox.append(user, "chat", b"refused")
            assert not waiting.done()
            move.end()
            await back(bus)
            assert await waiting == 2
            assert lost == []

    run(main())
