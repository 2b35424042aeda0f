"""What an idle link costs the gateway and its engine in memory. The target is 1,536 bytes of process memory with all
that the allocator adds (`make bench ROWS=4`); this is the part that we ask it for."""

from __future__ import annotations

import gc
import socket
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

from imcore._codec import PING
from imcore.gateway.link import ServerLink
from tests.gateway.running import run, running
from tests.gateway.wire import frame, hello
from tests.links import settle, turns

COUNT = 1200
FIRST = 50
"""Links that come before it is measured, for what is made once, and at a time."""
BYTES_A_LINK = 1000


def traced() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def test_an_idle_link_stays_small_and_does_not_grow_with_its_heartbeats(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as here:
            pairs = [socket.socketpair() for _ in range(FIRST + COUNT)]
            clients = [client for client, _ in pairs]
            buffer = bytearray(4096)

            async def exchange(clients: Sequence[socket.socket], words: Callable[[int], bytes]) -> None:
                """Every client says something, and takes the one frame that answers it."""
                before = here.gateway.hub.frames_out
                for number, client in enumerate(clients):
                    client.send(words(number))
                await settle(lambda: here.gateway.hub.frames_out == before + len(clients), 60)
                await turns()  # what was queued has gone out
                for client in clients:
                    assert client.recv_into(buffer)

            async def come(first: int, end: int) -> None:
                for _, sock in pairs[first:end]:
                    ServerLink(here.gateway).attach(sock)
                await exchange(clients[first:end], lambda number: hello(f"user{first + number:05}"))

            await come(0, FIRST)
            tracemalloc.start()
            before = traced()
            for first in range(FIRST, FIRST + COUNT, FIRST):
                await come(first, first + FIRST)
            await exchange(clients, lambda number: frame(PING, 1))
            assert here.bus._core is not None
            await here.bus._core.journal.quiet()  # nothing goes on meanwhile
            idle = traced()
            for token in range(2, 12):
                await exchange(clients, lambda number, token=token: frame(PING, token))  # type: ignore[misc]  # a default
            later = traced()
            tracemalloc.stop()
            assert here.gateway.users == FIRST + COUNT
            for client in clients:
                client.close()
            assert (idle - before) / COUNT < BYTES_A_LINK
            assert (later - idle) / COUNT < 8, "growth with heartbeats"

    run(main())
