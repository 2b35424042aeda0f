"""Gateways that take what goes up, what comes down, or both; and messages that cross between them over Redis."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp
import msgspec
import pytest

from imcore import Config, ConfigError, Node, chat_service
from imcore.bus.redis import RedisBus
from imcore.config import Bus, parse
from imcore.config import Node as NodeConfig
from tests import redis_server
from tests.bus.engines import pipe
from tests.gateway.running import run, until
from tests.gateway.wire import ACK, ERROR, JOIN, MSG, ROOM, WELCOME, Wire, frame, hello

needs_redis = pytest.mark.skipif(redis_server.missing is not None, reason=redis_server.missing or "")


@pytest.fixture
def bus(tmp_path: Path) -> Bus:
    """A space of the test's own on the server that all tests share."""
    return Bus(engine="redis", url=redis_server.shared().url, space=f"roles {tmp_path}", shards=2)


def node(tmp_path: Path, bus: Bus, name: str, *roles: str) -> Node:
    config = Config(node=NodeConfig(name=name, data=str(tmp_path / name), roles=list(roles)), bus=bus)  # type: ignore[arg-type]  # they are named by the test
    made = Node(config, listen=["127.0.0.1:0"])
    chat_service.register(made.service)
    return made


@needs_redis
def test_a_message_goes_up_at_one_node_over_the_service_and_down_at_another(tmp_path: Path, bus: Bus) -> None:
    async def main() -> None:
        async with (
            node(tmp_path, bus, "service", "service"),
            node(tmp_path, bus, "up", "uplink") as up,
            node(tmp_path, bus, "down", "downlink") as down,
            Wire(down.addresses[0]) as bob,
        ):
            await bob.greet("bob", role="down")
            body = json.dumps({"to": "bob", "text": "hello"}).encode()
            async with Wire(up.addresses[0]) as alice:  # HELLO and the first message in one segment
                alice.say(hello("alice", role="up") + frame(MSG, 1, "chat", body))
                assert (await alice.hear()).type == WELCOME
                answer = await alice.hear()
                assert (answer.type, answer.id, answer.flags) == (ACK, 1, 0)
                assert len(answer.body) == 8
                came = await bob.hear()
                assert (came.type, came.id) == (MSG, 1)
                assert json.loads(came.body)["text"] == "hello"

    run(main())


@needs_redis
@pytest.mark.parametrize(
    ("role", "asked"), [("uplink", "down"), ("uplink", "both"), ("downlink", "up"), ("downlink", "both")]
)
def test_a_node_refuses_the_other_role_and_says_where_to_go(tmp_path: Path, bus: Bus, role: str, asked: str) -> None:
    async def main() -> None:
        async with node(tmp_path, bus, "one", role) as one, Wire(one.addresses[0]) as wire:
            wire.say(hello("alice", role=asked))
            answer = await wire.hear()
            assert answer.type == ERROR
            assert answer.map["code"] == "no_route"
            assert "use another point" in answer.map["text"]

    run(main())


@needs_redis
def test_the_service_restarts_and_no_link_notices(tmp_path: Path, bus: Bus) -> None:
    async def main() -> None:
        async with node(tmp_path, bus, "gateway", "uplink", "downlink") as gateway, Wire(gateway.addresses[0]) as bob:
            assert isinstance(gateway.bus, RedisBus)
            services = gateway.bus._services
            async with node(tmp_path, bus, "service", "service"):
                await until(lambda: bool(services._known))
                await bob.greet("bob")
            for id in range(1, 6):  # nobody is there
                bob.say(frame(MSG, id, "chat", json.dumps({"to": "bob", "text": str(id)}).encode()))
                assert ((answer := await bob.hear()).type, answer.id, answer.flags) == (ACK, id, 0)
            async with node(tmp_path, bus, "newer", "service"), asyncio.timeout(10):
                texts = [json.loads((await bob.hear()).body)["text"] for _ in range(5)]
            assert texts == ["1", "2", "3", "4", "5"]

    run(main())


