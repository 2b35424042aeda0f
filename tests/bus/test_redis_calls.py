"""How much Redis is asked: calls gather, for a turn, a node, a second. And the queue holds all that is not settled."""

from __future__ import annotations

import asyncio
import math
import re
import time

import pytest

from imcore.bus.ports import Route
from imcore.bus.redis import RedisBus
from tests import redis_server
from tests.bus.engines import Link, Taker, pipe, run, until, uplink
from tests.redis_server import RedisServer

pytestmark = pytest.mark.skipif(redis_server.missing is not None, reason=redis_server.missing or "")

SHARDS = 2
TICKS = 3
"""Calls of a process for each shard that may come of each second that passes, and of what it starts."""


def asked(server: RedisServer, command: str, *, at_all: bool = True) -> int:
    """How often Redis was, since it began. at_all: it was."""
    found = re.search(r"calls=(\d+)", server.info("commandstats").get(f"cmdstat_{command}", ""))
    assert found or not at_all, f"expected calls of {command}, found none"
    return int(found[1]) if found else 0


def ticks(began: float) -> int:
    """Calls of a process for each shard that may have come of the time since then (time.monotonic)."""
    return TICKS * math.ceil(time.monotonic() - began)


async def started(server: RedisServer) -> RedisBus:
    bus = RedisBus(server.url, shards=SHARDS)
    await bus.start()
    return bus


def test_the_pushes_of_a_turn_are_one_call_for_each_shard_and_their_wake_ups_are_read_in_batches(
    server: RedisServer,
) -> None:
    async def main() -> None:
        service, gateway = await started(server), await started(server)
        batches: list[int] = []
        gateway.push.attach("gateway", lambda wakes: batches.append(len(wakes)), lambda room, body: None)
        users = [f"user {n}" for n in range(10)]
        for n, user in enumerate(users, 1):
            assert await gateway.routes.claim(Route(user, "phone", "gateway", "phone", "both", n)) is None
        began, calls = time.monotonic(), asked(server, "evalsha")
        reads = asked(server, "xread", at_all=False)  # a read counts when it ends, and the first has nothing yet
        pushed = [service.inbox.append(users[n % 10], "chat", b"hello") for n in range(500)]
        assert [await each for each in pushed] == [n // 10 + 1 for n in range(500)]
        assert SHARDS <= asked(server, "evalsha") - calls <= SHARDS * (1 + 2 * ticks(began))
        await until(lambda: sum(batches) == 500)
        assert len(batches) <= 20
        assert 1 <= asked(server, "xread") - reads <= 20
        await service.close()
        await gateway.close()

    run(main())


def test_routes_stand_without_a_call_for_each(server: RedisServer) -> None:
    async def main() -> None:
        bus = await started(server)
        bus.routes.attach("one", lambda route, newer: None)
        routes = [Route(f"user {n}", "phone", "one", "phone", "both", n + 1) for n in range(1000)]
        began, calls = time.monotonic(), asked(server, "evalsha")
        assert await asyncio.gather(*map(bus.routes.claim, routes)) == [None] * 1000
        claimed = asked(server, "evalsha")
        assert SHARDS <= claimed - calls <= SHARDS * (2 + ticks(began))
        began = time.monotonic()
        await asyncio.sleep(2.2)
        assert SHARDS <= asked(server, "evalsha") - claimed <= SHARDS * ticks(began)
        assert len(await bus.routes.online("user 999")) == 1
        await bus.close()

    run(main())


def test_only_what_is_settled_leaves_the_queue(server: RedisServer) -> None:
    async def main() -> None:
        bus = await started(server)
        taker, link = Taker().attach(bus), Link()
        await until(lambda: len(bus._consumer._held) == SHARDS)
        for id in range(1, 11):
            bus.queue.put(uplink(id), link)
        messages = await taker.took(10)
        queue = bus._keys.queue(bus._keys.shard("alice")).decode()
        bus.queue.settle([messages[7], messages[2]])  # in any order
        await pipe(bus).quiet()
        assert server.command("XLEN", queue) == b":8\r\n"
        kept = [int(id) for id in re.findall(rb"\r\n(\d+)-0\r\n", server.command("XRANGE", queue, "-", "+"))]
        assert kept == [1, 2, 4, 5, 6, 7, 9, 10]
        await bus.close()

    run(main())
