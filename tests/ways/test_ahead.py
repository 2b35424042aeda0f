"""Who goes in where connecting takes long takes a connection that was begun before, if it came to something."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from imcore._hub import Hub
from imcore.points import Point
from imcore.ways import ahead
from imcore.ways.ahead import Ahead
from imcore.ways.candidate import Candidate
from imcore.ways.dial import Connect, Stream, straight
from imcore.ways.learned import Manner
from imcore.ways.memory import Memory
from imcore.ways.tunnel import Tunnel
from tests.ways.places import listening

LONG_S = 0.06
HOST = "127.0.0.1"


class Place:
    """Where connections lead, and those that came."""

    def __init__(self) -> None:
        self.came: list[asyncio.StreamWriter] = []
        self.left = 0
        self.through = LONG_S

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.came.append(writer)
        await reader.read()
        self.left += 1

    def slowly(self, candidate: Candidate) -> Connect:
        async def connect(point: Point) -> Stream:
            await asyncio.sleep(self.through)
            return await straight(candidate)(point)

        return connect

    async def has(self, came: int, left: int = 0) -> None:
        async with asyncio.timeout(5):
            while (len(self.came), self.left) != (came, left):  # noqa: ASYNC110 - a socket tells nobody
                await asyncio.sleep(0.005)


@asynccontextmanager
async def place() -> AsyncIterator[tuple[Place, Candidate, Ahead]]:
    there = Place()
    async with asyncio.timeout(20), listening(there.talk, HOST, 0) as port:
        yield there, Candidate(Point("tcp", HOST, port), HOST), Ahead(there.slowly)


async def knock(made: Ahead, candidate: Candidate) -> None:
    (await made.knocking(candidate)(candidate.point)).sock.close()


def test_who_goes_in_takes_what_was_begun() -> None:
    async def work() -> None:
        async with place() as (there, candidate, made):
            await knock(made, candidate)
            await there.has(2, 1)
            taken = await made.entering(candidate)(candidate.point)
            assert taken.took_s >= LONG_S * 0.9
            with taken.sock as sock:
                assert there.came[1].get_extra_info("peername") == sock.getsockname()
            await there.has(2, 2)

    asyncio.run(work())


def test_a_way_is_as_far_for_the_tunnel_as_it_is() -> None:
    async def work() -> None:
        async with place() as (there, candidate, made):
            await knock(made, candidate)
            await there.has(2, 1)
            hub = Hub(asyncio.get_running_loop())
            tunnel = Tunnel(hub, candidate.point, Manner(Memory(), "a", "b"), None, made.entering(candidate))
            await tunnel.reach("up")
            assert tunnel.rtt >= LONG_S * 0.9
            tunnel.close()
            await there.has(2, 2)
            hub.close()

    asyncio.run(work())


def test_each_takes_its_own_and_the_next_connects() -> None:
    async def work() -> None:
        async with place() as (there, candidate, made):
            await knock(made, candidate)
            await knock(made, candidate)
            await there.has(4, 2)
            for _ in range(3):
                (await made.entering(candidate)(candidate.point)).sock.close()
            await there.has(5, 5)

    asyncio.run(work())


def test_where_connecting_is_quick_nothing_is_begun() -> None:
    async def work() -> None:
        async with place() as (there, candidate, made):
            there.through = 0.0
            await knock(made, candidate)
            await there.has(1, 1)
            await asyncio.sleep(0.02)
            await there.has(1, 1)
            (await made.entering(candidate)(candidate.point)).sock.close()
            await there.has(2, 2)

    asyncio.run(work())


@pytest.mark.parametrize(("host", "proxy"), [(HOST, "http://proxy.example:3128"), ("localhost", "")])
def test_nor_where_a_proxy_connects_or_a_name_leads(host: str, proxy: str) -> None:
    async def work() -> None:
        async with place() as (there, candidate, _):
            other = Candidate(Point("tcp", host, candidate.point.port), "", proxy)
            await knock(Ahead(lambda _: there.slowly(candidate)), other)
            await there.has(1, 1)
            await asyncio.sleep(0.02)
            await there.has(1, 1)

    asyncio.run(work())


@pytest.mark.parametrize("what", ["was closed", "was spoken on"])
def test_one_that_is_not_as_it_was_is_not_taken(what: str) -> None:
    async def work() -> None:
        async with place() as (there, candidate, made):
            await knock(made, candidate)
            await there.has(2, 1)
            if what == "was closed":
                there.came[1].close()
            else:
                there.came[1].write(b"220 mail.example.com\r\n")
            await asyncio.sleep(0.05)
            with (await made.entering(candidate)(candidate.point)).sock as sock:
                await there.has(3, there.left)
                assert there.came[2].get_extra_info("peername") == sock.getsockname()

    asyncio.run(work())


def test_one_that_does_not_get_through_is_not_waited_for_long() -> None:
    async def work() -> None:
        with socket.socket() as full:
            full.bind(("127.0.0.3", 0))
            full.listen(0)
            crowd = [socket.socket() for _ in range(4)]
            for one in crowd:  # more than it takes: who comes now hears nothing
                one.setblocking(False)
                one.connect_ex(full.getsockname())
            async with place() as (there, candidate, _):
                lost = Candidate(Point("tcp", *full.getsockname()), "127.0.0.3")

                made = Ahead(lambda _: there.slowly(candidate))
                await knock(made, lost)
                assert made._made[lost]
                began = asyncio.get_running_loop().time()
                (await made.entering(lost)(candidate.point)).sock.close()
                assert asyncio.get_running_loop().time() - began < 0.9, "before a lost packet is sent again"
                await there.has(2, 2)
            for one in crowd:
                one.close()

    asyncio.run(work())


def test_one_that_nobody_takes_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        monkeypatch.setattr(ahead, "KEPT_S", 0.05)
        async with place() as (there, candidate, made):
            await knock(made, candidate)
            await knock(made, candidate)
            await there.has(4, 4)
            assert not made._made

    asyncio.run(work())


def test_on_another_network_all_are_closed() -> None:
    async def work() -> None:
        async with place() as (there, candidate, made):
            await knock(made, candidate)
            await there.has(2, 1)
            made.drop()
            await there.has(2, 2)

    asyncio.run(work())


def test_who_is_called_off_while_it_waits_leaves_nothing_open() -> None:
    async def work() -> None:
        async with place() as (there, candidate, made):
            await knock(made, candidate)
            await there.has(2, 1)
            entering = asyncio.ensure_future(made.entering(candidate)(candidate.point))
            await asyncio.sleep(0)
            entering.cancel()
            await asyncio.wait([entering])
            await there.has(2, 2)

    asyncio.run(work())
