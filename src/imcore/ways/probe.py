"""The probe: does a gateway of ours answer at the end of this way, how fast, and if not, what does? (wire: `/im/probe`)

It is asked and answered before anything that matters is said: no token goes to who has not proven himself.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Collection

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ..errors import BadProof, WayError
from ..points import Point
from ..proof import FILL_PATH, PROBE_PATH, STILL_PATH, Proof, read_fill, read_probe, still_page
from .dial import Connect, Stream, connect
from .fetch import Answer, Progress, Request, fetch
from .outcomes import Outcome, met, of_head

__all__ = ["FILL_SIZE", "Keys", "fill", "probe", "still"]

Keys = Collection[Ed25519PublicKey]
"""That gateways sign with. None at all: every answer to our nonce is taken for a gateway's."""

FILL_SIZE = 32 * 1024
"""Bytes: what freezes connections does so after 16 to 20 KiB."""
BEGIN_S = 10.0
"""How long it may take until a connection begins to be still, seconds."""
LATE_S = 5.0
"""How late a gateway's word may come after a silence, seconds."""
ANSWER_MOST = 64 * 1024
"""Bytes that are read of a stranger's answer, so that it can be named."""

_REASONS = {
    "stranger": Outcome.HIJACK,
    "cached": Outcome.CACHED,
    "rewritten": Outcome.REWRITTEN,
    "truncated": Outcome.TRUNCATED,
}

_ANOTHERS = (Outcome.CACHED.name, Outcome.HIJACK.name)


async def probe(
    point: Point, keys: Keys, progress: Progress, *, through: Connect = connect, tls: ssl.SSLContext | None = None
) -> Proof:
    """Who answers there. An answer to something else is given to one request, perhaps: it is asked once more. Raises
    `WayError`, whose outcome names what was met; after `progress.late` it is not raised, but to be asked for."""
    try:
        return await _probe(point, keys, progress, through, tls)
    except WayError as error:
        if error.outcome not in _ANOTHERS:
            raise
    return await _probe(point, keys, progress, through, tls)


async def _probe(point: Point, keys: Keys, progress: Progress, through: Connect, tls: ssl.SSLContext | None) -> Proof:
    nonce = secrets.token_urlsafe(18)
    request = Request(f"{PROBE_PATH}?n={nonce}", most=ANSWER_MOST)
    answer = await fetch(point, request, progress, through=through, tls=tls)
    _check_head(answer)
    try:
        return read_probe(answer.body, nonce, keys)
    except BadProof as error:
        raise met(_REASONS[error.reason], error.text) from None


async def fill(
    point: Point,
    keys: Keys,
    progress: Progress,
    *,
    size: int = FILL_SIZE,
    through: Connect = connect,
    tls: ssl.SSLContext | None = None,
) -> Proof | None:
    """Whether so many bytes come through; None: the gateway has no fill, and nothing is known. Raises `WayError`."""
    nonce = secrets.token_urlsafe(18)
    request = Request(f"{FILL_PATH}?n={nonce}&size={size}", most=max(size, ANSWER_MOST))
    answer = await fetch(point, request, progress, through=through, tls=tls)
    if answer.head.status == 404:
        return None
    _check_head(answer)
    try:
        return read_fill(answer.body, nonce, size, keys)
    except BadProof as error:
        raise met(_REASONS[error.reason], error.text) from None


async def still(
    point: Point, seconds: float, *, through: Connect = connect, tls: ssl.SSLContext | None = None
) -> tuple[bool | None, float]:
    """Whether a connection that is still for so long brings the gateway's word afterwards, and after how long it was
    known, seconds; None: nothing is known, since it did not begin, or the gateway does not do this, or not now."""
    nonce = secrets.token_urlsafe(9)
    progress = Progress()
    now = asyncio.get_running_loop().time

    async def begins(point: Point) -> Stream:
        stream = await through(point)
        limit.reschedule(now() + seconds + LATE_S)
        return stream

    request = Request(f"{STILL_PATH}?n={nonce}&ms={round(seconds * 1000)}", most=ANSWER_MOST)
    try:
        async with asyncio.timeout(BEGIN_S) as limit:
            answer = await fetch(point, request, progress, through=begins, tls=tls)
    except (TimeoutError, WayError):
        if progress.connect_s is None:
            return None, 0.0
        return False, progress.elapsed() - progress.connect_s
    silent_s = progress.elapsed() - (progress.connect_s or 0.0)
    if silent_s < seconds * 0.9:  # it was answered at once: a refusal, or a stranger's page
        return None, silent_s
    return answer.head.status == 200 and answer.body == still_page(nonce), silent_s


def _check_head(answer: Answer) -> None:
    failure: WayError | None = of_head(answer.head, b"text/plain")
    if failure is not None:
        raise failure
