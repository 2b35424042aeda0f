"""A conversation that is cut at every byte, either way: the application sees the same."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable

import pytest

from imcore.client import backoff
from tests.client.peer import HonestGateway, device, first, peer, run


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_S", 0.001)
    monkeypatch.setattr(backoff, "MOST_S", 0.001)


UP = [b"one", b"two", b"three"]
DOWN = [b"eins", b"zwei", b"drei", b"vier"]


CHANNELS = ["single", "split"]


async def converse(gateway: HonestGateway, address: str, channels: str) -> None:
    """Send and receive at a time; everything is confirmed, and every message comes once and in order."""
    async with asyncio.timeout(10), device(address, channels=channels) as im:
        receiving = asyncio.create_task(first(im, len(DOWN)))
        await asyncio.gather(*(im.send("r", body) for body in UP))
        assert [message.body for message in await receiving] == DOWN
    assert gateway.rule.log == UP
    assert gateway.cursor == len(DOWN)


def a_gateway() -> HonestGateway:
    gateway = HonestGateway()
    gateway.inbox = list(DOWN)
    return gateway


async def whole(channels: str) -> HonestGateway:
    """The gateway behind an undisturbed conversation: it knows how many bytes each link said and heard."""
    gateway = a_gateway()
    async with peer(gateway) as address:
        await converse(gateway, address, channels)
    assert gateway.roles == ({1: "both"} if channels == "single" else {1: "down", 2: "up"})
    return gateway


async def cut(channels: str, doomed: int, said: int | None, heard: int | None) -> int:
    """A conversation whose link number `doomed` is cut after so many bytes; how many were cut."""
    gateway = a_gateway()
    gateway.doomed, gateway.most_said, gateway.most_heard = doomed, said, heard
    async with peer(gateway) as address:
        await converse(gateway, address, channels)
    return gateway.cuts


async def several(work: Iterable[Coroutine[None, None, int]]) -> list[int]:
    """Some at a time, as each of them mostly waits."""
    few = asyncio.Semaphore(8)

    async def one(each: Coroutine[None, None, int]) -> int:
        async with few:
            return await each

    return await asyncio.gather(*(one(each) for each in work))


@pytest.mark.parametrize("channels", CHANNELS)
class TestCutAtEveryByte:
    def test_of_what_the_gateway_says(self, channels: str) -> None:
        async def work() -> None:
            said = (await whole(channels)).said
            ends = [(doomed, each) for doomed, count in said.items() for each in range(1, count)]
            cuts = await several(cut(channels, doomed, each, None) for doomed, each in ends)
            assert cuts == [1] * len(ends)

        run(work())

    def test_of_what_the_client_says(self, channels: str) -> None:
        async def work() -> None:
            heard = (await whole(channels)).heard
            ends = [(doomed, each) for doomed, count in heard.items() for each in range(1, count)]
            cuts = await several(cut(channels, doomed, None, each) for doomed, each in ends)
            assert cuts == [1] * len(ends)

        run(work())
