"""A connection that is to be still: nothing moves on it until its time, and then the gateway speaks first."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imcore.gateway import http
from imcore.gateway.still import read_still
from imcore.proof import NONCE, still_page
from tests.gateway.running import run, running, until


async def ask(address: str, target: str, method: str = "GET") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{method} {target} HTTP/1.1\r\nHost: im.example.com\r\n\r\n".encode())
    return reader, writer


async def answer(address: str, target: str, method: str = "GET") -> bytes:
    reader, writer = await ask(address, target, method)
    try:
        async with asyncio.timeout(20):
            return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize("native", [True, False])
def test_the_gateway_speaks_after_the_silence_that_was_asked_for_and_closes(tmp_path: Path, native: bool) -> None:
    async def main() -> None:
        async with running(tmp_path, native=native) as here:
            began = asyncio.get_running_loop().time()
            said = await answer(here.address, "/im/still?n=abc&ms=300")
            assert asyncio.get_running_loop().time() - began >= 0.29
            head, _, body = said.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert body == still_page("abc")
            assert not here.gateway.http.still

    run(main())


@pytest.mark.parametrize(
    "target",
    ["/im/still", "/im/still?n=abc", "/im/still?n=abc&ms=0", "/im/still?n=abc&ms=600001", "/im/still?n=a%0Ab&ms=5",
     "/im/still?n=abc&ms=5&ms=5", "/im/still?n=abc&ms=5&x=5", "/im/still?n=abc&ms=-5", "/im/still?n=abc&ms=5.5"],
)  # fmt: skip
def test_what_can_t_be_meant_is_refused(tmp_path: Path, target: str) -> None:
    async def main() -> None:
        async with running(tmp_path) as here:
            assert (await answer(here.address, target)).startswith(b"HTTP/1.1 400 ")
            assert (await answer(here.address, "/im/still?n=abc&ms=5", "POST")).startswith(b"HTTP/1.1 405 ")

    run(main())


def test_only_so_many_are_kept_and_who_goes_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "STILL_MOST", 1)

    async def main() -> None:
        async with running(tmp_path) as here:
            _, one = await ask(here.address, "/im/still?n=one&ms=60000")
            await until(lambda: here.gateway.http.still)
            assert (await answer(here.address, "/im/still?n=two&ms=5")).startswith(b"HTTP/1.1 503 ")
            one.close()
            await until(lambda: not here.gateway.http.still)
            assert (await answer(here.address, "/im/still?n=two&ms=5")).endswith(still_page("two"))

    run(main())


def test_who_is_still_keeps_no_gateway_from_stopping(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as here:
            reader, writer = await ask(here.address, "/im/still?n=one&ms=60000")
            await until(lambda: here.gateway.http.still)
            await here.gateway.drain()
            async with asyncio.timeout(20):
                assert await reader.read() == b""
            assert not here.gateway.http.still
            writer.close()

    run(main())


def test_the_longest_silence_is_the_longest_heartbeat() -> None:
    assert read_still(b"n=abc&ms=60000", 60) == ("abc", 60_000)
    with pytest.raises(ValueError, match="1 to 60000"):
        read_still(b"n=abc&ms=60001", 60)


@given(st.binary(max_size=200) | st.from_regex(rb"n=[a-z]{0,3}&ms=[0-9]{0,9}", fullmatch=True), st.integers(1, 65535))
def test_whatever_is_asked_is_a_nonce_and_a_silence_within_the_bounds_or_named(query: bytes, most_s: int) -> None:
    named, nonce, silence_ms = "", "none", 1
    try:
        nonce, silence_ms = read_still(query, most_s)
    except ValueError as error:
        named = str(error)
    assert not named or "expected" in named
    assert NONCE.fullmatch(nonce)
    assert 1 <= silence_ms <= most_s * 1000
