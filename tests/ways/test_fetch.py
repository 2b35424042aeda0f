"""An answer may be anybody's: it is what the model reads, or has an outcome that names what was met, from any cut."""

from __future__ import annotations

import asyncio

from hypothesis import example, given
from hypothesis import strategies as st

from imcore.errors import WayError
from imcore.proof import still_page
from imcore.ways.fetch import Progress, Request, _Exchange
from imcore.ways.outcomes import Outcome
from tests.http_streams import cuts
from tests.models import tunnel as model

MOST = 200
"""Bytes of a body."""
STILL = b"HTTP/1.1 200 OK\r\nContent-Length: 26\r\n\r\n" + still_page("abcd")

Met = tuple[int, bytes] | str
"""The answer's status and body, or the outcome's name."""


def expected(stream: bytes) -> Met:
    events, _ = model.read(stream, model.Limits(body=MOST), b"GET", True)
    kinds = [event[0] for event in events]
    if "response" not in kinds:
        return Outcome.HIJACK.name if stream else Outcome.CLOSED.name
    if "end" not in kinds:
        return Outcome.TRUNCATED.name
    status, body = events[0][1], events[1][1] if kinds[1] == "data" else b""
    assert isinstance(status, int)
    assert isinstance(body, bytes)
    return status, body


async def met(chunks: list[bytes]) -> Met:
    """What becomes of a request whose connection brings these pieces, and ends."""
    exchange = _Exchange(Request("/", most=MOST), Progress())
    for chunk in chunks:
        exchange.data_received(chunk)
    exchange.eof_received()
    exchange.connection_lost(None)
    try:
        answer = await exchange.answer
    except WayError as error:
        return error.outcome
    return answer.head.status, answer.body


changed = st.builds(lambda at, by: STILL[:at] + by + STILL[at + len(by) :], st.integers(0, len(STILL)), st.binary())


@given(st.one_of(st.binary(), changed))
@example(b"")
@example(STILL)
@example(STILL + b"more")
@example(STILL[:-1])
@example(b"HTTP/1.1 100 Continue\r\n\r\n" + STILL)
@example(STILL.replace(b"26", b"201"))
def test_no_cut_changes_what_is_met(stream: bytes) -> None:
    async def work() -> None:
        want = expected(stream)
        for chunks in cuts(stream):
            assert await met(chunks) == want

    asyncio.run(work())
