"""Dialling reaches what is there, in clear or in TLS, and says what is wrong with what is not."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from pathlib import Path

import pytest

from imcore._codec import PING, PONG, encode
from imcore._hub import Hub
from imcore._link import Link
from imcore.cli.certificate import self_signed
from imcore.points import Point
from imcore.session import Phase, moves
from imcore.ways import dial as dialling
from imcore.ways.dial import dial

OPEN = moves(Phase.CLIENT_OPEN)


class Listening(Link):
    """A link that tells of the first PONG."""

    __slots__ = ("answered",)

    answered: asyncio.Future[int]

    def on_frame(self, type: int, flags: int, id: int, route: str, body: bytes) -> None:
        if type == PONG and not self.answered.done():
            self.answered.set_result(id)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers the first ping, whatever it was."""
    with contextlib.suppress(OSError):
        await reader.readexactly(16)
        writer.write(encode(PONG, 7))
        await writer.drain()
        await reader.read()
    writer.close()


async def reach(host: str, *, tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None, native: bool = True) -> None:
    """Dial a server there, and exchange a frame with it."""
    hub = Hub(asyncio.get_running_loop(), native=native)
    server = await asyncio.start_server(echo, host, 0, ssl=tls[0] if tls else None)
    try:
        port = server.sockets[0].getsockname()[1]
        link = Listening(hub, OPEN, 4096)
        link.answered = asyncio.get_running_loop().create_future()
        await dial(Point("tls" if tls else "tcp", host, port), link, tls[1] if tls else None)
        link.send(PING, 7)
        assert await asyncio.wait_for(link.answered, 5) == 7
        link.abort()
        await asyncio.sleep(0.05)
    finally:
        server.close()
        hub.close()


def both_sides(folder: Path, host: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts of a server called `host`, and of a client that trusts it and nobody else."""
    files, trust = self_signed(folder, host)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files.certificate, files.key)
    return server, trust


@pytest.mark.parametrize("native", [True, False])
def test_a_frame_goes_there_and_back_over_tcp(native: bool) -> None:
    asyncio.run(reach("127.0.0.1", native=native))


def test_and_over_tls(tmp_path: Path) -> None:
    asyncio.run(reach("127.0.0.1", tls=both_sides(tmp_path, "127.0.0.1")))


def test_a_certificate_for_another_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        asyncio.run(reach("127.0.0.1", tls=both_sides(tmp_path, "im.example.com")))


def test_a_host_that_refuses_and_a_name_that_is_none_are_os_errors() -> None:
    async def work() -> None:
        hub = Hub(asyncio.get_running_loop())
        try:
            with socket.socket() as bound:
                bound.bind(("127.0.0.1", 0))
                with pytest.raises(ConnectionRefusedError):
                    await dial(Point("tcp", "127.0.0.1", bound.getsockname()[1]), Link(hub, OPEN, 4096))
            for name in ("x" * 64, "nowhere.invalid"):
                with pytest.raises(OSError, match=r"."):
                    await dial(Point("tcp", name, 1), Link(hub, OPEN, 4096))
        finally:
            hub.close()

    asyncio.run(work())


def test_a_silent_address_costs_its_time_and_the_next_one_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent_first(family: int, kind: int, protocol: int, address: tuple[str, int]) -> socket.socket:
        if address[0] == "::1":
            raise TimeoutError("::1 did not answer")
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
        return sock

    async def both(host: str, port: int) -> list[tuple[int, int, int, tuple[str, int]]]:
        found = [(socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1")]
        return [(family, socket.SOCK_STREAM, 0, (address, port)) for family, address in found]

    async def work() -> None:
        hub = Hub(asyncio.get_running_loop())
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        monkeypatch.setattr(dialling, "_connect", silent_first)
        monkeypatch.setattr(dialling, "resolve", both)
        link = Link(hub, OPEN, 4096)
        await dial(Point("tcp", "localhost", server.sockets[0].getsockname()[1]), link)
        assert link.open
        link.abort()
        await asyncio.sleep(0.05)
        server.close()
        hub.close()

    asyncio.run(work())


def test_cancelling_leaves_nothing_open() -> None:
    async def work() -> None:
        hub = Hub(asyncio.get_running_loop())
        with socket.socket() as full:  # a backlog that is full: the next connection gets no answer
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            others = [socket.socket() for _ in range(4)]
            for other in others:
                other.setblocking(False)
                other.connect_ex(full.getsockname())
            link = Link(hub, OPEN, 4096)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await dial(Point("tcp", *full.getsockname()), link)
            assert not link.open
            for other in others:
                other.close()
        hub.close()

    asyncio.run(work())
