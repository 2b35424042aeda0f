"""Through a proxy there is a connection, or a named reason why not, within a bounded time: whatever the proxy says."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Literal, TypeVar

import pytest
import uvloop
from hypothesis import example, given, settings
from hypothesis import strategies as st

from imcore.client import Client
from imcore.errors import WayError
from imcore.points import Point
from imcore.ways import proxies as module
from imcore.ways.dial import Stream
from imcore.ways.fetch import Progress, Request, fetch
from imcore.ways.memory import Memory
from imcore.ways.outcomes import Outcome, WayFailed
from imcore.ways.proxies import Passage, Proxies, passages, reach
from imcore.ways.proxy import Proxy
from tests.gateway.running import running, until
from tests.ways.standing import HttpProxy, SocksProxy, answers, standing

Result = TypeVar("Result")

NAMED = Point("tcp", "im.example.com", 8080)
Scheme = Literal["http", "socks5"]
HTTP: Scheme = "http"
SOCKS: Scheme = "socks5"


def run(work: Coroutine[Any, Any, Result]) -> Result:
    return uvloop.run(work)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(100):
        writer.write(data)


async def passes(proxy: Proxy, point: Point, passage: Passage) -> None:
    """Bytes go there and back, and not one that is not ours."""
    stream = await reach(point, proxy, passage)
    with stream.sock as sock:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, b"frames")
        async with asyncio.timeout(5):
            assert await loop.sock_recv(sock, 100) == b"frames"
    assert stream[1:3] == (b"", b"")


async def outcome(handler: Any, scheme: Scheme = HTTP, **who: Any) -> Outcome:
    """What comes of asking such a proxy. Fails if that takes too long."""
    async with standing(handler) as port:
        with pytest.raises(WayFailed) as caught:
            async with asyncio.timeout(module.REPLY_S + 5):
                await reach(NAMED, Proxy(scheme, "127.0.0.1", port, **who), Passage.NAME)
        return caught.value.outcome


class TestPassages:
    def test_are_those_that_the_point_allows_best_first(self) -> None:
        http, socks = Proxy(HTTP, "p", 1), Proxy(SOCKS, "p", 1)
        tunnel = Point("http", "im.example.com", 80)
        assert passages(tunnel, http) == [Passage.ABSOLUTE, Passage.NAME, Passage.ADDRESS]
        for point, proxy in ((NAMED, http), (NAMED, socks), (tunnel, socks), (Point("https", "h", 443), http)):
            assert passages(point, proxy) == [Passage.NAME, Passage.ADDRESS]
        assert passages(Point("tcp", "10.0.0.1", 1), http) == [Passage.ADDRESS]
        assert passages(Point("http", "::1", 1), http) == [Passage.ABSOLUTE, Passage.ADDRESS]

    def test_what_passed_last_is_tried_first_and_what_failed_last_of_all(self) -> None:
        async def work() -> None:
            memory = Memory()
            async with standing(HttpProxy()) as port, standing(echo) as target:
                proxy = Proxy(HTTP, "127.0.0.1", port)
                proxies = Proxies(lambda point: proxy, memory)
                point = Point("http", "localhost", target)

                async def next_one() -> Stream:
                    stream = await proxies(point)
                    stream.sock.close()
                    return stream

                first = await next_one()
                assert first.prefix == b"http://localhost:%d" % target
                assert first.told("SILENT") is False  # no fault of the passage
                assert first.told("PROXY_FORBIDS") is True
                second = await next_one()
                assert second.prefix == b""
                assert second.told(None) is False
                assert (await next_one()).prefix == b""
                assert second.told("PROXY_FORBIDS") is False  # it has passed before
                again = Proxies(lambda point: proxy, memory)
                (stream := await again(point)).sock.close()
                assert stream.prefix == b"", "another client knows it too"

        run(work())

    def test_when_all_have_failed_it_begins_anew(self) -> None:
        async def work() -> None:
            async with standing(HttpProxy()) as port, standing(echo) as target:
                proxies = Proxies(lambda point: Proxy(HTTP, "127.0.0.1", port), Memory())
                said = []
                for _ in range(4):
                    stream = await proxies(Point("http", "localhost", target))
                    stream.sock.close()
                    said.append((bool(stream.prefix), stream.told("HIJACK")))
                assert said == [(True, True), (False, True), (False, False), (True, True)]

        run(work())

    def test_a_proxy_that_forbids_each_of_them_is_asked_once_for_each(self) -> None:
        forbids = HttpProxy(addresses=False)

        async def work() -> None:
            async with standing(forbids) as port:
                proxies = Proxies(lambda point: Proxy(HTTP, "127.0.0.1", port), Memory())
                with pytest.raises(WayError) as caught:
                    await fetch(Point("http", "10.0.0.1", 80), Request("/"), Progress(), through=proxies)
                assert caught.value.outcome == "PROXY_FORBIDS"

        run(work())
        assert [line.split()[0] for line in forbids.asked] == ["GET", "CONNECT"]

    def test_without_a_proxy_it_is_the_point_that_is_reached(self) -> None:
        async def work() -> None:
            async with standing(echo) as port:
                stream = await Proxies(lambda point: None, Memory())(Point("tcp", "127.0.0.1", port))
                stream.sock.close()
                assert stream[1:3] == (b"", b"")

        run(work())

    def test_a_name_that_is_none_is_no_proxys_fault(self) -> None:
        async def work() -> None:
            async with standing(HttpProxy()) as port:
                for scheme in (HTTP, SOCKS):
                    for passage in Passage:
                        proxy = Proxy(scheme, "127.0.0.1", port)
                        with pytest.raises(OSError, match="can be looked up"):
                            await reach(Point("http", "x" * 64, 80), proxy, passage)

        run(work())


class TestPassing:
    @pytest.mark.parametrize("kind", [HttpProxy, SocksProxy])
    @pytest.mark.parametrize("who", [None, "user:pa:ss"])
    def test_by_name_and_by_address_with_credentials_and_without(self, kind: Any, who: str | None) -> None:
        async def work() -> None:
            standing_proxy = kind(who=who)
            async with standing(echo) as port, standing(standing_proxy) as at:
                user, _, password = (who or "").partition(":")
                proxy = Proxy(HTTP if kind is HttpProxy else SOCKS, "127.0.0.1", at, user or None, password)
                await passes(proxy, Point("tcp", "im.example.com", port), Passage.NAME)
                await passes(proxy, Point("tcp", "localhost", port), Passage.ADDRESS)
                await passes(proxy, Point("tcp", "127.0.0.1", port), Passage.ADDRESS)
                asked = [each.removeprefix("CONNECT ").split(":")[0] for each in standing_proxy.asked]
                assert (asked[0], asked[-1]) == ("im.example.com", "127.0.0.1")
                assert "localhost" not in asked

        run(work())

    def test_absolute_form_is_a_connection_to_the_proxy_and_what_requests_carry(self) -> None:
        async def work() -> None:
            async with standing(echo) as port:
                proxy = Proxy(HTTP, "127.0.0.1", port, "user", "secret")
                stream = await reach(NAMED, proxy, Passage.ABSOLUTE)
                with stream.sock as sock:
                    assert sock.getpeername() == ("127.0.0.1", port)
                assert stream.prefix == b"http://im.example.com:8080"
                assert stream.fields == b"Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n"
                for host, form in (("bücher.example", b"http://xn--bcher-kva.example:80"), ("::1", b"http://[::1]:80")):
                    stream = await reach(Point("tcp", host, 80), Proxy(HTTP, "127.0.0.1", port), Passage.ABSOLUTE)
                    stream.sock.close()
                    assert stream[1:3] == (form, b"")

        run(work())


class TestFailing:
    def test_a_proxy_that_is_not_there(self) -> None:
        async def work() -> None:
            with socket.socket() as bound:
                bound.bind(("127.0.0.1", 0))
                port = bound.getsockname()[1]
                for scheme in (HTTP, SOCKS):
                    for host in ("127.0.0.1", "nowhere.invalid"):
                        with pytest.raises(WayFailed) as caught:
                            await reach(NAMED, Proxy(scheme, host, port), Passage.NAME)
                        assert caught.value.outcome is Outcome.PROXY_REFUSED

        run(work())

    def test_one_that_says_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "REPLY_S", 0.2)

        async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for byte in b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000:
                if writer.is_closing():
                    break
                writer.write(bytes([byte]))
                await asyncio.sleep(0.01)

        for said in (b"", b"HTTP/1.1 200", b"HTTP/1.1 100 Continue\r\n\r\n"):
            assert run(outcome(answers(said, then_closes=False))) is Outcome.PROXY_SILENT
        assert run(outcome(drip)) is Outcome.PROXY_SILENT
        for said in (b"", b"\x05", b"\x05\x00\x05\x00\x00\x03\xff"):
            assert run(outcome(answers(said, then_closes=False), SOCKS)) is Outcome.PROXY_SILENT

    @pytest.mark.parametrize(
        ("said", "expected"),
        [
            (b"HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\n\r\n", Outcome.PROXY_LOGIN),
            (b"HTTP/1.0 401 No\r\nWWW-Authenticate: Basic\r\n\r\n", Outcome.PROXY_LOGIN),
            (b"HTTP/1.1 403 No\r\nContent-Length: 100000\r\n\r\nno", Outcome.PROXY_FORBIDS),
            (b"HTTP/1.1 405 No\r\n\r\n", Outcome.PROXY_FORBIDS),
            (b"HTTP/1.1 302 Found\r\nLocation: http://portal/\r\n\r\n", Outcome.PROXY_FORBIDS),
            (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", Outcome.PROXY_LOST),
            (b"HTTP/1.1 504 Gateway Timeout\r\n\r\n", Outcome.PROXY_LOST),
            (b"HTTP/1.1 200 OK\r\n\r\n<html>", Outcome.PROXY_BROKEN),
            (b"HTTP/1.1 200 OK\r\n", Outcome.PROXY_BROKEN),
            (b"HTTP/2 200\r\n\r\n", Outcome.PROXY_BROKEN),
            (b"<html>", Outcome.PROXY_BROKEN),
            (b"", Outcome.PROXY_BROKEN),
            (b"\xa1" * 100_000, Outcome.PROXY_BROKEN),
            (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000, Outcome.PROXY_BROKEN),
        ],
    )
    def test_one_that_answers_connect_with_something_else(self, said: bytes, expected: Outcome) -> None:
        assert run(outcome(answers(said))) is expected

    @pytest.mark.parametrize(
        ("said", "expected"),
        [
            (b"\x05\xff", Outcome.PROXY_LOGIN),
            (b"\x05\x02", Outcome.PROXY_LOGIN),
            (b"\x05\x00\x05\x01\x00", Outcome.PROXY_LOST),
            (b"\x05\x00\x05\x02\x00", Outcome.PROXY_FORBIDS),
            (b"\x05\x00\x05\x04\x00", Outcome.PROXY_LOST),
            (b"\x05\x00\x05\x05\x00", Outcome.PROXY_LOST),
            (b"\x05\x00\x05\x08\x00", Outcome.PROXY_FORBIDS),
            (b"\x05\x00\x05\x77\x00", Outcome.PROXY_BROKEN),
            (b"\x05\x00\x05\x00\x00\x03\x01\xff\x00\x00", Outcome.PROXY_BROKEN),
            (b"\x05\x00\x05\x00\x00\x09\x00", Outcome.PROXY_BROKEN),
            (b"\x04\x00", Outcome.PROXY_BROKEN),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", Outcome.PROXY_BROKEN),
            (b"", Outcome.PROXY_BROKEN),
        ],
    )
    def test_one_that_answers_socks_with_something_else(self, said: bytes, expected: Outcome) -> None:
        assert run(outcome(answers(said), SOCKS)) is expected

    def test_wrong_credentials_and_none(self) -> None:
        for scheme, kind in ((HTTP, HttpProxy), (SOCKS, SocksProxy)):
            for who in ({}, {"user": "eve", "password": "x"}):
                assert run(outcome(kind(who="user:pass"), scheme, **who)) is Outcome.PROXY_LOGIN

    def test_the_reason_tells_what_is_wanted_and_no_password(self) -> None:
        async def work() -> None:
            async with standing(HttpProxy(who="user:pass")) as port:
                with pytest.raises(WayFailed, match=r"407.*Basic realm.*did not take ours") as caught:
                    await reach(NAMED, Proxy(HTTP, "127.0.0.1", port, "eve", "secret"), Passage.NAME)
                assert "secret" not in str(caught.value)

        run(work())


HEADS = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.0 200 \r\nA: b\r\n\r\n",
        b"HTTP/1.1 407 x\r\n\r\n",
        b"\x05\x00",
        b"\x05\x02\x01\x00",
        b"\x05\x00\x05\x00\x00\x01",
        b"\x05\x00\x05\x00\x00\x03\x04",
        b"\x05\x00\x05\x00\x00\x04",
    ]
)


class TestHostileProxies:
    @given(st.lists(HEADS | st.binary(max_size=40), max_size=4), st.booleans(), st.sampled_from([HTTP, SOCKS]))
    @example([b"\x05\x00\x05\x00\x00\x03\x04\xff\xff\xff\xff\x00\x00"], True, SOCKS)
    @settings(max_examples=150)
    def test_end_in_a_connection_or_in_a_name_and_soon(self, said: list[bytes], closes: bool, scheme: Any) -> None:
        async def work() -> None:
            async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                for piece in said:
                    if not writer.transport.is_closing():  # it has heard enough
                        writer.write(piece)
                    await asyncio.sleep(0)
                if not closes:
                    await reader.read()

            async with standing(handle) as port:
                began = time.monotonic()
                proxy = Proxy(scheme, "127.0.0.1", port, "user", "pass")
                try:
                    reached = await reach(NAMED, proxy, Passage.NAME)
                except WayFailed as error:
                    assert error.outcome in Outcome  # noqa: PT017 - a connection is fine too
                else:
                    reached.sock.close()
                assert time.monotonic() - began < 5

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "REPLY_S", 0.05)
            run(work())

    def test_cancelling_leaves_nothing_open(self) -> None:
        async def work() -> None:
            for scheme in (HTTP, SOCKS):
                closed = asyncio.Event()

                async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                    await reader.read()
                    closed.set()  # noqa: B023 - it is awaited before the next one is made

                async with standing(handle) as port:
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(0.1):
                            await reach(NAMED, Proxy(scheme, "127.0.0.1", port), Passage.NAME)
                    async with asyncio.timeout(5):
                        await closed.wait()

        run(work())


class TestAClientBehindOne:
    """Raw frames: the real client and a real gateway, with such a proxy between them."""

    @pytest.mark.parametrize(
        "proxy", [HttpProxy(), HttpProxy(names=False), HttpProxy(who="u:p"), SocksProxy(), SocksProxy(names=False)]
    )
    def test_sends_and_receives(self, tmp_path: Path, proxy: HttpProxy | SocksProxy) -> None:
        async def work() -> None:
            async with running(tmp_path) as here, standing(proxy) as port:
                at = f"{'http' if isinstance(proxy, HttpProxy) else 'socks5'}://u:p@127.0.0.1:{port}"
                point = f"localhost:{here.address.rpartition(':')[2]}"
                async with Client([point], "bob", "phone", proxy=at) as im:
                    await im.send("note", b"up", timeout=10)
                    await here.service.push("bob", "note", b"down")
                    async with asyncio.timeout(10):
                        assert (await anext(aiter(im))).body == b"down"
            assert [message.body for message in here.seen] == [b"up"]
            assert proxy.asked

        run(work())

    def test_is_told_by_name_what_stands_in_the_way(self, tmp_path: Path) -> None:
        async def work() -> None:
            said: list[str] = []
            async with standing(HttpProxy(who="u:p")) as port:
                at = f"http://127.0.0.1:{port}"
                async with Client(
                    ["im.example.com"], "bob", "phone", proxy=at, on_state=lambda state, text: said.append(text)
                ):
                    await until(lambda: any("PROXY_LOGIN" in text for text in said))

        run(work())
