"""One port for everything: the first byte decides, each request goes where it belongs, and who is slow is let go."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, TCPConnector, web

from imcore.cli.certificate import self_signed
from imcore.gateway.limits import Limits
from imcore.gateway.listeners import Tls
from imcore.gateway.web import Web
from tests.gateway.exchanges import Tunnel, down, post, up
from tests.gateway.running import Running, run, running, until
from tests.gateway.wire import ACK, MSG, PING, PONG, WELCOME, Wire, frame


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return self_signed(tmp_path_factory.mktemp("tls"), "localhost")[0]


@pytest.fixture(params=["descriptor", "transport", "tls"])
def way(request: pytest.FixtureRequest) -> str:
    """How a connection comes to the gateway."""
    return str(request.param)


def application() -> web.Application:
    """What it read, told back."""

    async def echo(request: web.Request) -> web.Response:
        body = await request.read()
        return web.json_response({"path": request.path_qs, "host": request.host, "size": len(body), "sum": sum(body)})

    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(int(request.query["pieces"])):
            await response.write(b"x" * 10_000)
        return response

    async def early(request: web.Request) -> web.Response:
        raise web.HTTPForbidden(text="no")

    async def switch(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data.upper())
        return socket

    async def agree(request: web.Request) -> web.Response:
        return web.Response(status=101)

    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("*", "/echo", echo)
    app.router.add_get("/slow", slow)
    app.router.add_static("/files", Path(__file__).parent)
    app.router.add_post("/early", early)
    app.router.add_get("/switch", switch)
    app.router.add_get("/agree", agree)
    return app


@asynccontextmanager
async def serving(data: Path, way: str, tls: Tls, **limits: Any) -> AsyncIterator[tuple[Running, AsyncExitStack]]:
    secured = tls if way == "tls" else None
    guests = Web(application(), 0.2)
    async with (
        AsyncExitStack() as stack,
        running(
            data,
            native=way == "descriptor",
            tls=secured,
            web=guests,
            limits=Limits(**{"drain_s": 0.2, **limits}),
        ) as here,
    ):
        yield here, stack


def trust(way: str, tls: Tls) -> ssl.SSLContext | None:
    return ssl.create_default_context(cafile=tls.certificate) if way == "tls" else None


def request(method: str, path: str, body: bytes = b"", more: str = "") -> bytes:
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{method} {path} HTTP/1.1\r\nHost: im.example.com\r\n{length}{more}\r\n".encode() + body


CHUNKED = "Transfer-Encoding: chunked\r\n"


class TestTheFirstByte:
    def test_tells_frames_from_http_on_every_address(self, tmp_path: Path, tls: Tls, way: str) -> None:
        async def main() -> None:
            async with serving(tmp_path, way, tls) as (here, _):
                for _ in range(2):
                    async with Wire(here.address, trust(way, tls)) as wire:
                        await wire.greet("alice")
                        wire.say(frame(PING, 1))
                        assert (await wire.hear()).type == PONG
                    async with Tunnel(here.address, trust(way, tls)) as tunnel:
                        assert [each.type for each in (await tunnel.ask(up("bob"))).frames] == [WELCOME]
                        tunnel.say(request("GET", "/echo"))
                        assert (await tunnel.answer()).status == 200

        run(main())

    def test_may_come_alone(self, tmp_path: Path, tls: Tls, way: str) -> None:
        async def main() -> None:
            async with serving(tmp_path, way, tls) as (here, _), Tunnel(here.address, trust(way, tls)) as tunnel:
                for byte in request("POST", "/echo", b"\x01\x02"):
                    tunnel.say(bytes([byte]))
                    await asyncio.sleep(0.001)
                assert b'"sum": 3' in (await tunnel.answer()).body

        run(main())

    @pytest.mark.parametrize(
        ("first", "word"),
        [
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), "TLS"),
            (b"\x05\x01\x00", "SOCKS 5"),
            (b"\x04\x01\x00\x50\x00\x00\x00\x01x\x00", "SOCKS 4"),
            (b"get / http/1.1\r\n\r\n", "0x67"),
            (b"\x00", "0x00"),
            (b"\xff" * 5000, "0xff"),
            (b" POST", "0x20"),
            (b"\r\n", "0x0d"),
        ],
    )
    def test_that_is_neither_ends_the_connection_without_a_word_to_it_and_with_one_to_the_log(
        self, tmp_path: Path, tls: Tls, way: str, first: bytes, word: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def main() -> None:
            async with serving(tmp_path, way, tls) as (here, _), Wire(here.address, trust(way, tls)) as wire:
                wire.say(first)
                await wire.hear_end(20)
                assert here.gateway.hub.links == 0

        with caplog.at_level(logging.DEBUG, "imcore.gateway.http"):
            run(main())
        (told,) = [each.getMessage() for each in caplog.records if "a connection is closed" in each.getMessage()]
        assert word in told

    def test_has_its_time(self, tmp_path: Path, tls: Tls, way: str) -> None:
        async def main() -> None:
            async with (
                serving(tmp_path, way, tls, handshake_s=0.3) as (here, _),
                Wire(here.address, trust(way, tls)) as wire,
            ):
                assert (await wire.hear(20)).map["code"] == "timeout"
                await wire.hear_end(20)

        run(main())


class TestOtherHttp:
    def test_goes_to_the_application_between_exchanges_without_loss(self, tmp_path: Path, tls: Tls, way: str) -> None:
        async def main() -> None:
            async with serving(tmp_path, way, tls) as (here, _), Tunnel(here.address, trust(way, tls)) as tunnel:
                for n in range(1, 6):
                    body = bytes(range(256)) * 40 * n
                    tunnel.say(request("POST", f"/echo?n={n}", body))
                    told = await tunnel.answer()
                    assert told.status == 200
                    assert f'"path": "/echo?n={n}"' in told.body.decode()
                    assert f'"size": {len(body)}, "sum": {sum(body)}' in told.body.decode()
                    got = (await tunnel.ask(up(), frame(MSG, n, "note", b"x"))).frames
                    assert [each.type for each in got] == [WELCOME, ACK]
                    assert (await tunnel.ask(down(poll_ms=1))).frames[0].type == WELCOME
                assert len(here.gateway.http.connections) == 1

        run(main())

    def test_may_be_pipelined_with_the_tunnel(self, tmp_path: Path, tls: Tls) -> None:
        async def main() -> None:
            async with serving(tmp_path, "descriptor", tls) as (here, _), Tunnel(here.address) as tunnel:
                for n in range(1, 20):
                    tunnel.say(request("GET", "/slow?pieces=20"), post(up(f"user{n}")), request("GET", f"/echo?n={n}"))
                for n in range(1, 20):
                    assert len((await tunnel.answer()).body) == 200_000
                    assert (await tunnel.answer()).frames[0].map["user"] == f"user{n}"
                    assert f"n={n}" in (await tunnel.answer()).body.decode()

        run(main())

    def test_a_file_is_served(self, tmp_path: Path, tls: Tls, way: str) -> None:
        file = Path(__file__).read_bytes()

        async def main() -> None:
            async with serving(tmp_path, way, tls) as (here, _), Tunnel(here.address, trust(way, tls)) as tunnel:
                for _ in range(2):
                    tunnel.say(request("GET", "/files/test_http.py"))
                    assert (await tunnel.answer()).body == file

        run(main())

    def test_a_body_in_chunks_is_read_and_written_anew(self, tmp_path: Path, tls: Tls, way: str) -> None:
        async def main() -> None:
            async with serving(tmp_path, way, tls) as (here, _), Tunnel(here.address, trust(way, tls)) as tunnel:
                chunks = b"".join(b"%x;odd=yes\r\n%b\r\n" % (size, b"\x01" * size) for size in (1, 500, 100_000))
                head = request("POST", "/echo", more="Transfer-Encoding: chunked\r\n")
                for _ in range(2):
                    tunnel.say(head, chunks, b"0\r\nTrailer: x\r\n\r\n")
                    assert b'"size": 100501' in (await tunnel.answer()).body
                assert [each.type for each in (await tunnel.ask(up())).frames] == [WELCOME]

        run(main())

    def test_a_large_body_and_a_large_response_pass(self, tmp_path: Path, tls: Tls, way: str) -> None:
        async def main() -> None:
            async with serving(tmp_path, way, tls) as (here, _), Tunnel(here.address, trust(way, tls)) as tunnel:
                tunnel.say(request("POST", "/echo", b"\x01" * 20_000_000))
                assert b'"size": 20000000' in (await tunnel.answer()).body
                tunnel.say(request("GET", "/slow?pieces=500"))
                assert len((await tunnel.answer()).body) == 5_000_000

        run(main())

    def test_that_is_answered_before_it_is_whole_leaves_the_connection_good(self, tmp_path: Path, tls: Tls) -> None:
        async def main() -> None:
            async with serving(tmp_path, "descriptor", tls) as (here, _), Tunnel(here.address) as tunnel:
                whole = request("POST", "/early", b"x" * 100_000)
                tunnel.say(whole[:50_000])
                answered = await tunnel.answer()
                assert (answered.status, answered.body) == (403, b"no")
                tunnel.say(whole[50_000:])
                assert [each.type for each in (await tunnel.ask(up())).frames] == [WELCOME]

        run(main())

    def test_may_switch_to_another_protocol(self, tmp_path: Path, tls: Tls, way: str) -> None:
        async def main() -> None:
            async with serving(tmp_path, way, tls) as (here, _):
                scheme = "https" if way == "tls" else "http"
                connector = TCPConnector(ssl=trust(way, tls) or False)
                url = f"{scheme}://localhost:{here.address.rpartition(':')[2]}"
                async with ClientSession(url, connector=connector) as session, session.ws_connect("/switch") as socket:
                    for text in ("one", "two" * 10_000):
                        await socket.send_str(text)
                        assert await socket.receive_str() == text.upper()

        run(main())

    @pytest.mark.parametrize("protocol", ["websocket", "h2c", "tcp"])
    @pytest.mark.parametrize("more", ["", "Expect: 100-continue\r\n"])
    def test_that_is_not_switched_ends_the_connection_and_nothing_behind_it_is_read(
        self, tmp_path: Path, tls: Tls, protocol: str, more: str
    ) -> None:
        fields = f"Connection: upgrade\r\nUpgrade: {protocol}\r\n{more}"

        async def main() -> None:
            async with serving(tmp_path, "descriptor", tls) as (here, _), Tunnel(here.address) as tunnel:
                tunnel.say(request("POST", "/echo", b"HTTP/1.1 101 ", fields), request("GET", "/echo"))
                if more:
                    assert (await tunnel.head())[0] == 100
                answered = await tunnel.answer()
                assert (answered.status, b'"size": 13' in answered.body) == (200, True)
                tunnel.say(request("GET", "/echo"), b"GET\x20/echo HTTP/1.1\nHost: a\n\n")
                await tunnel.hear_end()
            await until(lambda: not here.gateway.http.connections)

        run(main())

    def test_that_switches_before_it_is_whole_or_without_being_asked_is_cut(self, tmp_path: Path, tls: Tls) -> None:
        async def main() -> None:
            async with serving(tmp_path, "descriptor", tls) as (here, _):
                upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\n"
                for said in (
                    request("GET", "/agree", more=upgrade) + b"frames",
                    request("GET", "/agree", more=f"{upgrade}Content-Length: 5\r\n") + b"1234",
                    request("GET", "/agree"),
                ):
                    async with Tunnel(here.address) as tunnel:
                        tunnel.say(said)
                        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                            await tunnel.answer()

        run(main())

    def test_what_a_common_client_asks_is_answered(self, tmp_path: Path, tls: Tls) -> None:
        async def main() -> None:
            async with serving(tmp_path, "descriptor", tls) as (here, _):
                async with ClientSession(f"http://{here.address}") as session:
                    for n in range(50):
                        async with session.post("/echo", data=b"\x02" * n) as response:
                            assert (await response.json())["sum"] == 2 * n
                    async with session.get("/nothing") as response:
                        assert response.status == 404
                assert len(here.gateway.http.connections) <= 1

        run(main())

    def test_that_is_cut_ends_its_handler_too(self, tmp_path: Path, tls: Tls) -> None:
        async def main() -> None:
            async with serving(tmp_path, "descriptor", tls) as (here, _), Tunnel(here.address) as tunnel:
                tunnel.say(request("POST", "/echo", b"x" * 1000)[:-1])
                await until(lambda: here.gateway.http.connections)
                tunnel.writer.close()
                await until(lambda: not here.gateway.http.connections)

        run(main())

    @pytest.mark.parametrize(
        "broken",
        [
            b"5\r\nhello\r\nzz\r\n",
            b"5\r\nhelloX",
            b"5\nhello",
        ],
    )
    def test_a_body_that_is_broken_is_named_and_ends_the_connection(
        self, tmp_path: Path, tls: Tls, broken: bytes
    ) -> None:
        async def main() -> None:
            async with serving(tmp_path, "descriptor", tls) as (here, _), Tunnel(here.address) as tunnel:
                tunnel.say(request("POST", "/echo", more="Transfer-Encoding: chunked\r\n"), broken)
                assert (await tunnel.answer()).status == 400
                await tunnel.hear_end()

        run(main())


class TestTime:
    """handshake_s is the time of a request's head, and to begin with of its body."""

    @pytest.mark.parametrize("first", [b"P", b"POST /im HTTP/1.1\r\nHost: x\r\n", post(up())[:-1], post(up())[:-100]])
    def test_a_request_that_does_not_come_on_is_let_go(self, tmp_path: Path, tls: Tls, way: str, first: bytes) -> None:
        async def main() -> None:
            async with (
                serving(tmp_path, way, tls, handshake_s=0.4) as (here, _),
                Tunnel(here.address, trust(way, tls)) as tunnel,
            ):
                tunnel.say(first)
                answered = await tunnel.answer()
                assert answered.status == 408 or answered.code == "timeout"
                assert answered.fields["connection"] == "close"
                await tunnel.hear_end(20)
                tunnel.writer.close()
                await until(lambda: not here.gateway.http.connections, 20)

        run(main())

    @pytest.mark.parametrize(
        ("begin", "drip"),
        [
            pytest.param(b"GET /", b"a", id="first line"),
            pytest.param(b"GET /echo HTTP/1.1\r\nHost: x\r\n", b"X: y\r\n", id="fields"),
            pytest.param(request("POST", "/echo", b"x" * 9999)[:-9999], b"x", id="body"),
            pytest.param(request("POST", "/echo", more=CHUNKED), b"1\r\nx\r\n", id="chunks"),
            pytest.param(request("POST", "/echo", more=CHUNKED) + b"1", b";a", id="chunk extensions"),
            pytest.param(request("POST", "/echo", more=CHUNKED) + b"0\r\n", b"X: y\r\n", id="trailers"),
        ],
    )
    def test_what_drips_is_let_go_all_the_same(self, tmp_path: Path, tls: Tls, begin: bytes, drip: bytes) -> None:
        async def main() -> None:
            async with (
                serving(tmp_path, "descriptor", tls, handshake_s=0.5) as (here, _),
                Tunnel(here.address) as tunnel,
            ):
                tunnel.say(begin)
                drips = 0
                while not tunnel.reader._buffer and drips < 1000:  # type: ignore[attr-defined]  # it has no peek
                    tunnel.say(drip)
                    await asyncio.sleep(0.05)
                    drips += 1
                assert (await tunnel.answer()).status == 408
                assert drips < 200

        run(main())

    def test_an_idle_connection_ends_after_idle_s_without_a_word(self, tmp_path: Path, tls: Tls, way: str) -> None:
        async def main() -> None:
            async with (
                serving(tmp_path, way, tls, idle_s=1) as (here, _),
                Tunnel(here.address, trust(way, tls)) as tunnel,
            ):
                for _ in range(3):
                    await tunnel.ask(up())
                    await asyncio.sleep(0.3)
                began = asyncio.get_running_loop().time()
                await tunnel.hear_end(20)
                assert asyncio.get_running_loop().time() - began > 0.5

        run(main())

    def test_a_response_that_nobody_reads_ends_with_the_connection(self, tmp_path: Path, tls: Tls) -> None:
        async def main() -> None:
            async with (
                serving(tmp_path, "descriptor", tls, idle_s=1) as (here, _),
                Tunnel(here.address) as tunnel,
            ):
                tunnel.hold(True)
                tunnel.say(request("GET", "/slow?pieces=3000"))
                await until(lambda: here.gateway.http.connections)
                await until(lambda: not here.gateway.http.connections, 20)

        run(main())

    def test_who_closes_for_good_is_answered_by_a_close_not_by_a_reset(self, tmp_path: Path, tls: Tls) -> None:
        async def main() -> None:
            async with serving(tmp_path, "descriptor", tls) as (here, _), Tunnel(here.address) as tunnel:
                tunnel.say(b"GET\r\n\r\n" + b"x" * 1_000_000)
                assert (await tunnel.answer()).status == 400
                await tunnel.hear_end(20)

        run(main())


class TestABrokenConnection:
    @pytest.mark.parametrize("run_on", [run, asyncio.run])
    def test_of_which_the_loop_does_not_know_yet_ends_like_any_other(
        self, tmp_path: Path, run_on: Callable[[Coroutine[Any, Any, None]], None], caplog: pytest.LogCaptureFixture
    ) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            async with running(tmp_path) as here:
                host, _, port = here.address.rpartition(":")
                with socket.socket() as peer:
                    peer.setblocking(False)
                    await loop.sock_connect(peer, (host, int(port)))
                    await loop.sock_sendall(peer, post(up()))
                    assert (await loop.sock_recv(peer, 100)).startswith(b"HTTP/1.1 200 OK")
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                here.gateway.http.leave()
                await until(lambda: not here.gateway.http.connections)

        run_on(main())
        assert not caplog.records
