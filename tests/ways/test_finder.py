"""A way in is found from any source that is left, by the fastest point that proves itself; over real sockets."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from imcore.access_list import AccessList, AccessPoint, BackOff, Port, Report, sign_list
from imcore.errors import WayError
from imcore.points import Point
from imcore.ways.candidate import Candidate
from imcore.ways.dial import Connect, Stream, straight
from imcore.ways.finder import Finder
from imcore.ways.memory import Memory
from imcore.ways.network import Network
from imcore.ways.race import STAGGER_S
from imcore.ways.sources import ADDRESSES
from imcore.ways.still import Still
from tests.ways.finders import enter, finder, found
from tests.ways.places import KEY, Asked, Place, access, gateway, http, listing, name_server, place, relay, says


@asynccontextmanager
async def gateways(*delays_s: float) -> AsyncIterator[list[Point]]:
    """At 127.0.0.2, 127.0.0.3 …, each as slow as it is told."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(place(gateway(delay_s), f"127.0.0.{number}"))
            for number, delay_s in enumerate(delays_s, start=2)
        ]


@asynccontextmanager
async def nobody(*hosts: str) -> AsyncIterator[list[Point]]:
    """Ports at which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("", 0))
        yield [Point("tcp", host, bound.getsockname()[1]) for host in hosts]


def test_the_fastest_of_three_wins_the_race() -> None:
    async def work() -> None:
        async with asyncio.timeout(20), gateways(0.6, 0.0, 0.3) as points:
            assert (await found(finder(points))).point == points[1]

    asyncio.run(work())


def test_the_fastest_of_five_is_known_soon_after() -> None:
    async def work() -> None:
        async with asyncio.timeout(20), gateways(0.5, 0.9, 1.0, 1.1, 0.0) as points:
            one = finder(points)
            way = await one.find(enter, lambda text: None)
            assert way.point == points[0]
            better = await one.better(way)
            assert better is not None
            assert better.point == points[4]
            assert await one.better(better) is None
            await one.close()

    asyncio.run(work())


def test_what_was_found_is_the_first_to_be_tried_next_time() -> None:
    async def work() -> None:
        async with asyncio.timeout(20), gateways(0.0, 0.0) as points:
            memory = Memory()
            memory.network(str(Network("10.0.0.1")))
            memory.won("down", Candidate(points[1], points[1].host))
            assert (await found(finder(points, memory=memory))).point == points[1]

    asyncio.run(work())


def test_nothing_is_entered_that_has_not_proven_itself() -> None:
    async def work() -> None:
        async with asyncio.timeout(20), AsyncExitStack() as stack:
            stranger = await stack.enter_async_context(place(gateway(key=Ed25519PrivateKey.generate())))
            portal = await stack.enter_async_context(place(says(http(b"<html>", kind="text/html"))))
            ours = await stack.enter_async_context(place(gateway(0.3)))
            entered: list[Point] = []

            async def go(candidate: Candidate) -> Candidate:
                entered.append(candidate.point)
                return candidate

            await found(finder([stranger, portal, ours]), go)
            assert entered == [ours]

    asyncio.run(work())


def test_a_portal_is_asked_by_one_connection_at_a_time_until_it_lets_others_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("imcore.ways.finder.PORTAL_S", 0.05)

    async def work() -> None:
        asked = 0
        open_now, often = False, asyncio.Event()
        ours, stands = gateway(), says(http(b"<html>", kind="text/html"))

        async def answer(question: Asked, writer: asyncio.StreamWriter) -> None:
            nonlocal asked
            asked += 1
            if asked == 5:
                often.set()
            await (ours if open_now else stands)(question, writer)

        async with asyncio.timeout(20), place(answer) as point:
            one = finder([point])
            with pytest.raises(WayError, match="PORTAL") as met:
                await one.find(enter, lambda text: None)
            assert met.value.outcome == "PORTAL"
            opens = asyncio.create_task(one.opens())
            await often.wait()
            assert not opens.done()
            open_now = True
            await opens
            assert (await found(one)).point == point
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await one.opens()  # there is none any more

    asyncio.run(work())


def test_a_portal_is_forgotten_by_a_search_that_did_not_meet_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imcore.ways.finder.PORTAL_S", 0.02)

    async def work() -> None:
        who = says(http(b"<html>", kind="text/html"))

        async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
            await who(asked, writer)

        async def go(candidate: Candidate) -> Candidate:
            raise ConnectionError("there is no use in coming back")

        async with asyncio.timeout(20), place(answer) as point:
            one = finder([point])
            with pytest.raises(WayError, match="PORTAL"):
                await one.find(enter, lambda text: None)
            who = gateway()
            with pytest.raises(ConnectionError):
                await one.find(go, lambda text: None)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await one.opens()
            await one.close()

    asyncio.run(work())


def test_who_lets_nobody_in_is_left_for_the_next() -> None:
    async def work() -> None:
        async with asyncio.timeout(20), gateways(0.0, 0.1) as points:

            async def go(candidate: Candidate) -> Candidate:
                if candidate.point == points[0]:
                    raise WayError("SILENT", "frames do not pass here")
                return candidate

            assert (await found(finder(points), go)).point == points[1]

    asyncio.run(work())


def test_where_there_is_no_way_it_says_what_all_of_them_met() -> None:
    async def work() -> None:
        async with asyncio.timeout(20), nobody("127.0.0.2", "127.0.0.3") as points:
            with pytest.raises(WayError, match="2 REFUSED") as caught:
                await found(finder([*points, Point("tcp", "im.example.com", 80)]))
            assert "DNS im.example.com: NO_NAME" in str(caught.value)

    asyncio.run(work())


class TestWhereConnectingIsSlow:
    """One is asked at a time: answers would stand in each other's way."""

    @staticmethod
    def slowly(candidate: Candidate) -> Connect:
        async def connect(point: Point) -> Stream:
            await asyncio.sleep(STAGGER_S * 1.1)
            return await straight(candidate)(point)

        return connect

    @pytest.mark.parametrize(
        ("first", "asked"),
        [(gateway(0.3), 1), (says(http(b"hello")), 3), (gateway(60), 2)],
        ids=["good", "not", "silent"],
    )
    def test_one_is_asked_and_the_next_when_that_is_needed(self, first: Place, asked: int) -> None:
        count = 0

        async def answer(request: Asked, writer: asyncio.StreamWriter) -> None:
            nonlocal count
            count += 1
            await (first if count < asked or asked == 1 else gateway())(request, writer)

        async def work() -> None:
            async with asyncio.timeout(20), AsyncExitStack() as stack:
                points = [await stack.enter_async_context(place(answer, f"127.0.0.{number}")) for number in (2, 3)]
                await found(finder(points, through=self.slowly))
                assert count == asked

        asyncio.run(work())


