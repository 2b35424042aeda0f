"""Links on asyncio's transports: TLS, closing transports, and the shared buffer."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
from functools import partial
from pathlib import Path

import pytest

from imcore._codec import ERROR, MSG, PING, PONG, Frame, encode
from imcore.carrier import TransportCarrier
from tests.links import Fake, Loops, Recorder, hubs, join, on_both_loops, pair, run, settle, turns

Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> Contexts:
    """The server's and the client's, of a certificate made for the occasion."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    folder: Path = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", "key", "-out", "cert"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "cert", folder / "key")
    return server, ssl.create_default_context(cafile=str(folder / "cert"))


@on_both_loops
class TestTls:
    def test_frames_of_any_size_go_both_ways_and_the_last_words_arrive(self, loops: Loops, contexts: Contexts) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            async with hubs() as hub:
                here, there = Recorder(hub, max_frame=1 << 24), Recorder(hub, max_frame=1 << 24)
                server = await loop.create_server(lambda: TransportCarrier(here), "127.0.0.1", 0, ssl=contexts[0])
                port = server.sockets[0].getsockname()[1]
                await loop.create_connection(
                    lambda: TransportCarrier(there), "127.0.0.1", port, ssl=contexts[1], server_hostname="localhost"
                )
                await settle(lambda: here.open)
                for number, size in enumerate([0, 1, 16_383, 16_384, 65_536, 300_000, 5_000_000], 1):
                    here.send(MSG, number, "r", bytes([number]) * size)
                    there.send(MSG, number, "r", bytes([number]) * size)
                    await settle(lambda number=number: len(here.calls) == len(there.calls) == number)  # type: ignore[misc]  # mypy can't infer the default
                assert here.calls == there.calls
                assert here.calls[-1] == ("frame", MSG, 0, 7, "r", bytes([7]) * 5_000_000)
                here.send(ERROR, body=b"why")
                here.close()
                await settle(lambda: there.named("end"))
                assert there.calls[-2:] == [("frame", ERROR, 0, 0, "", b"why"), ("end", None)]
                server.close()
                await server.wait_closed()

        run(main(), loops)


@on_both_loops
class TestATransport:
    def test_that_is_closing_takes_nothing_and_raises_nothing(self, loops: Loops) -> None:
        async def main() -> None:
            told: list[object] = []
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
            async with hubs(window=1000) as hub:
                for how in ("send", "close", "hold"):
                    link = Recorder(hub)
                    here, _ = pair()
                    transport, carrier = await asyncio.get_running_loop().create_connection(
                        partial(TransportCarrier, link),
                        sock=here,
                    )
                    transport.close()
                    if how == "send":
                        link.send(MSG, 1, body=bytes(5000))
                    elif how == "close":
                        link.close()
                    else:
                        carrier.pause(True)
                        carrier.pause(False)
                        carrier.write(b"x")
                        carrier.end()
                    await settle(lambda link=link: link.named("end"))  # type: ignore[misc]  # mypy can't infer the default
                    assert link.calls == [("end", None)]
            assert told == []

        run(main(), loops)

    def test_of_a_link_that_ended_before_is_dropped(self, loops: Loops) -> None:
        async def main() -> None:
            async with hubs() as hub:
                link = Recorder(hub)
                link.abort()
                here, there = pair()
                await asyncio.get_running_loop().create_connection(lambda: TransportCarrier(link), sock=here)
                there.setblocking(True)
                there.settimeout(5)
                with contextlib.suppress(ConnectionResetError):
                    assert await asyncio.to_thread(there.recv, 1) == b""
                await turns()
                assert hub.links == 0

        run(main(), loops)

    def test_that_breaks_says_so(self, loops: Loops) -> None:
        async def main() -> None:
            async with hubs() as hub:
                link = Recorder(hub)
                peer = await join(link, "transport")
                assert peer.sock is not None
                peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                peer.sock.close()
                await settle(lambda: link.calls)
                assert link.calls == [("end", ConnectionResetError)]

        run(main(), loops)

    def test_that_is_broken_before_the_loop_knows_ends_all_the_same(self, loops: Loops) -> None:
        async def main() -> None:
            told: list[object] = []
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
            async with hubs() as hub:
                link = Recorder(hub)
                peer = await join(link, "transport")
                assert peer.sock is not None
                peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                peer.sock.close()
                link.close()
                await settle(lambda: link.calls)
                assert [name for name, *_ in link.calls] == ["end"]
            assert told == []

        run(main(), loops)

    def test_shares_the_hubs_buffer_with_all_others(self, loops: Loops) -> None:
        async def main() -> None:
            async with hubs() as hub:
                links = [Recorder(hub) for _ in range(8)]
                peers = [await join(link, "transport" if n % 2 else "descriptor") for n, link in enumerate(links)]
                for number in range(40):
                    for n, peer in enumerate(peers):  # a part of a frame each, so that each keeps what is its own
                        assert peer.sock is not None
                        peer.sock.send((Frame(PING, n).encode() * 100)[number * 40 : number * 40 + 40])
                    await turns(3)
                for n, peer in enumerate(peers):
                    await settle(lambda n=n, peer=peer: peer.read() == encode(PONG, n) * 100)  # type: ignore[misc]  # mypy can't infer the default

        run(main(), loops)


