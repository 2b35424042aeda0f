"""Gateways that take what goes up, what comes down, or both; and messages that cross between them over Redis."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from imcore import Config, ConfigError, Node, chat_service
from imcore.config import Bus
from imcore.config import Node as NodeConfig
from tests import redis_server
from tests.gateway.running import run, until
from tests.gateway.wire import ACK, ERROR, MSG, WELCOME, Wire, frame, hello

needs_redis = pytest.mark.skipif(redis_server.missing is not None, reason=redis_server.missing or "")


@pytest.fixture
def bus(tmp_path: Path) -> Bus:
    """A space of the test's own on the server that all tests share."""
    return Bus(engine="redis", url=redis_server.shared().url, space=f"roles {tmp_path}", shards=2)


def node(tmp_path: Path, bus: Bus, name: str, *roles: str) -> Node:
    config = Config(node=NodeConfig(name=name, data=str(tmp_path / name), roles=list(roles)), bus=bus)  # type: ignore[arg-type]
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
            async with node(tmp_path, bus, "service", "service"):
                await until(lambda: bool(gateway.bus._services._known))  # type: ignore[attr-defined]
                await bob.greet("bob")
            for id in range(1, 6):  # nobody is there
                bob.say(frame(MSG, id, "chat", json.dumps({"to": "bob", "text": str(id)}).encode()))
                assert ((answer := await bob.hear()).type, answer.id, answer.flags) == (ACK, id, 0)
            async with node(tmp_path, bus, "newer", "service"), asyncio.timeout(10):
                texts = [json.loads((await bob.hear()).body)["text"] for _ in range(5)]
            assert texts == ["1", "2", "3", "4", "5"]

    run(main())


def test_roles_apart_need_redis(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="over Redis"):
        Config(node=NodeConfig(roles=["uplink"]))
