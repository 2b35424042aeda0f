"""What an idle link costs the gateway and its engine in memory. The target is 1,536 bytes of process memory with all
that the allocator adds (`make bench ROWS=4`); this is the part that we ask it for."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from imcore._codec import PING
from imcore.gateway.link import ServerLink
from tests.gateway.running import run, running
from tests.gateway.wire import frame, hello
from tests.links import Fake, settle

COUNT = 1200
FIRST = 50
"""Links that come before it is measured, for what is made once, and at a time."""
BYTES_A_LINK = 1100


class Silent(Fake):
    """A carrier that keeps nothing."""

    def write(self, data: bytes) -> None:
        pass


def traced() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def test_an_idle_link_stays_small_and_does_not_grow_with_its_heartbeats(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as here:
            carriers = [Silent() for _ in range(FIRST + COUNT)]
            links: list[ServerLink] = [None] * len(carriers)  # type: ignore[list-item]  # its memory is not the links'
            hub = here.gateway.hub

            async def say(first: int, end: int, words: Callable[[int], bytes]) -> None:
                """Each of them says something, and is answered by one frame."""
                answered = hub.frames_out + end - first
                for number in range(first, end):
                    links[number].feed(words(number))
                await settle(lambda: hub.frames_out == answered and not hub.behind, 60)

            async def come(first: int, end: int) -> None:
                for number in range(first, end):
                    links[number] = ServerLink(here.gateway)
                    links[number].carry(carriers[number])
                await say(first, end, lambda number: hello(f"user{number:05}"))

            await come(0, FIRST)
            tracemalloc.start()
            try:
                before = traced()
                for first in range(FIRST, len(links), FIRST):
                    await come(first, first + FIRST)
                await say(0, len(links), lambda number: frame(PING, 1))
                assert here.bus._core is not None
                await here.bus._core.journal.quiet()  # nothing goes on meanwhile
                idle = traced()
                for token in range(10):
                    await say(0, len(links), lambda number, token=token: frame(PING, token))  # type: ignore[misc]  # mypy can't infer the default
                later = traced()
            finally:
                tracemalloc.stop()
            assert here.gateway.users == len(links)
            assert (idle - before) / COUNT < BYTES_A_LINK
            assert (later - idle) / COUNT < 8, "growth with heartbeats"

    run(main())
