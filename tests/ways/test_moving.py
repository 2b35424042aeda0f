"""What was found on one network counts on no other one, wherever in its search a device comes there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from imcore.errors import WayError
from imcore.points import Point
from imcore.ways.candidate import Candidate
from imcore.ways.finder import Finder
from imcore.ways.memory import Memory
from imcore.ways.network import Network
from tests.ways.finders import enter, finder, found
from tests.ways.places import KEY, Asked, gateway, place


@asynccontextmanager
async def moving_to_strangers(*delays_s: float) -> AsyncIterator[tuple[Callable[[], Finder], Callable[[], None]]]:
    """What makes finders of one device, for gateways that take so long; and what takes the device to another network,
    where strangers have their addresses."""
    here, key, memory = Network("10.0.0.1"), KEY, Memory()

    def moves() -> None:
        nonlocal here, key
        here, key = Network("10.9.9.1"), Ed25519PrivateKey.generate()

    async with asyncio.timeout(20), AsyncExitStack() as stack:

        async def stands(delay_s: float) -> Point:
            async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
                await gateway(delay_s, key)(asked, writer)

            return await stack.enter_async_context(place(answer))

        points = [await stands(delay_s) for delay_s in delays_s]

        def makes() -> Finder:
            one = finder(points, memory=memory, network=lambda: here)
            stack.push_async_callback(one.close)
            return one

        yield makes, moves


def test_a_proof_counts_on_no_other_network_for_any_finder_of_the_device() -> None:
    async def work() -> None:
        async with moving_to_strangers(0.0) as (makes, moves):
            finders = [makes() for _ in range(4)]
            finders[0].beside(finders[1])
            for one in finders:
                await one.find(enter, lambda text: None)
            moves()
            for one in finders:
                with pytest.raises(WayError) as caught:
                    await one.find(enter, lambda text: None)
                assert caught.value.outcome == "HIJACK"

    asyncio.run(work())


def test_nor_for_one_that_looks_for_a_better_way_before_it_has_searched_there() -> None:
    async def work() -> None:
        async with moving_to_strangers(0.0) as (makes, moves):
            one = makes()
            await one.find(enter, lambda text: None)
            moves()
            assert await one.better(Candidate(Point("tcp", "127.0.0.9", 9), "127.0.0.9"), holds=False) is None

    asyncio.run(work())


def test_nor_for_one_that_comes_to_another_network_while_it_looks() -> None:
    async def work() -> None:
        async with moving_to_strangers(0.0, 0.3) as (makes, moves):
            one = makes()
            way = await one.find(enter, lambda text: None)
            looking = asyncio.create_task(one.better(way, holds=False))
            await asyncio.sleep(0.1)
            moves()
            assert await looking is None

    asyncio.run(work())


def test_nor_for_one_that_comes_there_between_the_proof_and_the_way_in() -> None:
    async def work() -> None:
        async with moving_to_strangers(0.0, 0.1) as (makes, moves):
            tried = []

            async def go(candidate: Candidate) -> Candidate:
                tried.append(candidate)
                await asyncio.sleep(0.3)  # the other one has proven itself, and waits
                moves()
                raise WayError("CLOSED", "it was another network's")

            with pytest.raises(WayError):
                await makes().find(go, lambda text: None)
            assert len(tried) == 1

    asyncio.run(work())


def test_a_search_on_another_network_waits_for_nothing_that_was_asked_on_the_one_before() -> None:
    async def work() -> None:
        here, asked, answered = Network("10.0.0.1"), asyncio.Event(), asyncio.Event()

        async def resolve(name: str) -> list[str]:
            if here == Network("10.0.0.1"):
                asked.set()
                await answered.wait()
            return ["127.0.0.1"]

        async with asyncio.timeout(20), place(gateway()) as there:
            one = finder([Point("http", "im.example.com", there.port)], resolve=resolve, network=lambda: here)
            searching = asyncio.create_task(one.find(enter, lambda text: None))
            await asked.wait()
            searching.cancel()
            await asyncio.wait([searching])
            here = Network("10.9.9.1")
            assert (await found(one)).point.port == there.port

    asyncio.run(work())
