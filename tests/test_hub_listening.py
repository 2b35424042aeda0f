"""Where a hub's links come from: what a factory raises costs one connection, and a lack of descriptors no time."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from typing import Any

import pytest

from imcore._codec import PING, PONG, Frame, encode
from imcore._hub import Hub
from imcore._link import Link
from tests.links import Fake, Loops, Recorder, hubs, join, on_both_loops, pair, run, settle, turns


class Boom(Exception):
    """What a factory raises."""


class TestListening:
    @on_both_loops
    def test_a_factory_that_raises_costs_one_connection(self, loops: Loops) -> None:
        async def main() -> None:
            told: list[dict[str, Any]] = []
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
            async with hubs() as hub:
                server = socket.create_server(("127.0.0.1", 0))
                where = server.getsockname()
                made: list[Recorder] = []
                outcomes: list[object] = [Boom(), 3, None, asyncio.CancelledError(), "used", "new"]

                def factory() -> Link:
                    outcome = outcomes.pop(0)
                    if isinstance(outcome, BaseException):
                        raise outcome
                    if outcome == "used":
                        made.append(Recorder(hub))
                        made[-1].carry(Fake())
                        return made[-1]
                    if outcome == "new":
                        made.append(Recorder(hub))
                        return made[-1]
                    return outcome  # type: ignore[return-value]  # no link, or nothing

                hub.listen(server, factory)
                for left in range(5, -1, -1):
                    with socket.create_connection(where, 5) as peer:
                        await settle(lambda left=left: len(outcomes) == left)  # type: ignore[misc]  # mypy can't infer the default
                        peer.setblocking(False)
                        if left:
                            await settle(lambda peer=peer: gone(peer))  # type: ignore[misc]  # mypy can't infer the default
                assert [type(context["exception"]) for context in told] == [
                    Boom, TypeError, TypeError, asyncio.CancelledError, RuntimeError
                ]  # fmt: skip
                await settle(lambda: made[1].named("end"))
                hub.stop_listening(server)
                with pytest.raises(OSError, match="refused"):
                    socket.create_connection(where, 5)

        run(main(), loops)

    @on_both_loops
    def test_a_factory_may_stop_listening_or_close_the_hub(self, loops: Loops) -> None:
        async def main() -> None:
            for end in ("stop", "close"):
                async with hubs() as hub:
                    server = socket.create_server(("127.0.0.1", 0))
                    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)

                    def factory(end: str = end, hub: Hub = hub, server: socket.socket = server) -> Link:
                        hub.stop_listening(server) if end == "stop" else hub.close()
                        return Recorder(hub)

                    hub.listen(server, factory)
                    peers = [socket.create_connection(server.getsockname(), 5) for _ in range(3)]
                    await settle(lambda server=server: server.fileno() == -1)  # type: ignore[misc]  # mypy can't infer the default
                    await turns()
                    assert hub.links == (end == "stop")
                    for peer in peers:
                        peer.close()

        run(main(), loops)

    def test_out_of_descriptors_it_rests_and_goes_on(self) -> None:
        code = """
import asyncio, resource, socket, time
from imcore._hub import Hub
from tests.links import Recorder, settle
async def main():
    hub = Hub(asyncio.get_running_loop())
    server = socket.create_server(("127.0.0.1", 0), backlog=200)
    links = []
    def factory():
        links.append(Recorder(hub))
        return links[-1]
    hub.listen(server, factory)
    peers = [socket.socket() for _ in range(30)]
    soft = max(peer.fileno() for peer in peers) + 5
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, soft))
    for peer in peers:
        peer.connect(server.getsockname())
    await asyncio.sleep(0.1)
    used = time.process_time()
    await asyncio.sleep(0.4)
    assert time.process_time() - used < 0.1, "spins"
    had = len(links)
    assert 0 < had < 30, had
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, soft))
    for peer in peers[:25]:
        peer.close()
    await settle(lambda: len(links) == 30)
    hub.close()
    for peer in peers:
        peer.close()
asyncio.run(main())
print("fine")
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)
        assert done.stdout == "fine\n", done.stderr


def gone(peer: socket.socket) -> bool:
    try:
        return peer.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


class TestWithoutAPoller:
    def test_links_ride_on_transports_and_descriptors_are_refused(self) -> None:
        async def main() -> None:
            async with hubs(native=False) as hub:
                assert not hub.native
                link, other = Recorder(hub), Recorder(hub)
                peer = await join(link, "transport")
                await peer.send(Frame(PING, 1).encode())
                await settle(lambda: peer.read() == encode(PONG, 1))
                here, _ = pair()
                with pytest.raises(OSError, match="descriptor"):
                    other.attach(here)
                with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(RuntimeError):
                    hub.listen(server, lambda: link)

        run(main())
