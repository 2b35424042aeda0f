"""A conversation that is cut at every byte, either way: the application sees the same."""

from __future__ import annotations

import asyncio

import pytest

from tests.client.peer import HonestGateway, device, first, peer, run

pytestmark = pytest.mark.usefixtures("quick")

UP = [b"one", b"two", b"three"]
DOWN = [b"eins", b"zwei", b"drei", b"vier"]


async def converse(gateway: HonestGateway, address: str) -> None:
    """Send and receive at a time; everything is confirmed, and every message comes once and in order."""
    async with asyncio.timeout(10), device(address) as im:
        receiving = asyncio.create_task(first(im, len(DOWN)))
        await asyncio.gather(*(im.send("r", body) for body in UP))
        assert [message.body for message in await receiving] == DOWN
    assert gateway.rule.log == UP
    assert gateway.cursor == len(DOWN)


def a_gateway() -> HonestGateway:
    gateway = HonestGateway()
    gateway.inbox = list(DOWN)
    return gateway


async def whole() -> tuple[int, int]:
    """How many bytes the gateway says and hears in an undisturbed conversation."""
    gateway = a_gateway()
    async with peer(gateway) as address:
        await converse(gateway, address)
    assert gateway.links == 1
    return gateway.said, gateway.heard


class TestCutAtEveryByte:
    def test_of_what_the_gateway_says(self) -> None:
        async def work() -> None:
            said, _ = await whole()
            for cut in range(1, said):
                gateway = a_gateway()
                gateway.most_said = cut
                async with peer(gateway) as address:
                    await converse(gateway, address)
                assert gateway.links > 1, f"cut at {cut} of {said}"

        run(work())

    def test_of_what_the_client_says(self) -> None:
        async def work() -> None:
            _, heard = await whole()
            for cut in range(1, heard):
                gateway = a_gateway()
                gateway.most_heard = cut
                async with peer(gateway) as address:
                    await converse(gateway, address)

        run(work())
