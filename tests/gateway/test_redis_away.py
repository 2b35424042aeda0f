"""A gateway whose Redis goes, comes back, or has forgotten: what those on its links see of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from imcore import Config, Node
from imcore.bus.ports import Uplink
from imcore.config import Bus
from imcore.config import Node as NodeConfig
from tests import redis_server
from tests.bus.engines import away, back
from tests.gateway.running import run
from tests.gateway.wire import ACK, ERROR, FAILED, JOIN, MSG, PING, PONG, Wire, frame, hello
from tests.redis_server import RedisServer

pytestmark = pytest.mark.skipif(redis_server.missing is not None, reason=redis_server.missing or "")


def node(data: Path, server: RedisServer) -> Node:
    config = Config(node=NodeConfig(name="one", data=str(data)), bus=Bus(engine="redis", url=server.url, shards=2))
    made = Node(config, listen=["127.0.0.1:0"])

    @made.service.on("echo")
    async def echo(message: Uplink) -> None:
        await made.service.push(message.user, "echo", message.body, key=message.key)

    return made


def test_while_redis_is_away_links_stay_sends_and_newcomers_are_refused_and_all_goes_on(
    tmp_path: Path, server: RedisServer
) -> None:
    async def main() -> None:
        async with node(tmp_path, server) as here, Wire(here.addresses[0]) as bob:
            await bob.greet("bob")
            bob.say(frame(MSG, 1, "echo", b"before"))
            assert {(await bob.hear()).type for _ in range(2)} == {ACK, MSG}
            bob.say(frame(ACK, 1))
            server.kill()
            await away(here.bus)
            bob.say(frame(MSG, 2, "echo", b"meanwhile"))
            answer = await bob.hear()
            assert (answer.type, answer.id, answer.flags, answer.map["code"]) == (ACK, 2, FAILED, "overloaded")
            assert answer.map["retry_ms"]
            bob.say(frame(PING, 7))
            assert (await bob.hear()).type == PONG
            async with Wire(here.addresses[0]) as newcomer:
                newcomer.say(hello("carol"))
                refused = await newcomer.hear()
                assert (refused.type, refused.map["code"]) == (ERROR, "overloaded")
                assert refused.map["retry_ms"]
            server.start()
            await back(here.bus)
            bob.say(frame(MSG, 2, "echo", b"meanwhile"))
            heard = {got.type: got for got in [await bob.hear(20), await bob.hear(20)]}
            assert (heard[ACK].id, heard[ACK].flags) == (2, 0)
            assert (heard[MSG].id, heard[MSG].body) == (2, b"meanwhile")

    run(main())


def test_whoever_was_told_of_a_history_that_is_lost_is_told_so(tmp_path: Path, server: RedisServer) -> None:
    async def main() -> None:
        async with node(tmp_path, server) as here:
            async with Wire(here.addresses[0]) as bob:
                welcome = await bob.greet("bob")
                await here.service.push("bob", "news", b"1")
                assert (await bob.hear()).id == 1
                server.command("FLUSHALL")
                answer = await bob.hear(10)
                assert (answer.type, answer.map["code"]) == (ERROR, "internal")
                assert "resume" in answer.map["text"]
            async with Wire(here.addresses[0]) as bob:
                again = await bob.greet("bob", resume={"epoch": welcome["epoch"], "seq": 1})
                assert again["resumed"] is False
                assert again["epoch"] != welcome["epoch"]
                await here.service.push("bob", "news", b"2")
                assert ((got := await bob.hear()).id, got.body) == (1, b"2")

    run(main())


def test_while_more_rooms_begin_than_redis_is_told_of_a_join_is_refused_with_a_time_to_come_back(
    tmp_path: Path, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with node(tmp_path, server) as here, Wire(here.addresses[0]) as bob:
            await bob.greet("bob")
            monkeypatch.setattr("imcore.bus.redis.push.CHANGES_MOST", 0)
            bob.say(frame(JOIN, 1, "hall"))
            answer = await bob.hear()
            assert (answer.type, answer.id, answer.flags, answer.map["code"]) == (ACK, 1, FAILED, "overloaded")
            assert answer.map["retry_ms"]
            assert here.counters.rooms == 0
            monkeypatch.setattr("imcore.bus.redis.push.CHANGES_MOST", 1)
            bob.say(frame(JOIN, 2, "hall"))
            assert (await bob.hear()).flags == 0
            assert here.counters.rooms == 1

    run(main())
