"""The way to the media service, and requests on it that are tried again.

It is found as ways for messages are, by a finder of its own: the best way for messages need not be the best one for a
video. Where there are keys, a token goes only to who has proven himself; and who enters must answer as a media service.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiohttp
from aiohttp.client_proto import ResponseHandler

from ..errors import Refused, WayError
from ..ways.candidate import Candidate
from ..ways.dial import Connect, ride
from ..ways.outcomes import Outcome, met, of_error, reason
from ..ways.ways import Ways
from .backoff import Backoff
from .opening import Token, fresh

__all__ = ["BASE", "FINISH_S", "Unreachable", "Way", "together"]

BASE = "/im/media"
TUS = {"Tus-Resumable": "1.0.0"}
ANSWER_S = 10.0
"""How long an answer may take, seconds; of a request that finishes a file, the server may have to read it."""
FINISH_S = 600.0

Result = TypeVar("Result")

_CODES = {401: "unauthorized", 403: "unauthorized", 413: "too_large", 415: "bad_frame", 429: "rate_limited"}
_AGAIN = {408, 409, 423, 429, 500, 502, 503, 504}
"""Statuses that say nothing against the request: of a server that is busy, or of something on the way."""


class Unreachable(Exception):
    """It did not work this time; the text says why."""

    def __init__(self, text: str, wait_s: float = 0.0) -> None:
        super().__init__(text)
        self.wait_s = wait_s


class _Connector(aiohttp.BaseConnector):
    """aiohttp's pool, on connections to one candidate, made as all others of the client are."""

    def __init__(self, candidate: Candidate, through: Connect, tls: ssl.SSLContext | None) -> None:
        super().__init__(limit=0)
        self._point = candidate.point
        self._through = through
        self._tls = tls

    async def _create_connection(
        self,
        req: aiohttp.ClientRequest,
        traces: Any,
        timeout: aiohttp.ClientTimeout,
    ) -> ResponseHandler:
        handler: ResponseHandler = self._factory()
        try:
            async with asyncio.timeout(ANSWER_S):
                stream = await self._through(self._point)
                if stream.prefix:
                    stream.sock.close()
                    raise OSError("the proxy only forwards requests, and files need a tunnel through it (CONNECT)")
                await ride(stream.sock, self._point, lambda: handler, self._tls)
        except OSError as error:
            raise _NotThere(error) from error
        return handler


class _NotThere(aiohttp.ClientConnectionError):
    """No connection; `error` says why."""

    def __init__(self, error: OSError) -> None:
        super().__init__(reason(error))
        self.error = error


_BREAKS = (Unreachable, WayError, aiohttp.ClientError, ConnectionError, TimeoutError)
"""What goes wrong on the way, and may go well the next time. A disk of ours is none of it."""


class Way:
    """ways: what the client knows of ways in. Requests are made while it is open."""

    def __init__(self, ways: Ways, token: Token) -> None:
        self._ways = ways
        self._token = token
        self._finder = ways.finder("media")
        self._sessions: dict[Candidate, aiohttp.ClientSession] = {}
        self._good: Candidate | None = None
        self._finding = asyncio.Lock()
        self.round_trip = 0.0
        """Of the way that was found, seconds."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Connections may be made."""
        try:
            yield
        finally:
            for session in self._sessions.values():
                await session.close()
            await self._finder.close()

    async def persist(self, what: str, work: Callable[[], Awaitable[Result]], say: Callable[[str], None]) -> Result:
        """Do it, again and again, until it works; `Refused` and other errors of ours end it."""
        backoff = Backoff()
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                return await work()
            except _BREAKS as error:
                say(f"{what}: {_reason(error)}")
                if self._good is not None:
                    self._finder.lost(self._good)
                    self._good = None
                backoff.lived(loop.time() - began)
                await asyncio.sleep(backoff.next(getattr(error, "wait_s", 0.0)))

    @asynccontextmanager
    async def request(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        data: AsyncIterator[bytes] | None = None,
        anonymous: bool = False,
        read_s: float = ANSWER_S,
        fine: tuple[int, ...] = (),
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request to the point that won. fine: statuses that the caller understands beside 2xx. Raises `Refused`
        for other 4xx, and what `persist` takes for a reason to try again."""
        session, origin = await self.reach()
        said = {**TUS, **(headers or {})}
        if not anonymous:
            said["Authorization"] = f"Bearer {await fresh(self._token)}"
        timeout = aiohttp.ClientTimeout(total=None, sock_read=read_s)
        async with session.request(
            method, origin + path, headers=said, data=data, timeout=timeout, allow_redirects=False
        ) as response:
            if response.status // 100 == 2 or response.status in fine:
                yield response
                return
            text = (await response.content.read(400)).decode("utf-8", "replace").strip()
            if response.status in _AGAIN or "Tus-Resumable" not in response.headers:
                after = response.headers.get("Retry-After", "")
                raise Unreachable(f"{response.status}: {text}", float(after) if after.isdecimal() else 0.0)
            raise Refused(_CODES.get(response.status, "overloaded" if response.status == 507 else "no_route"), text)

    async def reach(self) -> tuple[aiohttp.ClientSession, str]:
        """Where requests go now: the way that is used, or one that is found. Raises `WayError`."""
        async with self._finding:
            if self._good is None or not self._finder.knows(self._good):
                self._good = await self._finder.find(self._enter, lambda text: None)
                await self._finder.entered(self._good)
            return self._at(self._good)

    def _at(self, candidate: Candidate) -> tuple[aiohttp.ClientSession, str]:
        session = self._sessions.get(candidate)
        if session is None:
            connector = _Connector(candidate, self._ways.through(candidate), self._ways.tls)
            session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None))
            self._sessions[candidate] = session
        return session, f"{'https' if candidate.point.secure else 'http'}://{candidate.point.authority}"

    async def _enter(self, candidate: Candidate) -> Candidate:
        """A media service answers there. Raises `WayError`."""
        session, origin = self._at(candidate)
        loop = asyncio.get_running_loop()
        try:
            for _ in range(2):  # the first one pays for the connection
                began = loop.time()
                async with asyncio.timeout(ANSWER_S):
                    async with session.options(f"{origin}{BASE}/uploads", allow_redirects=False) as answer:
                        if answer.status != 204 or "1.0.0" not in answer.headers.get("Tus-Version", ""):
                            raise met(Outcome.HIJACK, f"{answer.status}: no media service answers there")
                self.round_trip = loop.time() - began
        except _NotThere as error:
            raise met(of_error(error.error), str(error)) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise met(Outcome.CLOSED, _reason(error)) from error
        return candidate


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


async def together(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """All at once. If one fails the others end, and what it raised is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except BaseExceptionGroup as failures:
        error: BaseException = failures
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None
