"""A cluster whose replica takes over from its master: in good order, and because it must."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from imcore.bus.redis.audit import audit
from tests import redis_server
from tests.bus.engines import away, back, pipe, run, until, watched
from tests.bus.flow import Flow
from tests.redis_server import RedisCluster, RedisServer

pytestmark = pytest.mark.skipif(redis_server.missing is not None, reason=redis_server.missing or "")

LONG_S = 40.0
"""What may take a few tries, each of which may end by the clock."""


@pytest.fixture
def cluster() -> Iterator[RedisCluster]:
    """Its last master has a replica, and the slot of the first shard. Few may wait at the door of one that is stopped:
    it is soon as silent as behind a dropped cable."""
    with closing(RedisCluster(replica=True, more=("--tcp-backlog", "1"))) as cluster:
        yield cluster


def pair(cluster: RedisCluster) -> tuple[RedisServer, RedisServer]:
    """The last master and its replica."""
    assert cluster.replica is not None
    return cluster.masters[-1], cluster.replica


async def in_step(master: RedisServer, replica: RedisServer) -> None:
    """Until the replica has all that the master has."""

    def holds() -> bool:
        offset = replica.info("replication")["slave_repl_offset"]
        return master.info("replication")["master_repl_offset"] == offset

    await until(holds, "the replica to have everything")


def take_over(replica: RedisServer) -> None:
    """It is master now, and asks nobody."""
    assert replica.command("CLUSTER", "FAILOVER", "TAKEOVER") == b"+OK\r\n"


def is_master(server: RedisServer) -> bool:
    return server.info("replication")["role"] == "master"


def test_nothing_is_lost_when_a_replica_is_promoted_in_good_order(cluster: RedisCluster) -> None:
    async def main() -> None:
        master, replica = pair(cluster)
        async with watched(cluster.url, "flow", 4) as (bus, lost):
            flow = Flow(bus)
            flowing = asyncio.create_task(flow.run())
            await flow.goes_on()
            await asyncio.to_thread(cluster.fail_over)
            assert is_master(replica)
            await flow.goes_on()
            assert not is_master(master)
            flow.end()
            await flowing
            assert lost == []
        books = audit(cluster.url, "flow")
        assert books.faults == []
        assert books.accepted == books.settled == books.appended == sum(flow.durable.values())

    run(main())


def test_a_master_that_falls_silent_is_left_for_the_one_that_took_over(
    cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        master, replica = pair(cluster)
        async with watched(master.url, "flow", 1) as (bus, lost):  # of the others it has only been told
            assert await bus.inbox.append("bob", "chat", b"1") == 1
            await in_step(master, replica)
            monkeypatch.setattr("imcore.bus.redis.way.ANSWER_S", 2.0)
            with ExitStack() as waiting:
                master.stop(True)
                for _ in range(8):  # nobody is taken in any more: who connects hears nothing at all
                    one = waiting.enter_context(socket.socket())
                    one.setblocking(False)
                    one.connect_ex(("127.0.0.1", master.port))
                pushed = asyncio.ensure_future(bus.inbox.append("bob", "chat", b"2"))  # on its way while nobody answers
                await away(bus)
                take_over(replica)
                assert await asyncio.wait_for(pushed, LONG_S) == 2
                assert await bus.inbox.append("bob", "chat", b"3") == 3
            assert lost == []

    run(main())


def test_a_master_that_is_cut_off_is_left_for_the_one_that_took_over(
    cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imcore.bus.redis.nodes.FOLLOW_S", 0.05)

    async def main() -> None:
        master, replica = pair(cluster)
        async with watched(master.url, "flow", 1) as (bus, lost):
            assert await bus.inbox.append("bob", "chat", b"1") == 1
            await in_step(master, replica)
            for other in (*cluster.masters[:2], replica):  # it knows itself alone, and says so
                assert master.command("CLUSTER", "FORGET", other.name) == b"+OK\r\n"
            take_over(replica)
            await away(bus)
            assert b"CLUSTERDOWN" in master.command("GET", "flow:{0}:meta")
            await until(lambda: pipe(bus).up, "all to go on", timeout_s=LONG_S)
            assert await bus.inbox.append("bob", "chat", b"2") == 2
            assert lost == []

    run(main())


def test_what_a_replica_had_not_got_when_it_took_over_is_another_history(cluster: RedisCluster) -> None:
    async def main() -> None:
        master, replica = pair(cluster)
        async with watched(cluster.url, "flow", 1) as (bus, lost):
            assert await bus.inbox.append("bob", "chat", b"1") == 1
            await in_step(master, replica)
            epoch = pipe(bus).epoch(0)
            replica.stop(True)
            master.command("CLIENT", "KILL", "TYPE", "replica")
            assert await bus.inbox.append("bob", "chat", b"2") == 2
            master.kill()
            replica.stop(False)
            take_over(replica)
            await away(bus)
            await back(bus)
            assert len(lost) == 1
            assert pipe(bus).epoch(0) != epoch
            assert await bus.inbox.append("bob", "chat", b"2, again") == 2

    run(main())


def test_nodes_that_come_are_known_before_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imcore.bus.redis.nodes.FOLLOW_S", 0.05)
    cluster = redis_server.shared(cluster=True)
    assert isinstance(cluster, RedisCluster)

    async def main() -> None:
        async with watched(cluster.url, "flow", 1) as (bus, _):
            nodes = pipe(bus)._nodes
            assert nodes is not None
            everybody = {("127.0.0.1", node.port) for node in cluster.masters}
            for known in (everybody, set[tuple[str, int]]()):
                nodes._known = known  # as of before they came
                await until(lambda: nodes._known == everybody, "all to be known")

    run(main())
