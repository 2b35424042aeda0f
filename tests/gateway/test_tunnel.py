"""Exchanges of the tunnel, as the wire has them: each a whole link, whatever connection it comes on."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from imcore.cli.certificate import self_signed
from imcore.errors import Unauthorized
from imcore.gateway.limits import Limits
from imcore.gateway.listeners import Tls
from tests.gateway.exchanges import Tunnel, down, frames, post, up
from tests.gateway.running import Running, run, running, until
from tests.gateway.wire import (
    ACK,
    ERROR,
    FAILED,
    GOAWAY,
    HELLO,
    JOIN,
    MSG,
    PAD,
    PING,
    PONG,
    ROOM,
    WELCOME,
    Wire,
    frame,
    hello,
)  # fmt: skip

FIELDS = {
    "content-type": "application/octet-stream",
    "cache-control": "no-store, no-transform",
    "x-accel-buffering": "no",
    "incremental": "?1",
}
"""What each answer carries (wire: "The HTTP tunnel")."""


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return self_signed(tmp_path_factory.mktemp("tls"), "localhost")[0]


@asynccontextmanager
async def gateway_and(count: int, data: Path, **more: Any) -> AsyncIterator[tuple[Running, list[Tunnel]]]:
    """A gateway, and so many connections to it."""
    async with running(data, **more) as here, AsyncExitStack() as stack:
        yield here, [await stack.enter_async_context(Tunnel(here.address)) for _ in range(count)]


class TestTheWayUp:
    @pytest.mark.parametrize("way", ["descriptor", "transport", "tls"])
    def test_one_response_carries_the_welcome_and_every_ack(self, tmp_path: Path, tls: Tls, way: str) -> None:
        async def main() -> None:
            secured = tls if way == "tls" else None
            trust = ssl.create_default_context(cafile=tls.certificate) if secured else None
            async with (
                running(tmp_path, native=way == "descriptor", tls=secured) as here,
                Tunnel(here.address, trust) as tunnel,
            ):
                said = [frame(MSG, n, "note", b"x" * n) for n in (1, 2, 1000, 60_000)]
                answered = await tunnel.ask(up(), *said)
                got = answered.frames
                assert [(each.type, each.id) for each in got] == [
                    (WELCOME, 0), (ACK, 1), (ACK, 2), (ACK, 1000), (ACK, 60_000),
                ]  # fmt: skip
                assert answered.fields == {**FIELDS, "content-length": str(len(answered.body))}
                assert answered.head_size <= 200
                assert [len(message.body) for message in here.seen] == [1, 2, 1000, 60_000]
                assert here.gateway.users == 0, "the exchange is over with its answer"

        run(main())

    def test_a_connection_is_kept_for_exchanges_of_anybody(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with gateway_and(1, tmp_path) as (here, [tunnel]):
                for n in range(1, 6):
                    for user in ("alice", "bob"):
                        welcome, ack = (await tunnel.ask(up(user), frame(MSG, n, "note", b"x"))).frames
                        assert (welcome.map["user"], welcome.map["accepted"], ack.id) == (user, n - 1, n)
                await until(lambda: len(here.seen) == 10)
                assert len(here.gateway.http.connections) == 1

        run(main())

    def test_exchanges_of_one_client_come_over_any_connection(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with gateway_and(3, tmp_path) as (here, tunnels):
                for n in range(1, 10):
                    tunnel = tunnels[n % 3]
                    repeated = [frame(MSG, id, "note", b"%d" % id) for id in (n - 1, n) if id]
                    got = (await tunnel.ask(up(), *repeated)).frames
                    assert [each.type for each in got] == [WELCOME] + [ACK] * len(repeated)
                    assert got[0].map["accepted"] == n - 1
                assert [message.body for message in here.seen] == [b"%d" % n for n in range(1, 10)]

        run(main())

    def test_where_the_request_is_cut_means_nothing(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with gateway_and(2, tmp_path) as (_, tunnels):
                request = post(up(), frame(MSG, 1, "note", b"x"), frame(PING, 7))
                tunnels[0].say(request)
                whole = frames((await tunnels[0].answer()).body)
                assert [each.type for each in whole] == [WELCOME, PONG, ACK]
                for at in range(0, len(request), 7):
                    for piece in (request[:at], request[at:]):
                        tunnels[1].say(piece)
                        await asyncio.sleep(0)
                        await asyncio.sleep(0.001)
                    got = (await tunnels[1].answer()).frames
                    assert sorted(each.type for each in got) == sorted(each.type for each in whole), at
                for byte in request:
                    tunnels[1].say(bytes([byte]))
                    await asyncio.sleep(0)
                assert len((await tunnels[1].answer()).frames) == 3

        run(main())

    def test_what_is_refused_is_answered_too_and_holds_back_what_follows(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with gateway_and(1, tmp_path) as (_, [tunnel]):
                said = [frame(MSG, 1, "nobody", b"x"), frame(MSG, 2, "note", b"x")]
                _, first, second = (await tunnel.ask(up(), *said)).frames
                assert [(first.flags, first.map["code"]), second.flags] == [(FAILED, "no_route"), FAILED]
                got = (await tunnel.ask(up(), frame(MSG, 1, "", b"", FAILED), said[1])).frames
                assert [(each.type, each.flags, each.id) for each in got[1:]] == [(ACK, 0, 1), (ACK, 0, 2)]

        run(main())

    def test_what_is_pipelined_is_answered_in_order(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with gateway_and(1, tmp_path) as (_, [tunnel]):
                tunnel.say(*(post(up(f"user{n}"), frame(MSG, n, "note", b"x" * 3000)) for n in range(1, 40)))
                for n in range(1, 40):
                    welcome, ack = (await tunnel.answer()).frames
                    assert (welcome.map["user"], ack.id) == (f"user{n}", n)

        run(main())

    def test_a_body_that_is_announced_is_asked_for(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with gateway_and(1, tmp_path) as (_, [tunnel]):
                request = post(up(), more="Expect: 100-continue\r\n")
                head, _, body = request.partition(b"\r\n\r\n")
                tunnel.say(head + b"\r\n\r\n")
                assert (await tunnel.head())[0] == 100
                tunnel.say(body)
                assert [each.type for each in (await tunnel.answer()).frames] == [WELCOME]

        run(main())

    def test_a_request_in_absolute_form_is_the_same(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with gateway_and(1, tmp_path) as (_, [tunnel]):
                tunnel.say(post(up(), target="http://im.example.com/im"))
                assert [each.type for each in (await tunnel.answer()).frames] == [WELCOME]

        run(main())


class TestAPoll:
    def test_ends_with_the_first_messages(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with gateway_and(1, tmp_path) as (here, [tunnel]):
                tunnel.say(post(down("bob", 20_000)))
                await until(lambda: here.gateway.users)
                await here.service.push("bob", "chat", b"hello")
                answered = await tunnel.answer()
                welcome, message = answered.frames
                assert (welcome.type, message.type, message.id, message.body) == (WELCOME, MSG, 1, b"hello")
                assert answered.fields == {**FIELDS, "content-length": str(len(answered.body))}

        run(main())

    def test_is_answered_at_once_where_messages_wait_and_acknowledges_by_its_resume_point(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with gateway_and(1, tmp_path) as (here, [tunnel]):
                for n in range(1, 301):
                    await here.service.push("bob", "chat", b"%d" % n)
                seen: list[int] = []
                resume = None
                while len(seen) < 300:
                    welcome, *messages = (await tunnel.ask(down("bob", 20_000, resume=resume))).frames
                    assert messages[0].id == welcome.map["first"] == len(seen) + 1
                    assert welcome.map["resumed"]
                    seen += [message.id for message in messages]
                    resume = {"epoch": welcome.map["epoch"], "seq": seen[-1]}
                assert seen == list(range(1, 301))
                # What was only sent counts for nothing: without a resume point it goes on behind what was acknowledged.
                again = (await tunnel.ask(down("bob", 20_000))).frames
                assert 1 < again[1].id <= 257

        run(main())

    def test_ends_empty_handed_when_its_time_is_up_and_not_later(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with gateway_and(1, tmp_path) as (here, [tunnel]):
                loop = asyncio.get_running_loop()
                began = loop.time()
                got = (await tunnel.ask(down("bob", 1000))).frames
                assert [each.type for each in got] == [WELCOME]
                assert loop.time() - began >= 0.7
                assert here.gateway.users == 0

        run(main())

    def test_hears_rooms_and_ends_with_what_is_said_there_not_with_the_answer_to_join(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with gateway_and(1, tmp_path) as (here, [tunnel]):
                tunnel.say(post(down("bob", 20_000), frame(JOIN, 1, "lobby")))
                await until(lambda: len(here.gateway.rooms) == 1)
                await here.service.broadcast("lobby", b"hear")
                welcome, joined, heard = (await tunnel.answer()).frames
                assert (welcome.type, joined.type) == (WELCOME, ACK)
                assert (heard.type, heard.flags, heard.route, heard.body) == (MSG, ROOM, "lobby", b"hear")
                await until(lambda: len(here.gateway.rooms) == 0)

        run(main())


class TestAStream:
    def test_pings_twice_then_brings_what_comes_as_it_comes(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with gateway_and(1, tmp_path) as (here, [tunnel]):
                welcome, ping = await tunnel.stream(down("bob"))
                assert (welcome.type, ping.type, len(ping.body)) == (WELCOME, PING, 2)
                began = asyncio.get_running_loop().time()
                (again,) = frames(await tunnel.piece())
                assert again.type == PING
                assert asyncio.get_running_loop().time() - began > 0.25
                for n in range(1, 50):
                    await here.service.push("bob", "chat", b"%d" % n)
                    (message,) = frames(await tunnel.piece())
                    assert (message.type, message.id, message.body) == (MSG, n, b"%d" % n)

        run(main())

    @pytest.mark.parametrize("pad", [1, 4096])
    def test_has_padding_behind_each_piece_where_that_is_asked_for(self, tmp_path: Path, pad: int) -> None:
        async def main() -> None:
            async with gateway_and(1, tmp_path) as (here, [tunnel]):
                got = await tunnel.stream(down("bob", pad=pad))
                assert [each.type for each in got] == [WELCOME, PING, PAD]
                assert [each.type for each in frames(await tunnel.piece())] == [PING, PAD]
                await here.service.push("bob", "chat", b"x")
                message, padding = frames(await tunnel.piece())
                assert (message.type, padding.type, len(padding.body)) == (MSG, PAD, pad)

        run(main())

    def test_goes_on_giving_signs_of_life_and_ends_at_the_longest_heartbeat(self, tmp_path: Path) -> None:
        async def main() -> None:
            limits = Limits(heartbeat=(1, 2), drain_s=0.2)
            async with gateway_and(1, tmp_path, limits=limits) as (_, [tunnel]):
                got = await tunnel.stream(down("bob"))
                got += [each async for piece in tunnel.pieces() for each in frames(piece)]
                assert [each.type for each in got] == [WELCOME, PING, PING]
                assert {each.body for each in got[1:]} == {b"\0\1"}
                assert [each.type for each in (await tunnel.ask(up("bob"))).frames] == [WELCOME]

        run(main())

    def test_ends_when_the_window_is_full_and_the_next_one_goes_on(self, tmp_path: Path) -> None:
        async def main() -> None:
            limits = Limits(window=10, drain_s=0.2)
            async with gateway_and(1, tmp_path, limits=limits) as (here, [tunnel]):
                for n in range(1, 36):
                    await here.service.push("bob", "chat", b"%d" % n)
                resume = None
                seen: list[int] = []
                for count in (10, 10, 10):
                    tunnel.say(post(down("bob", resume=resume)))
                    got = (await tunnel.answer()).frames
                    messages = [each.id for each in got if each.type == MSG]
                    assert len(messages) == count
                    seen += messages
                    resume = {"epoch": got[0].map["epoch"], "seq": seen[-1]}
                assert seen == list(range(1, 31))

        run(main())

    def test_over_http_1_0_has_no_chunks_and_ends_with_the_connection(self, tmp_path: Path) -> None:
        async def main() -> None:
            limits = Limits(window=3, drain_s=0.2)
            async with gateway_and(1, tmp_path, limits=limits) as (here, [tunnel]):
                for _ in range(5):
                    await here.service.push("bob", "chat", b"x")
                tunnel.say(post(down("bob"), version="1.0"))
                answered = await tunnel.answer()
                assert answered.fields == {**FIELDS, "connection": "close"}
                assert [each.id for each in answered.frames if each.type == MSG] == [1, 2, 3]

        run(main())

    def test_that_nobody_reads_holds_no_more_than_the_window(self, tmp_path: Path) -> None:
        async def main() -> None:
            limits = Limits(window=10_000, window_bytes=64 * 1024, drain_s=0.2)
            async with gateway_and(1, tmp_path, limits=limits) as (here, [tunnel]):
                await tunnel.stream(down("bob"))
                tunnel.hold(True)
                for _ in range(400):
                    await here.service.push("bob", "chat", b"x" * 60_000)
                (link,) = here.gateway.links("bob")
                (connection,) = here.gateway.http.connections
                assert link.sent < 400
                assert link.queued + connection.transport.get_write_buffer_size() < 4 * 64 * 1024
                tunnel.hold(False)
                seen = 0
                async for piece in tunnel.pieces():
                    seen = max([seen, *(each.id for each in frames(piece) if each.type == MSG)])
                    if seen == 400:
                        break

        run(main())

    def test_that_is_cut_ends_its_link(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with gateway_and(1, tmp_path) as (here, [tunnel]):
                await tunnel.stream(down("bob"))
                assert here.gateway.users == 1
                tunnel.writer.close()
                await until(lambda: here.gateway.users == 0)
                await until(lambda: not here.gateway.http.connections)

        run(main())


class TestTakingOver:
    def test_a_newer_exchange_ends_the_older_one_with_superseded(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with gateway_and(3, tmp_path) as (here, [first, second, third]):
                first.say(post(down("bob", 20_000)))
                await until(lambda: here.gateway.users)
                assert [each.type for each in await second.stream(down("bob"))] == [WELCOME, PING]
                assert (await first.answer()).code == "superseded"
                third.say(post(down("bob", 20_000)))
                ends = [each async for piece in second.pieces() for each in frames(piece)]
                assert (ends[-1].type, ends[-1].map["code"]) == (ERROR, "superseded")
                await here.service.push("bob", "chat", b"x")
                assert [each.type for each in (await third.answer()).frames] == [WELCOME, MSG]
                # The connections of those that ended are as good as before.
                for tunnel in (first, second):
                    assert [each.type for each in (await tunnel.ask(up("bob"))).frames] == [WELCOME]

        run(main())

    def test_up_and_down_stand_beside_each_other(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with gateway_and(2, tmp_path) as (here, [above, below]):
                await below.stream(down("bob"))
                for n in range(1, 5):
                    await above.ask(up("bob"), frame(MSG, n, "note", b"x"))
                await here.service.push("bob", "chat", b"still here")
                got = [each async for each in _messages(below, 1)]
                assert got == [b"still here"]

        run(main())

    def test_one_whose_hello_came_first_never_ends_a_newer_one_however_late_it_is(self, tmp_path: Path) -> None:
        async def main() -> None:
            gate = asyncio.Event()
            asked: list[str] = []

            async def authenticate(token: str) -> str:
                asked.append(token)
                if token == "slow":
                    await gate.wait()
                return "bob"

            async with gateway_and(2, tmp_path, authenticate=authenticate) as (here, [late, newer]):
                late.say(post(down("slow", 20_000)))
                await until(lambda: asked)
                await newer.stream(down("quick"))
                gate.set()
                assert (await late.answer()).code == "superseded"
                await here.service.push("bob", "chat", b"x")
                assert [each async for each in _messages(newer, 1)] == [b"x"]

        run(main())

    def test_a_request_that_comes_twice_does_no_harm(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with gateway_and(2, tmp_path) as (here, [first, second]):
                request = post(up("bob"), *(frame(MSG, n, "note", b"%d" % n) for n in range(1, 50)))
                first.say(request)
                second.say(request)
                answers = [(await tunnel.answer()).frames for tunnel in (first, second)]
                whole = [got for got in answers if [each.type for each in got] == [WELCOME] + [ACK] * 49]
                assert whole, "one of them took over"
                await until(lambda: len(here.seen) >= 49)
                assert [message.body for message in here.seen] == [b"%d" % n for n in range(1, 50)]

        run(main())


async def _messages(tunnel: Tunnel, count: int) -> AsyncIterator[bytes]:
    """The bodies of the next messages of a stream."""
    while count:
        for each in frames(await tunnel.piece()):
            if each.type == MSG:
                count -= 1
                yield each.body


class TestTheNonce:
    @pytest.mark.parametrize(
        ("asked", "kind"),
        [(up, WELCOME), (partial(down, poll_ms=1), WELCOME), (partial(hello, "", role="up"), ERROR),
         (partial(hello, role="both"), ERROR)],
        ids=["up", "down", "a refusal", "a wrong role"],
    )  # fmt: skip
    def test_is_repeated_where_there_was_one(self, tmp_path: Path, asked: Callable[..., bytes], kind: int) -> None:
        async def main() -> None:
            async with gateway_and(1, tmp_path) as (_, [tunnel]):
                for nonce in ({"nonce": "a b"}, {"nonce": ""}, {}):
                    first = (await tunnel.ask(asked(**nonce))).frames[0]
                    assert first.type == kind
                    assert {key: value for key, value in first.map.items() if key == "nonce"} == nonce

        run(main())

    def test_of_a_plain_link_is_not(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with running(tmp_path) as here, Wire(here.address) as wire:
                wire.say(hello(nonce="a"))
                assert "nonce" not in (await wire.hear()).map

        run(main())


class TestWhatMayNotBeAsked:
    @pytest.mark.parametrize(
        ("body", "code"),
        [
            (hello("bob"), "bad_hello"),
            (hello("", role="up"), "unauthorized"),
            (b"", "bad_frame"),
            (up()[:-1], "bad_frame"),
            (up()[:3], "bad_frame"),
            (up() + frame(MSG, 1, "note", b"x")[:-1], "bad_frame"),
            (down(poll_ms=5000) + b"\xa1", "bad_frame"),
            (down() + frame(JOIN, 1, "lobby")[:5], "bad_frame"),
            (b"POST /im HTTP/1.1\r\n\r\n", "bad_frame"),
            (b"\xa2" + bytes(15), "version"),
            (up() + up(), "bad_frame"),
            (up() + frame(JOIN, 1, "lobby"), "bad_frame"),
            (down(poll_ms=5000) + frame(MSG, 1, "note", b"x"), "bad_frame"),
            (up() + frame(MSG, 1, "note", bytes(70_000)), "too_large"),
            (frame(HELLO, body=bytes(5000)), "too_large"),
            (down(poll_ms=-1), "bad_hello"),
        ],
    )  # fmt: skip
    def test_in_frames_is_answered_in_frames_and_the_connection_goes_on(
        self, tmp_path: Path, body: bytes, code: str
    ) -> None:
        async def main() -> None:
            async with gateway_and(1, tmp_path) as (here, [tunnel]):
                answered = await tunnel.ask(body)
                assert answered.code == code
                assert here.gateway.users == 0
                assert [each.type for each in (await tunnel.ask(up())).frames] == [WELCOME]

        run(main())

    def test_a_refused_token_is_told_when_the_rest_of_the_body_was_read(self, tmp_path: Path) -> None:
        async def main() -> None:
            def nobody(token: str) -> str:
                raise Unauthorized("who?")

            async with gateway_and(1, tmp_path, authenticate=nobody) as (_, [tunnel]):
                messages = [frame(MSG, n, "note", bytes(60_000)) for n in range(1, 16)]
                for _ in range(2):
                    assert (await tunnel.ask(up(), *messages)).code == "unauthorized"

        run(main())

    @pytest.mark.parametrize(
        ("request_", "status"),
        [
            (post(up()).replace(b"POST", b"PUT", 1), 405),
            (b"GET /im HTTP/1.1\r\nHost: x\r\n\r\n", 405),
            (b"OPTIONS /im HTTP/1.1\r\nHost: x\r\nOrigin: https://a.example\r\n\r\n", 405),
            (post(up()).replace(b"octet-stream", b"json"), 415),
            (post(up()).replace(b"Content-Type: application/octet-stream\r\n", b""), 415),
            (b"POST /im HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\n\r\n", 411),
            (b"POST /im HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\n"
             b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
            (b"POST /im HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\n"
             b"Content-Length: 1048577\r\n\r\n", 413),
            (b"POST /im HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n", 413),
            (post(up()).replace(b"Host: im.example.com\r\n", b""), 400),
            (post(up(), more="Content-Length: 3\r\n"), 400),
            (post(up(), more="Transfer-Encoding: chunked\r\n"), 400),
            (post(up()).replace(b"\r\n", b"\n"), 400),
            (b"POST /im\r\n\r\n", 400),
            (b"G\x00T / HTTP/1.1\r\n\r\n", 400),
            (post(up(), target="/other"), 404),
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        ],
    )  # fmt: skip
    def test_in_http_is_answered_with_a_status_and_a_sentence_then_closed(
        self, tmp_path: Path, request_: bytes, status: int
    ) -> None:
        async def main() -> None:
            async with gateway_and(1, tmp_path) as (here, [tunnel]):
                tunnel.say(request_)
                answered = await tunnel.answer()
                assert answered.status == status
                assert answered.fields["connection"] == "close"
                assert answered.fields["content-type"].startswith("text/plain")
                assert answered.body.endswith(b"\n")
                await tunnel.hear_end()
                tunnel.writer.close()
                await until(lambda: not here.gateway.http.connections)
                assert here.gateway.users == 0

        run(main())

    def test_an_answer_to_head_has_no_body(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with gateway_and(1, tmp_path) as (_, [tunnel]):
                tunnel.say(b"HEAD /im HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (await tunnel.answer(to_head=True)).status == 405
                await tunnel.hear_end()

        run(main())

    def test_a_connection_that_asks_to_be_closed_is(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with gateway_and(2, tmp_path) as (_, [asks, old]):
                asks.say(post(up(), more="Connection: close\r\n"))
                old.say(post(up("bob"), version="1.0"))
                for tunnel in (asks, old):
                    answered = await tunnel.answer()
                    assert [each.type for each in answered.frames] == [WELCOME]
                    assert answered.fields["connection"] == "close"
                    await tunnel.hear_end()

        run(main())


class TestTheEndOfTheGateway:
    def test_is_told_in_every_exchange_and_idle_connections_are_closed(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with AsyncExitStack() as stack:
                async with running(tmp_path, limits=Limits(drain_s=5)) as here:
                    tunnels = [await stack.enter_async_context(Tunnel(here.address)) for _ in range(3)]
                    poll, stream, idle = tunnels
                    poll.say(post(down("alice", 20_000)))
                    await stream.stream(down("bob"))
                    await idle.ask(up("carol"))
                    await until(lambda: here.gateway.users == 2)
                    began = asyncio.get_running_loop().time()
                assert asyncio.get_running_loop().time() - began < 4
                assert [each.type for each in (await poll.answer()).frames] == [WELCOME, GOAWAY]
                ends = [each async for piece in stream.pieces() for each in frames(piece)]
                assert ends[-1].type == GOAWAY
                for tunnel in tunnels:
                    await tunnel.hear_end()

        run(main())
