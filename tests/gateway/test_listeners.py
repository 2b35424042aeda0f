"""Where links come in: addresses, TLS, and clear words when one can't be had."""

from __future__ import annotations

import os
import select
import socket
import ssl
from pathlib import Path

import pytest

from imcore.cli.certificate import self_signed
from imcore.errors import ConfigError
from imcore.gateway.limits import Limits
from imcore.gateway.listeners import Listen, Tls, is_loopback, parse_address
from tests.gateway.running import run, running
from tests.gateway.wire import ACK, MSG, PING, PONG, Wire, frame


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """A certificate for localhost that signs itself."""
    return self_signed(tmp_path_factory.mktemp("tls"), "localhost")[0]


def test_the_same_frames_go_over_tls(tmp_path: Path, tls: Tls) -> None:
    async def main() -> None:
        trust = ssl.create_default_context(cafile=tls.certificate)
        async with running(tmp_path, tls=tls) as here, Wire(here.address, trust) as wire:
            await wire.greet("bob")
            for n in range(200):
                await here.service.push("bob", "chat", b"%d" % n * 500)
            for n in range(200):
                got = await wire.hear()
                assert (got.type, got.id, got.body) == (MSG, n + 1, b"%d" % n * 500)
                wire.say(frame(ACK, got.id))
            wire.say(frame(MSG, 1, "note", b"x" * 60_000), frame(PING, 5))
            answers = {(await wire.hear())[:3] for _ in range(2)}
            assert answers == {(ACK, 0, 1), (PONG, 0, 5)}

    run(main())


def test_a_client_without_tls_is_let_go(tmp_path: Path, tls: Tls) -> None:
    async def main() -> None:
        async with running(tmp_path, tls=tls) as here, Wire(here.address) as wire:
            wire.say(frame(PING))
            assert PONG not in await wire.reader.read()

    run(main())


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="links have no descriptor of their own here")
def test_what_waits_for_a_slow_link_does_not_wait_in_the_kernel(tmp_path: Path) -> None:
    async def main() -> None:
        limits = Limits(window_bytes=100_000)
        async with running(tmp_path, limits=limits) as here, Wire(here.address) as wire:
            await wire.greet("bob")
            (link,) = here.gateway.links("bob")
            with socket.socket(fileno=os.dup(link.fileno())) as sock:
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 100_000

    run(main())


@pytest.mark.parametrize(
    ("address", "parsed"),
    [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:0", ("::1", 0)), ("im.example.com:65535", ("im.example.com", 65535))],
)
def test_an_address_is_host_and_port(address: str, parsed: tuple[str, int]) -> None:
    assert parse_address(address) == parsed


@pytest.mark.parametrize(
    "address", ["", "8080", ":8080", "host:", "host:x", "host:65536", "::1:80", "host:-1", "host:\uff11"]
)
def test_anything_else_says_what_was_expected(address: str) -> None:
    with pytest.raises(ConfigError, match="expected host:port"):
        parse_address(address)


@pytest.mark.parametrize(
    ("address", "loopback"),
    [("127.0.0.1:1", True), ("127.8.9.1:1", True), ("[::1]:1", True), ("localhost:1", True), ("0.0.0.0:1", False),
     ("[::]:1", False), ("192.0.2.1:1", False), ("example.com:1", False)],
)  # fmt: skip
def test_loopback_is_what_only_this_machine_reaches(address: str, loopback: bool) -> None:
    assert is_loopback(address) is loopback


def test_an_address_in_use_is_named(tmp_path: Path) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            async with running(tmp_path) as here:
                with pytest.raises(ConfigError, match="another program listens there"):
                    await here.gateway.listen([Listen(address)])

    run(main())


def test_an_address_of_another_machine_is_named(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as here:
            with pytest.raises(ConfigError, match="does not have that address"):
                await here.gateway.listen([Listen("192.0.2.1:0")])

    run(main())


def test_tls_files_that_are_missing_or_wrong_are_named(tmp_path: Path, tls: Tls) -> None:
    async def main() -> None:
        async with running(tmp_path) as here:
            with pytest.raises(ConfigError, match=r"no such file: nowhere\.pem"):
                await here.gateway.listen([Listen("127.0.0.1:0", Tls("nowhere.pem", tls.key))])
            with pytest.raises(ConfigError, match="belong together"):
                await here.gateway.listen([Listen("127.0.0.1:0", Tls(tls.key, tls.certificate))])

    run(main())
