"""`python -m benchmarks.ways`: how good the race is at finding the fastest point, and how fast a client is in when its
sources fail; over real sockets on loopback, beside aiohappyeyeballs. Prints the tables of docs/ways.md.
"""

from __future__ import annotations

import asyncio
import random
import socket
import statistics
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import aiohappyeyeballs
import uvloop

from imcore.access_list import key_id
from imcore.points import Point
from imcore.ways.candidate import Candidate
from imcore.ways.dial import Stream, straight
from imcore.ways.fetch import Progress
from imcore.ways.finder import Finder
from imcore.ways.memory import Memory
from imcore.ways.network import Network
from imcore.ways.probe import probe
from imcore.ways.resolve import Resolve
from imcore.ways.ways import Ways
from tests.ways.places import KEYS, access, gateway, http, listing, name_server, place, says

APART_S = 0.020
POINTS = 5
NAME = "im.example.com"


class Race(NamedTuple):
    """One of five points, the fastest of which is in a random place of the order."""

    won: bool
    """The fastest is the way in, at the end."""
    place: int
    """Of the fastest, from 0."""
    in_s: float
    """From the start to the first that is verified."""
    settled_s: float
    """From the start until it is known that nothing is better."""
    happy_s: float
    """The same as `in_s` by aiohappyeyeballs, which takes who connects first."""


def finder(
    points: Sequence[Point], services: Sequence[Point], resolve: Resolve, memory: Memory | None = None
) -> Finder:
    keys = {key_id(key): key for key in KEYS}
    ways = Ways(
        points, services, keys, memory or Memory(), "bench", None, straight, resolve, lambda: Network("10.0.0.1")
    )
    return ways.finder("down")


async def nothing(name: str) -> list[str]:
    raise OSError("no DNS here")


async def enter(candidate: Candidate) -> Candidate:
    return candidate


async def happy(points: Sequence[Point]) -> float:
    """Who connects first, by aiohappyeyeballs, is asked."""
    progress = Progress()
    infos = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (point.host, point.port)) for point in points]
    sock = await aiohappyeyeballs.start_connection(infos, happy_eyeballs_delay=0.25)

    async def there(point: Point) -> Stream:
        return Stream(sock)

    host, port = sock.getpeername()[:2]
    await probe(Point("http", host, port), KEYS, progress, through=there)
    return progress.elapsed()


async def races(count: int) -> tuple[list[Race], float]:
    """So many, and the fastest point's own time, seconds."""
    done = []
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        points = [
            await stack.enter_async_context(place(gateway(APART_S * number), f"127.0.0.{number + 1}"))
            for number in range(1, POINTS + 1)
        ]
        own = []
        for _ in range(20):
            progress = Progress()
            await probe(points[0], KEYS, progress)
            own.append(progress.elapsed())
        for _ in range(count):
            order = random.sample(points, POINTS)
            one = finder(order, [], nothing)
            progress = Progress()
            in_s = 0.0

            async def enters(candidate: Candidate, progress: Progress = progress) -> Candidate:
                nonlocal in_s
                in_s = in_s or progress.elapsed()
                return candidate

            way = await one.find(enters, lambda text: None)
            way = await one.better(way) or way
            settled_s = progress.elapsed()
            await one.close()
            done.append(Race(way.point == points[0], order.index(points[0]), in_s, settled_s, await happy(order)))
            assert loop.is_running()
    return done, statistics.median(own)


def tell_races(done: Sequence[Race], own_s: float) -> None:
    won = sum(race.won for race in done)
    first = [race for race in done if race.place < 3]
    over = sorted((race.in_s - own_s) * 1000 for race in first)
    beside = sorted((race.happy_s - own_s) * 1000 for race in first)
    settled = sorted(race.settled_s * 1000 for race in done)
    print(f"| {POINTS} points, {APART_S * 1000:.0f} ms apart, in random order | |\n| --- | --- |")
    print(f"| the fastest is the way in at the end | {won} of {len(done)} races |")
    print(f"| the fastest point's own time | {own_s * 1000:.1f} ms |")
    print(f"| start to verified, above that, where it is in the first three | p50 {over[len(over) // 2]:.1f} ms, "
          f"worst {over[-1]:.1f} ms |")  # fmt: skip
    print(f"| the same by aiohappyeyeballs | p50 {beside[len(beside) // 2]:.1f} ms, worst {beside[-1]:.1f} ms |")
    print(f"| start until it is known that nothing is better | p50 {settled[len(settled) // 2]:.1f} ms |")


@asynccontextmanager
async def silent(host: str) -> AsyncIterator[Point]:
    """An address that drops what is sent: its backlog is full."""
    with socket.socket() as full:
        full.bind((host, 0))
        full.listen(0)
        others = [socket.socket() for _ in range(4)]
        for other in others:
            other.setblocking(False)
            other.connect_ex(full.getsockname())
        try:
            yield Point("http", *full.getsockname())
        finally:
            for other in others:
                other.close()


async def failures() -> None:
    """What is in the way, by what the client was in, and after how long."""
    print("| in the way | in by | after |\n| --- | --- | --- |")
    async with AsyncExitStack() as stack:
        ours = await stack.enter_async_context(place(gateway(), "127.0.0.2"))
        portal = says(http(b"<html>", kind="text/html"))
        await stack.enter_async_context(place(portal, "127.0.0.3", ours.port))
        named = Point("http", NAME, ours.port)
        good = await stack.enter_async_context(name_server({NAME: "127.0.0.2"}))
        slow = await stack.enter_async_context(name_server({NAME: "127.0.0.2"}, delay_s=5.0))
        hijacked = await stack.enter_async_context(name_server({NAME: "127.0.0.3"}))
        dead = await stack.enter_async_context(name_server({}, dead=True))
        hole = await stack.enter_async_context(silent("127.0.0.9"))
        service = await stack.enter_async_context(place(access(listing([ours]))))
        gone = await stack.enter_async_context(place(access(listing([Point("http", "127.0.0.8", 1)]))))
        holes = await stack.enter_async_context(place(access(listing([hole]))))
        known = Memory()
        known.network(str(Network("10.0.0.1")))
        known.won("down", Candidate(ours, ours.host))
        rows: list[tuple[str, Finder]] = [
            ("nothing", finder([named], [service], good)),
            ("DNS is dead", finder([named], [service], dead)),
            ("DNS takes 5 s", finder([named], [service], slow)),
            ("DNS takes 5 s, and there is nothing else", finder([named], [], slow)),
            ("DNS leads to a stranger", finder([named], [service], hijacked)),
            ("DNS leads to a stranger, the access service is silent", finder([named, ours], [hole], hijacked)),
            ("the access service is silent", finder([named], [hole], good)),
            ("DNS is dead, the access service is silent", finder([named], [hole], dead, known)),
            ("all listed points refuse", finder([ours], [gone], dead)),
            ("all listed points are silent", finder([named, ours], [holes], dead)),
        ]
        for what, one in rows:
            progress = Progress()
            way = await one.find(enter, lambda text: None)
            took_s = progress.elapsed()
            by = next(heard.source for heard in one.heard if any(each.candidate == way for each in heard.listed))
            await one.close()
            print(f"| {what} | {by.partition(' http')[0]} | {took_s * 1000:,.0f} ms |")


async def main(count: int) -> None:
    tell_races(*await races(count))
    print()
    await failures()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100))