class TestACarrier:
    def test_is_told_to_pause_and_to_resume_and_to_end_once(self) -> None:
        async def main() -> None:
            async with hubs(window=1000) as hub:
                link, fake = Recorder(hub), Fake()
                link.carry(fake)
                link.block(True)
                link.feed(Frame(PING, 1).encode() * 100)
                assert fake.events == ["pause"]
                link.block(False)
                await turns()
                assert fake.events == ["pause", "resume"]
                link.hold()
                link.feed(Frame(PING, 1).encode())
                assert fake.events.pop() == "pause"
                link.close()
                link.close()
                await turns()
                assert fake.events == ["pause", "resume", "resume", "end"]
                link.lost(None)
                link.lost(OSError())
                assert fake.events[-1] == "end"
                assert link.calls == [("end", None)]

        run(main())

    @pytest.mark.parametrize("method", ["write", "pause", "end", "abort"])
    def test_that_raises_ends_its_link_and_is_told_on(self, method: str) -> None:
        async def main() -> None:
            told: list[object] = []
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["exception"]))
            async with hubs(window=1000) as hub:
                link, fake, error = Recorder(hub), Fake(), ValueError("carrier")

                def fail(*args: object) -> None:
                    raise error

                setattr(fake, method, fail)
                link.carry(fake)
                link.feed(Frame(PING, 1).encode() * 100)
                await turns()
                link.close()
                await turns()
                link.abort()
                assert told == [error]
                assert len(link.named("end")) == 1
                assert hub.links == 0

        run(main())

    @pytest.mark.parametrize("during", ["write", "pause", "end"])
    @pytest.mark.parametrize("what", ["lost", "abort", "close", "proceed", "hub"])
    def test_may_end_its_link_from_within_any_call(self, during: str, what: str) -> None:
        async def main() -> None:
            async with hubs(window=1000) as hub:
                link, fake = Recorder(hub), Fake()
                acts = {"lost": lambda: link.lost(None), "abort": link.abort, "close": link.close,
                        "proceed": link.proceed, "hub": hub.close}  # fmt: skip
                setattr(fake, during, lambda *args: acts[what]())
                link.carry(fake)
                link.send(MSG, 1)
                link.feed(Frame(PING, 1).encode() * 100)
                link.hold()
                link.feed(Frame(PING, 1).encode() * 100)
                await turns()
                link.close()
                await turns()
                link.abort()
                assert link.named("end") == [("end", None)]

        run(main())
