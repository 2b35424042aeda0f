"""What answers in the gateway's place is named, and nothing of it is taken for a frame."""

from __future__ import annotations

import asyncio
import gzip
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from imcore._codec import ERROR, MSG, WELCOME, encode
from imcore.client import Client, State
from imcore.messages import Error, Welcome, pack
from tests.client.http_relays import Asked, Relay, read, relay, response, whole
from tests.client.peer import until
from tests.gateway.running import run, running

pytestmark = pytest.mark.usefixtures("quick")

OCTETS = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream"
GOOD = encode(WELCOME, body=pack(Welcome("s", "alice", "n", "e", 1, 1, True, 0, (30, 600), 120, 65536, 0)))
MESSAGE = encode(MSG, 1, "news", b"forged")
PAGE = b"<html>Please log in</html>"


def page(status: bytes, kind: bytes = b"text/html", more: bytes = b"", body: bytes = PAGE) -> bytes:
    return response(b"HTTP/1.1 %b\r\nContent-Type: %b%b" % (status, kind, more), body)


IMPOSTORS: dict[str, tuple[bytes, str]] = {
    "a portal's page": (page(b"200 OK"), "PORTAL"),
    "a portal's page that calls itself ours": (response(OCTETS, PAGE), "PORTAL"),
    "a redirect": (page(b"302 Found", more=b"\r\nLocation: http://login.example/"), "PORTAL: .*login.example"),
    "a network that wants a login": (page(b"511 Network Authentication Required"), "PORTAL"),
    "a page for old phones": (page(b"200 OK", b"text/vnd.wap.wml", body=b"<wml/>"), "PORTAL"),
    "a proxy that wants a password": (page(b"407 Proxy Authentication Required"), "PROXY_LOGIN"),
    "a proxy that forbids": (page(b"403 Forbidden"), "PROXY_FORBIDS"),
    "a proxy that reaches nobody": (page(b"502 Bad Gateway"), "PROXY_LOST"),
    "another server": (page(b"404 Not Found"), "HIJACK"),
    "an empty answer": (b"HTTP/1.1 204 No Content\r\n\r\n", "HIJACK"),
    "another type": (page(b"200 OK", b"application/json", body=GOOD), "HIJACK"),
    "no type": (response(b"HTTP/1.1 200 OK", GOOD), "HIJACK"),
    "no HTTP": (b"220 mail.example ESMTP\r\n", "HIJACK: .*no HTTP"),
    "frames without HTTP": (GOOD, "HIJACK: .*no HTTP"),
    "a switch of protocols": (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n" + GOOD, "HIJACK"),
    "an answer that is old": (response(OCTETS + b"\r\nAge: 60", GOOD + MESSAGE), "CACHED: .*60 s old"),
    "an answer that says that it is packed": (
        response(OCTETS + b"\r\nContent-Encoding: gzip", gzip.compress(GOOD)),
        "REWRITTEN: .*gzip",
    ),
    "an answer that is packed": (response(OCTETS, gzip.compress(GOOD)), "REWRITTEN"),
    "an answer with a script before it": (response(OCTETS, b"<script></script>" + GOOD), "PORTAL"),
    "an answer with a script behind it": (
        response(OCTETS, GOOD + b"<script></script>"),
        "CACHED: .*session 's'",  # it was welcomed, and so it is asked once more: then the session is an old one
    ),
    "an answer that is cut off": (OCTETS + b"\r\nContent-Length: 1000\r\n\r\n" + GOOD[:20], "TRUNCATED"),
    "an answer without an end": (OCTETS + b"\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n" + GOOD[:5], "TRUNCATED"),
    "no answer": (b"", "CLOSED"),
    "endless hints": (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 20, "HIJACK"),
    "a message without a welcome": (response(OCTETS, MESSAGE), "REWRITTEN"),
}


class Server:
    """Gives every request the same answer, and closes."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer

    async def came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if await read(reader) is not None:
                writer.write(self.answer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@pytest.mark.parametrize("which", IMPOSTORS)
def test_an_impostor_is_named_and_brings_nothing(which: str) -> None:
    answer, name = IMPOSTORS[which]

    async def work() -> None:
        server = await asyncio.start_server(Server(answer).came, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        said: list[tuple[State, str]] = []
        point = f"http://{host}:{port}"
        async with asyncio.timeout(10), Client([point], "alice", "phone", on_state=lambda *all: said.append(all)) as im:
            await until(lambda: im.state is State.WAITING)
            assert im.welcome is None or "behind" in which
            assert im._receiving.downlink.hand_out() is None
        server.close()
        [text, *_] = [text for state, text in said if state is State.WAITING]
        assert re.search(name, text), text

    asyncio.run(work())


def test_a_gateway_that_refuses_is_no_impostor() -> None:
    async def work() -> None:
        answer = response(OCTETS, encode(ERROR, body=pack(Error("unauthorized", "who are you?", None))))
        server = await asyncio.start_server(Server(answer).came, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        async with asyncio.timeout(10), Client([f"http://{host}:{port}"], "alice", "phone") as im:
            await until(lambda: "unauthorized: who are you?: check the token" in im.state_text)
            assert im.state is State.CLOSED
        server.close()

    asyncio.run(work())


@pytest.mark.parametrize(
    "change",
    [lambda body: body + b"<script></script>", lambda body: body[:-3], gzip.compress, lambda body: PAGE],
    ids=["a script behind it", "shorter", "packed", "a page"],
)
def test_answers_that_are_changed_now_and_then_cost_time_and_nothing_else(
    change: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    count = 0

    async def now_and_then(proxy: Relay, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        nonlocal count
        count += 1
        head, body = await whole(proxy, asked)
        writer.write(response(head, change(body) if count % 3 == 0 else body))
        return True

    async def work() -> None:
        async with (
            asyncio.timeout(20),
            running(tmp_path) as gateway,
            relay(gateway.address, now_and_then) as (point, _),
            Client([point], "alice", "phone") as im,
        ):
            for number in range(12):
                await im.send("note", b"%d" % number)
            assert [uplink.body for uplink in gateway.seen] == [b"%d" % number for number in range(12)]

    run(work())