def test_roles_apart_need_redis() -> None:
    with pytest.raises(ConfigError, match="over Redis"):
        Config(node=NodeConfig(roles=["uplink"]))


@needs_redis
def test_members_of_a_room_hear_each_other_on_any_node_once(tmp_path: Path, bus: Bus) -> None:
    async def main() -> None:
        async with (
            node(tmp_path, bus, "one", "uplink", "downlink") as one,
            node(tmp_path, bus, "two", "uplink", "downlink") as two,
            Wire(one.addresses[0]) as alice,
            Wire(one.addresses[0]) as ann,
            Wire(two.addresses[0]) as bob,
        ):
            for wire, name in ((alice, "alice"), (ann, "ann"), (bob, "bob")):
                await wire.greet(name)
                wire.say(frame(JOIN, 1, "hall"))
                assert (await wire.hear()).type == ACK
            for each in (one, two):
                await pipe(each.bus).quiet()
            alice.say(frame(MSG, 0, "hall", b"hello", ROOM))
            for wire in (alice, ann, bob):
                heard = await wire.hear()
                assert (heard.type, heard.route, heard.body, heard.flags) == (MSG, "hall", b"hello", ROOM)
                await wire.quiet()

    run(main())


@needs_redis
def test_a_member_speaks_over_its_uplink_at_another_node(tmp_path: Path, bus: Bus) -> None:
    async def main() -> None:
        async with (
            node(tmp_path, bus, "up", "uplink") as up,
            node(tmp_path, bus, "down", "downlink") as down,
            Wire(down.addresses[0]) as hears,
            Wire(up.addresses[0]) as speaks,
        ):
            await hears.greet("alice", role="down")
            hears.say(frame(JOIN, 1, "hall"))
            assert (await hears.hear()).type == ACK
            await speaks.greet("alice", role="up")
            speaks.say(frame(MSG, 7, "hall", b"hello", ROOM), frame(MSG, 8, "cellar", b"hello", ROOM))
            assert [(await speaks.hear()).id for _ in range(2)] == [7, 8]
            assert (await hears.hear()).body == b"hello"
            await hears.quiet()
            async with Wire(up.addresses[0]) as stranger:
                await stranger.greet("eve", role="up")
                stranger.say(frame(MSG, 1, "hall", b"hello", ROOM))
                answer = await stranger.hear()
                assert (answer.type, answer.map["code"]) == (ACK, "unauthorized")

    run(main())


@needs_redis
def test_the_access_service_alone_lists_points_and_takes_no_links(tmp_path: Path, bus: Bus) -> None:
    points = '[[access.points]]\nname = "t"\naddresses = ["192.0.2.1"]\nways = ["tls:443"]\ncarrier = "*"\n'
    listed = parse(f'[node]\nroles = ["access"]\n[bus]\nengine = "redis"\n{points}')

    async def main() -> None:
        own = NodeConfig(name="access", data=str(tmp_path / "access"), roles=["access"])
        config = msgspec.structs.replace(listed, node=own, bus=bus)
        async with Node(config, listen=["127.0.0.1:0"]) as alone, Wire(alone.addresses[0]) as wire:
            wire.say(hello("alice"))
            answer = await wire.hear()
            assert (answer.type, answer.map["code"]) == (ERROR, "no_route")
            url = f"http://{alone.addresses[0]}/v1/access?role=down"
            async with aiohttp.ClientSession() as session, session.get(url) as found:
                assert found.status == 200
                assert len((await found.text()).split(".")) == 3  # a signed list

    run(main())


@needs_redis
def test_the_access_service_alone_needs_points_to_list(bus: Bus) -> None:
    with pytest.raises(ConfigError, match=r"access\.points"):
        Config(node=NodeConfig(roles=["access"]), bus=bus)
