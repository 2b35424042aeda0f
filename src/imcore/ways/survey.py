"""The survey: every way in that anybody knows of is tried to the end, and none is taken. For people who want to know
what is in the way: a race stops at the first that is good, and this does not.

No token is needed: a gateway that refuses an empty one has heard frames, and has answered in frames.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import msgspec

from .._codec import ERROR, HELLO, WELCOME, FrameDecoder, encode
from ..access_list import Direction
from ..errors import FrameError, WayError
from ..messages import Hello, Role, pack
from .candidate import Candidate, Listed
from .dial import ride
from .fetch import Progress, Request, fetch
from .outcomes import Outcome, met, of_error, of_head, reason
from .probe import fill, probe
from .sources import Heard
from .ways import Ways

__all__ = ["Found", "survey"]

AT_ONCE = 8
STEP_S = 5.0
"""How long each of the steps may take, seconds: to prove itself, to answer frames, to bring 32 KiB."""


class Found(msgspec.Struct, frozen=True):
    """What came of one way; times in milliseconds from its start, None = it did not come to that."""

    candidate: Candidate
    level: int
    outcome: str
    text: str
    connect_ms: float | None = None
    first_ms: float | None = None
    whole_ms: float | None = None


async def survey(
    ways: Ways, role: Direction, hear: Callable[[Heard], None], tell: Callable[[Candidate, Found | None], None]
) -> list[Found]:
    """Ask all sources, and try what they name. hear: each source's answer. tell: each way twice: None when it is begun,
    and what came of it."""
    gate = asyncio.Semaphore(AT_ONCE)
    found: dict[Candidate, Found] = {}
    begun: set[Candidate] = set()

    async def one(listed: Listed) -> None:
        async with gate:
            tell(listed.candidate, None)
            found[listed.candidate] = result = await _look(ways, listed)
            tell(listed.candidate, result)

    async with asyncio.TaskGroup() as group:

        def heard(answer: Heard) -> None:
            hear(answer)
            for listed in answer.listed:
                if listed.candidate not in begun:
                    begun.add(listed.candidate)
                    group.create_task(one(listed))

        sources = ways.sources()
        try:
            await sources.gather(role, heard)
        finally:
            await sources.close()
    return [found[candidate] for candidate in begun]


async def _look(ways: Ways, listed: Listed) -> Found:
    """Three steps: it proves itself, it answers frames, and much comes through."""
    candidate = listed.candidate
    through, keys = ways.through(candidate), list(ways.keys.values())
    first = progress = Progress()
    text = Outcome.OK.value
    try:
        async with asyncio.timeout(STEP_S):
            proof = await probe(candidate.point, keys, progress, through=through, tls=ways.tls)
        text += f": {proof.node}" if proof.signed else f": {proof.node}, for whom no key of ours vouches"
        progress = Progress()
        async with asyncio.timeout(STEP_S):
            await _frames(ways, candidate, progress)
        progress = Progress()
        async with asyncio.timeout(STEP_S):
            await fill(candidate.point, keys, progress, through=through, tls=ways.tls)
    except TimeoutError:
        failure: WayError | None = progress.late
    except WayError as error:
        failure = error
    else:
        failure = None
    if failure is None:
        outcome = Outcome.OK.name
    else:
        outcome, text = failure.outcome, failure.text
        if progress is not first:
            text = f"a gateway is there, but: {text}"
    times = (None if one is None else round(one * 1000, 1) for one in (first.connect_s, first.first_s, first.whole_s))
    return Found(candidate, listed.level, outcome, text, *times)


async def _frames(ways: Ways, candidate: Candidate, progress: Progress) -> None:
    """A frame goes there and another one comes back. Raises `WayError`."""
    point, through = candidate.point, ways.through(candidate)
    role: Role = "up"
    said = encode(HELLO, body=pack(Hello("", "doctor", role, "imcore-doctor", carrier=point.scheme)))
    if point.tunnels:
        request = Request("/im", body=said, kind="application/octet-stream")
        answer = await fetch(point, request, progress, through=through, tls=ways.tls)
        failure = of_head(answer.head)
        if failure is not None:
            raise failure
        _check(answer.body)
        return
    try:
        stream = await through(point)
        hearing = _Hearing(progress)
        transport = await ride(stream.sock, point, lambda: hearing, ways.tls)
    except OSError as error:
        raise met(of_error(error), reason(error)) from None
    try:
        transport.write(said)
        _check(await hearing.said)
    finally:
        transport.abort()


def _check(data: bytes) -> None:
    """They are a gateway's frames."""
    try:
        frame = next(iter(FrameDecoder().feed(data)), None)
    except FrameError as error:
        raise met(Outcome.REWRITTEN, str(error)) from None
    if frame is None or frame.type not in (ERROR, WELCOME):
        raise met(Outcome.CLOSED, f"{len(data)} bytes came")


class _Hearing(asyncio.Protocol):
    """All that comes until the other side ends; a gateway does so right behind its refusal."""

    def __init__(self, progress: Progress) -> None:
        self.said: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._progress = progress
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._progress.received += len(data)
        self._data += data
        if len(self._data) > 4096:
            self._transport.abort()

    def eof_received(self) -> None:
        self.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.said.done():
            self.said.set_result(self._data)
