"""Any node answers: exchanges of one client hit whichever node a proxy likes, and no state is tied to one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from imcore.bus.ports import Uplink
from imcore.bus.redis import RedisBus
from imcore.gateway.auth import anonymous
from imcore.gateway.gateway import Gateway
from imcore.gateway.limits import Limits
from imcore.gateway.listeners import Listen
from imcore.service import Service
from tests import redis_server
from tests.gateway.exchanges import Answered, Tunnel, down, up
from tests.gateway.running import run
from tests.gateway.wire import ACK, ERROR, MSG, WELCOME, frame

pytestmark = pytest.mark.skipif(redis_server.missing is not None, reason=redis_server.missing or "")

NODES = 3
MESSAGES = 60


@asynccontextmanager
async def nodes(space: str) -> AsyncIterator[list[str]]:
    """So many gateways, each on an engine of its own, as processes would have them; the first one echoes too."""
    url = redis_server.shared(False).url
    async with AsyncExitStack() as stack:
        addresses = []
        for number in range(NODES):
            bus = RedisBus(url, space=space, shards=3)
            await bus.start()
            stack.push_async_callback(bus.close)
            if number == 0:
                service = Service(bus)

                @service.on("echo")
                async def echo(message: Uplink, service: Service = service) -> asyncio.Future[int]:
                    return service.push(message.user, "echo", message.body, key=message.key)

                await service.start()
                stack.push_async_callback(service.close)
            gateway = Gateway(bus, name=f"node{number}", authenticate=anonymous, limits=Limits(drain_s=0.2))
            await stack.enter_async_context(gateway)
            await gateway.listen([Listen("127.0.0.1:0")])
            addresses.append(gateway.addresses[0])
        yield addresses


async def ask(address: str, *said: bytes) -> Answered:
    """One exchange on a connection of its own."""
    async with Tunnel(address) as tunnel:
        return await tunnel.ask(*said)


@pytest.mark.parametrize("seed", range(3))
def test_each_exchange_may_hit_another_node_and_nothing_is_lost_doubled_or_reordered(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)

    async def send(addresses: list[str]) -> set[str]:
        answered: set[str] = set()
        number = 1
        while number <= MESSAGES:
            batch = range(number, min(number + dice.randrange(1, 5), MESSAGES + 1))
            said = [frame(MSG, each, "echo", b"%d" % each) for each in batch]
            asked = dice.sample(addresses, 2) if dice.random() < 0.3 else [dice.choice(addresses)]
            answers = await asyncio.gather(*(ask(address, up(), *said) for address in asked))  # doubled, at two nodes
            for answer in answers:
                welcome = answer.frames[0]
                if welcome.type == ERROR:  # of two at once the newer one stands
                    assert answer.code == "superseded"
                    continue
                assert welcome.type == WELCOME
                answered.add(welcome.map["node"])
                acknowledged = [got.id for got in answer.frames if got.type == ACK and not got.flags]
                number = max([number, *(each + 1 for each in acknowledged)])
        return answered

    async def listen(addresses: list[str]) -> tuple[list[int], set[str]]:
        heard: list[int] = []
        answered: set[str] = set()
        resume = None
        while len(heard) < MESSAGES:
            answer = await ask(dice.choice(addresses), down(poll_ms=2000, resume=resume))
            welcome, *rest = answer.frames
            answered.add(welcome.map["node"])
            assert resume is None or welcome.map["resumed"]
            for got in rest:
                if got.type == MSG:
                    assert got.id == len(heard) + 1
                    heard.append(int(got.body))
            resume = {"epoch": welcome.map["epoch"], "seq": len(heard)}
        return heard, answered

    async def main() -> None:
        async with asyncio.timeout(40), nodes(str(tmp_path)) as addresses:
            sent_by, (heard, heard_from) = await asyncio.gather(send(addresses), listen(addresses))
            assert heard == list(range(1, MESSAGES + 1))
            assert len(sent_by) == len(heard_from) == NODES

    run(main())