def pair(points: list[Point]) -> tuple[Finder, Finder]:
    """One for what comes down and one for what goes up."""
    memory = Memory()
    one, other = finder(points, memory=memory), finder(points, memory=memory)
    one.beside(other)
    return one, other


def test_a_proof_to_one_finder_of_a_device_is_one_to_the_other_at_once() -> None:
    asked = 0

    async def answers_one(request: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await gateway(0.05 if asked == 1 else 60)(request, writer)

    async def work() -> None:
        async with asyncio.timeout(20), place(answers_one) as point:
            one, other = pair([point])
            async with asyncio.timeout(2), asyncio.TaskGroup() as both:
                both.create_task(one.find(enter, lambda text: None))
                both.create_task(other.find(enter, lambda text: None))
            assert asked <= 2
            assert await other.find(enter, lambda text: None) == await one.find(enter, lambda text: None)
            assert asked <= 2
            for each in (one, other):
                await each.close()

    asyncio.run(work())


def test_who_did_not_hold_for_one_of_them_has_to_prove_himself_to_both() -> None:
    asked = 0

    async def counted(request: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await gateway()(request, writer)

    async def work() -> None:
        async with asyncio.timeout(20), place(counted) as point:
            one, other = pair([point])
            way = await one.find(enter, lambda text: None)
            await other.find(enter, lambda text: None)
            assert asked == 1
            other.lost(way)
            assert await one.find(enter, lambda text: None) == way
            assert asked == 2
            for each in (one, other):
                await each.close()

    asyncio.run(work())


def test_cancelling_a_search_leaves_nothing_running() -> None:
    async def work() -> None:
        async with asyncio.timeout(20), gateways(5.0, 5.0) as points:
            before = len(asyncio.all_tasks())
            one = finder(points)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await one.find(enter, lambda text: None)
            await one.close()
            left = [task for task in asyncio.all_tasks() if task.get_name().startswith("imcore")]
            assert not left
            assert before

    asyncio.run(work())


class TestSources:
    def test_a_dead_dns_does_not_matter_where_the_access_service_has_an_address(self) -> None:
        async def work() -> None:
            async with (
                asyncio.timeout(20),
                gateways(0.0) as points,
                name_server({}, dead=True) as resolve,
                place(access(listing(points))) as service,
            ):
                one = finder([Point("tcp", "im.example.com", 80)], [service], resolve=resolve)
                assert (await found(one)).point == points[0]

        asyncio.run(work())

    def test_a_slow_dns_is_waited_for_where_there_is_nothing_else(self) -> None:
        async def work() -> None:
            names = {"im.example.com": "127.0.0.2"}
            async with asyncio.timeout(20), gateways(0.0) as points, name_server(names, delay_s=1.0) as resolve:
                way = await found(finder([Point("tcp", "im.example.com", points[0].port)], resolve=resolve))
                assert way.address == "127.0.0.2"
                assert way.point.host == "im.example.com"

        asyncio.run(work())

    def test_a_hijacked_dns_leads_to_a_stranger_who_is_left_for_a_built_in_address(self) -> None:
        async def work() -> None:
            async with asyncio.timeout(20), AsyncExitStack() as stack:
                ours = await stack.enter_async_context(place(gateway(1.0), "127.0.0.2"))
                portal = says(http(b"<html>", kind="text/html"))
                await stack.enter_async_context(place(portal, "127.0.0.3", ours.port))
                resolve = await stack.enter_async_context(name_server({"im.example.com": "127.0.0.3"}))
                named = Point("tcp", "im.example.com", ours.port)
                memory = Memory()
                one = finder([named, ours], resolve=resolve, memory=memory)
                assert (await found(one)).address == "127.0.0.2"
                assert memory.wait_s(Candidate(named, "127.0.0.3")) > 0

        asyncio.run(work())

    def test_where_the_access_service_and_its_points_are_dead_the_built_in_ones_are_left(self) -> None:
        async def work() -> None:
            async with (
                asyncio.timeout(20),
                gateways(0.0) as points,
                nobody("127.0.0.8", "127.0.0.9") as dead,
                place(access(listing(dead))) as service,
            ):
                assert (await found(finder(points, [*dead, service]))).point == points[0]

        asyncio.run(work())

    def test_the_remembered_list_is_enough(self) -> None:
        async def work() -> None:
            memory = Memory()
            async with asyncio.timeout(20), gateways(0.0) as points:
                async with place(access(listing(points))) as service:
                    await found(finder([], [service], memory=memory))
                assert (await found(finder([], [service], memory=memory))).point == points[0]

        asyncio.run(work())

    @pytest.mark.parametrize(
        ("document", "outcome"),
        [
            (lambda: listing([], key=Ed25519PrivateKey.generate()), "SIGNATURE"),
            (lambda: listing([], life_s=-1), "EXPIRED"),
            (lambda: listing([], "up"), "ROLE"),
            (lambda: b"<html>Welcome to our hotel", "STRANGER"),
        ],
        ids=["signature", "expired", "role", "stranger"],
    )
    def test_a_list_that_is_not_to_be_trusted_is_named_and_dropped(
        self, document: Callable[[], bytes], outcome: str
    ) -> None:
        async def work() -> None:
            async with asyncio.timeout(20), gateways(0.3) as points, place(access(document())) as service:
                one = finder(points, [service])
                await found(one)
                assert {heard.source: heard.outcome for heard in one.heard} == {
                    "built in": "OK",
                    f"access {service}": outcome,
                }
                with pytest.raises(WayError) as caught:
                    await found(finder([], [service]))
                assert caught.value.outcome == outcome
                assert f"access {service}: {outcome}" in str(caught.value)

        asyncio.run(work())

    def test_what_was_measured_is_reported_by_the_names_of_the_list(self) -> None:
        async def work() -> None:
            reports: list[bytes] = []
            async with (
                asyncio.timeout(20),
                gateways(0.0) as points,
                nobody("127.0.0.9") as dead,
                place(access(listing([*dead, *points]), reports)) as service,
            ):
                memory = Memory()
                memory.network(str(Network("10.0.0.1")))
                memory.keep_still("", Still(280.0, 310.0))
                one = finder([], [service], memory=memory)
                await one.find(enter, lambda text: None)
                while not reports:  # noqa: ASYNC110  # it is told to nobody here
                    await asyncio.sleep(0.01)
                await one.close()
                assert one.still_s == 240, "as the list says"
            report = msgspec.json.decode(reports[0], type=Report)
            assert report.role == "down"
            assert report.still_s == 280, "as it was found out on this network"
            assert {one.point: one.outcome for one in report.measured} == {"gw-0": "REFUSED", "gw-1": "OK"}
            assert all(one.whole_ms is not None for one in report.measured if one.outcome == "OK")

        asyncio.run(work())

    def test_the_access_service_is_not_asked_again_before_its_list_says_so(self) -> None:
        async def work() -> None:
            asked: list[str] = []

            async def answer(request: Asked, writer: asyncio.StreamWriter) -> None:
                asked.append(request.target)
                await access(listing(points))(request, writer)

            async with asyncio.timeout(20), gateways(0.0) as points, place(answer) as service:
                one = finder([], [service])
                for _ in range(3):
                    assert (await one.find(enter, lambda text: None)).point == points[0]
                await one.close()
                assert one.back_off == BackOff(first_ms=250, most_ms=4000)  # what the list advises
            assert len([target for target in asked if target.startswith("/v1/access")]) == 1

        asyncio.run(work())


class TestBehindTheWayIn:
    def test_a_less_loaded_point_is_better(self) -> None:
        async def work() -> None:
            async with asyncio.timeout(20), gateways(0.0, 0.5) as points, place(access(listing(points[1:]))) as service:
                one = finder(points[:1], [service])  # built in: the last resort, and there at once
                way = await one.find(enter, lambda text: None)
                assert way.point == points[0]
                better = await one.better(way)
                assert better is not None
                assert better.point == points[1]
                await one.close()

        asyncio.run(work())

    def test_frames_of_their_own_are_better_than_the_tunnel(self) -> None:
        async def work() -> None:
            async with asyncio.timeout(20), gateways(0.0) as [point]:
                raw = Point("tcp", point.host, point.port)

                async def blocked(candidate: Candidate) -> Candidate:
                    if candidate.point == raw:
                        raise WayError("SILENT", "frames do not pass here")
                    return candidate

                memory = Memory()
                one = finder([raw, point], memory=memory)
                way = await one.find(blocked, lambda text: None)
                assert way.point == point
                assert await one.better(way) is None  # it has failed just now
                memory.took(Candidate(raw, raw.host), 0.1)
                better = await one.better(way)
                assert better is not None
                assert better.point == raw
                await one.close()

        asyncio.run(work())

    def test_a_point_that_freezes_after_some_kilobytes_does_not_hold(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("imcore.ways.finder.FROZEN_S", 1.0)

        async def work() -> None:
            async with asyncio.timeout(20), place(gateway(cut=17_000)) as frozen, place(gateway()) as whole:
                memory = Memory()
                one = finder([frozen, whole], memory=memory)
                assert not await one.holds(Candidate(frozen, frozen.host))
                assert memory.wait_s(Candidate(frozen, frozen.host)) > 0
                assert await one.holds(Candidate(whole, whole.host))
                async with place(says(http(b"", "404 Not Found"))) as older:
                    assert await one.holds(Candidate(older, older.host)), "nothing is known of it"
                await one.close()

        asyncio.run(work())

    def test_where_every_way_freezes_each_is_tried_once_and_the_last_one_kept(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("imcore.ways.finder.FROZEN_S", 0.1)
        monkeypatch.setattr(Memory, "wait_s", lambda memory, candidate: 0.0)  # as after a while

        async def work() -> None:
            frozen = [place(gateway(cut=17_000), f"127.0.0.{number}") for number in (2, 3, 4)]
            async with asyncio.timeout(20), AsyncExitStack() as stack:
                points = [await stack.enter_async_context(each) for each in frozen]
                one, other = pair(
                    [*points, *(Point("tcp", host, points[0].port) for host in ("127.0.0.5", "127.0.0.6"))]
                )
                way: Candidate | None = await one.find(enter, lambda text: None)
                tried = []
                while way is not None:
                    assert way not in tried
                    tried.append(way)
                    assert not await one.holds(way)
                    assert other.held(way) is False
                    way = await one.better(way, holds=False)
                assert {way.point for way in tried} == set(points)
                for each in (one, other):
                    await each.close()

        asyncio.run(work())

    def test_what_did_not_hold_is_looked_at_again_after_a_while(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("imcore.ways.finder.FROZEN_S", 1.0)
        monkeypatch.setattr("imcore.ways.finder.BAD_S", 0.1)
        asked = 0

        async def frozen_once(request: Asked, writer: asyncio.StreamWriter) -> None:
            nonlocal asked
            asked += 1
            await gateway(cut=17_000 if asked == 1 else None)(request, writer)

        async def work() -> None:
            async with asyncio.timeout(20), place(frozen_once) as point:
                one, way = finder([point]), Candidate(point, point.host)
                assert not await one.holds(way)
                assert one.held(way) is False
                await asyncio.sleep(0.15)
                assert one.held(way) is None
                assert await one.holds(way)
                await asyncio.sleep(0.15)
                assert one.held(way)
                await one.close()

        asyncio.run(work())

    def test_what_held_on_one_network_is_looked_at_again_on_another(self) -> None:
        here = Network("10.0.0.1")

        async def work() -> None:
            nonlocal here
            async with asyncio.timeout(20), place(gateway()) as point:
                one, way = finder([point], network=lambda: here), Candidate(point, point.host)
                assert one.held(way) is None
                assert await one.holds(way)
                assert one.held(way)
                here = Network("10.9.9.1")
                assert one.held(way) is None
                await one.close()

        asyncio.run(work())

    def test_one_look_is_enough_for_both_finders(self) -> None:
        asked = 0

        async def counted(request: Asked, writer: asyncio.StreamWriter) -> None:
            nonlocal asked
            asked += request.target.startswith("/im/fill")
            await gateway(0.05)(request, writer)

        async def work() -> None:
            async with asyncio.timeout(20), place(counted) as point:
                way, both = Candidate(point, point.host), pair([point])
                assert await asyncio.gather(*(one.holds(way) for one in both)) == [True, True]
                assert asked == 1
                for one in both:
                    await one.close()

        asyncio.run(work())


@pytest.mark.parametrize(("address", "host"), [("127.0.0.1", "im..example"), ("127.0.0.1", "im\0")])
def test_a_list_that_names_what_is_no_host_leaves_the_others_good(address: str, host: str) -> None:
    async def work() -> None:
        async with asyncio.timeout(20), place(gateway(0.1)) as good:
            wrong = AccessPoint("wrong", [address], [Port(good.port, ["tls", "tcp"])], host)
            right = AccessPoint("right", [good.host], [Port(good.port, ["http"])])
            now = int(time.time())
            made = sign_list(AccessList("down", now, now + 60, 30, [wrong, right]), KEY)
            async with place(access(made)) as service:
                assert (await found(finder([], [service]))).point == good

    asyncio.run(work())


def test_a_fill_that_comes_byte_by_byte_is_not_waited_for_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imcore.ways.finder.FROZEN_S", 0.2)
    monkeypatch.setattr("imcore.ways.finder.FILL_S", 0.5)

    async def drips(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(http(b"", length=32 * 1024))
        while not writer.is_closing():
            writer.write(b"i")
            await asyncio.sleep(0.02)

    async def work() -> None:
        async with asyncio.timeout(10), place(drips) as point:
            one = finder([point])
            assert await one.holds(Candidate(point, point.host)), "it is slow"
            await one.close()

    asyncio.run(work())


def test_of_an_answer_of_dns_with_thousands_of_addresses_some_of_each_family_are_tried() -> None:
    async def work() -> None:
        async def resolve(name: str) -> list[str]:
            return ["127.0.0.2"] * 2000 + [f"2001:db8::{number:x}" for number in range(2000)] + ["127.0.0.9"]

        async with asyncio.timeout(20), place(gateway(), "127.0.0.2") as there:
            one = finder([Point("http", "im.example.com", there.port)], resolve=resolve)
            assert (await found(one)).address == "127.0.0.2"
            assert len(one.heard[0].listed) == ADDRESSES + 2

    asyncio.run(work())


def test_a_slow_line_is_a_relay_that_waits() -> None:
    async def work() -> None:
        async with (
            asyncio.timeout(20),
            place(gateway()) as point,
            relay(point.authority, "127.0.0.2", delay_s=0.2) as slow,
        ):
            memory = Memory()
            memory.network(str(Network("10.0.0.1")))
            way = await found(finder([slow], memory=memory))
            assert (memory.cost_s(way) or 0.0) >= 0.2

    asyncio.run(work())
