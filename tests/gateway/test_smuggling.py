"""Requests of any kind behind each other on one connection, cut anywhere, and one in which others could see two: each
is answered by whom it was for, in order, up to the first that is wrong; and what is hidden in that one never runs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from aiohttp import web

from imcore.gateway.limits import Limits
from imcore.gateway.web import Web
from tests.gateway.exchanges import Answered, Tunnel, post, up
from tests.gateway.running import run, running
from tests.gateway.wire import MSG, frame

STREAMS = 100
HOST = b"Host: im.example.com\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\n" + HOST + b"\r\n"
TUNNELLED = post(up("hidden"), frame(MSG, 1, "note", b"hidden"))


class Asked(NamedTuple):
    """One request. answered: whether this is its answer."""

    said: bytes
    answered: Callable[[Answered], bool]
    to_head: bool = False


def good(chance: random.Random, number: int) -> Asked:
    """One that is right."""
    body = chance.randbytes(chance.choice([1, 30, 3000]))
    told = f'{{"{number}": [{len(body)}, {sum(body)}]}}'.encode()
    kind = chance.randrange(5)
    if kind == 0:
        return Asked(b"GET /get/%d HTTP/1.1\r\n%b\r\n" % (number, HOST), lambda got: got.body == b"%d" % number)
    if kind == 1:
        said = b"HEAD /get/%d HTTP/1.1\r\n%b\r\n" % (number, HOST)
        return Asked(said, lambda got: (got.status, got.body) == (200, b""), to_head=True)
    if kind == 2:
        length = b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        return Asked(b"POST /sum/%d HTTP/1.1\r\n%b%b" % (number, HOST, length), lambda got: got.body == told)
    if kind == 3:
        at = chance.randrange(len(body) + 1)
        pieces = b"".join(b"%X;a=b\r\n%b\r\n" % (len(each), each) for each in (body[:at], body[at:]) if each)
        framed = b"Transfer-Encoding: chunked\r\n\r\n%b0\r\nContent-Length: 99\r\n\r\n" % pieces
        return Asked(b"POST /sum/%d HTTP/1.1\r\n%b%b" % (number, HOST, framed), lambda got: got.body == told)
    user = f"user{number}"
    return Asked(post(up(user)), lambda got: got.frames[0].map["user"] == user)


def hiding(chance: random.Random) -> bytes:
    """One that is wrong, with another one in it for who reads it in another way."""
    inner = chance.choice([HIDDEN, TUNNELLED])
    length = b"Content-Length: %d\r\n" % len(inner)
    fields = chance.choice(
        [
            b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"Transfer-Encoding: chunked\r\n%b\r\n0\r\n\r\n" % length,
            b"Content-Length: 0\r\n%b\r\n" % length,
            b"Content-Length: 0, %d\r\n\r\n" % len(inner),
            b"Content-Length: +0\r\n\r\n",
            b"Content-Length : 0\r\n\r\n",
            b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
            b"Transfer-Encoding: xchunked\r\n\r\n",
            b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
            b"X: y\nContent-Length: 0\r\n\r\n",
            b"X: y\r\n Content-Length: 0\r\n\r\n",
            b"X: y\rContent-Length: 0\r\n\r\n",
            b"Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n",
            b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
            b"Transfer-Encoding: chunked\r\n\r\n0;a\nb\r\n\r\n",
            b"Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n",
            b"Host: other\r\n\r\n",
        ]
    )
    first = chance.choice(
        [b"POST /sum/0 HTTP/1.1\r\n", b"POST /im HTTP/1.1\r\nContent-Type: application/octet-stream\r\n"]
    )
    return first + HOST + fields + inner


def application(seen: list[str]) -> web.Application:
    async def get(request: web.Request) -> web.Response:
        seen.append(request.path)
        return web.Response(text=request.match_info.get("number", ""))

    async def total(request: web.Request) -> web.Response:
        body = await request.read()
        seen.append(request.path)
        return web.json_response({request.match_info["number"]: [len(body), sum(body)]})

    app = web.Application()
    app.router.add_get("/get/{number}", get)
    app.router.add_get("/hidden", get)
    app.router.add_post("/sum/{number}", total)
    return app


async def speak(tunnel: Tunnel, stream: bytes, chance: random.Random) -> None:
    """In pieces, however the other side takes it."""
    at = 0
    while at < len(stream):
        size = chance.choice([1, 7, 100, 5000, len(stream)])
        tunnel.say(stream[at : at + size])
        at += size
        if chance.random() < 0.2:
            await asyncio.sleep(0)


@pytest.mark.parametrize("native", [True, False], ids=["descriptor", "transport"])
def test_each_request_is_answered_up_to_the_first_that_is_wrong_and_none_that_is_hidden_in_it(
    tmp_path: Path, native: bool
) -> None:
    chance = random.Random(native)
    seen: list[str] = []

    async def main() -> None:
        beside = Web(application(seen), 0.2)
        async with running(tmp_path, native=native, web=beside, limits=Limits(drain_s=0.2)) as here:
            for _ in range(STREAMS):
                asked = [good(chance, number) for number in range(chance.randrange(6))]
                wrong = hiding(chance)
                async with Tunnel(here.address) as tunnel:
                    stream = b"".join(each.said for each in asked) + wrong
                    speaking = asyncio.create_task(speak(tunnel, stream, chance))
                    for each in asked:
                        got = await tunnel.answer(to_head=each.to_head)
                        assert each.answered(got), (each, got)
                    assert (await tunnel.answer()).status in (400, 411, 413, 501), wrong
                    await tunnel.hear_end()
                    await speaking
            assert not here.seen
            assert "/hidden" not in seen

    run(main())
