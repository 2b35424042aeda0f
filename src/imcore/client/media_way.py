"""The way to the media service: the client's access points, raced for an answer, and requests that are tried again.

Its race is its own: the best way for messages need not be the best one for a video. Who answers as a media service
does, wins; what fails later is raced for anew.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiohttp
from aiohttp.client_proto import ResponseHandler

from ..errors import Refused
from ..points import Point
from ..ways.dial import Connect, ride
from .backoff import Backoff
from .opening import Token, fresh

__all__ = ["BASE", "FINISH_S", "Unreachable", "Way", "together"]

BASE = "/im/media"
TUS = {"Tus-Resumable": "1.0.0"}
STAGGER_S = 0.25
"""Between two points of the race, unless one has failed."""
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


_BREAKS = (Unreachable, aiohttp.ClientError, ConnectionError, TimeoutError)
"""What goes wrong on the way, and may go well the next time. A disk of ours is none of it."""


class _Connector(aiohttp.BaseConnector):
    """aiohttp's pool, on connections that are made as all others of the client are."""

    def __init__(self, through: Connect, tls: ssl.SSLContext | None) -> None:
        super().__init__(limit=0)
        self._through = through
        self._tls = tls

    async def _create_connection(
        self,
        req: aiohttp.ClientRequest,
        traces: Any,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's signature
    ) -> ResponseHandler:
        url = req.url
        assert url.host is not None
        assert url.port is not None
        point = Point("tls" if url.scheme == "https" else "tcp", url.host, url.port)
        handler: ResponseHandler = self._factory()
        try:
            async with asyncio.timeout(ANSWER_S):
                stream = await self._through(point)
                if stream.prefix:
                    stream.sock.close()
                    raise OSError("the proxy only forwards requests, and files need a tunnel through it (CONNECT)")
                await ride(stream.sock, point, lambda: handler, self._tls)
        except OSError as error:
            raise aiohttp.ClientConnectionError(str(error)) from error
        return handler


class Way:
    """points: of the media service. through: makes connections. Requests are made while it is open."""

    def __init__(self, points: Sequence[Point], token: Token, tls: ssl.SSLContext | None, through: Connect) -> None:
        self._through = through
        self._points = points
        self._token = token
        self._tls = tls
        self._good: Point | None = None
        self.round_trip = 0.0
        """Of the race's winner, seconds."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Connections may be made."""
        connector = _Connector(self._through, self._tls)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            self._session = session
            yield

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
        origin = await self.origin()
        said = {**TUS, **(headers or {})}
        if not anonymous:
            said["Authorization"] = f"Bearer {await fresh(self._token)}"
        timeout = aiohttp.ClientTimeout(total=None, sock_read=read_s)
        async with self._session.request(
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

    async def origin(self) -> str:
        """Of the point that won the race, which is run if nobody has. Raises `Unreachable`."""
        if self._good is None:
            self._good = await self._race()
        return _origin(self._good)

    async def _race(self) -> Point:
        loop = asyncio.get_running_loop()
        waiting = list(self._points)
        running: dict[asyncio.Task[float], Point] = {}
        failures: list[str] = []
        try:
            while waiting or running:
                if waiting:
                    point = waiting.pop(0)
                    running[loop.create_task(self._knock(point), name=f"imcore media {point}")] = point
                done, _ = await asyncio.wait(
                    running, timeout=STAGGER_S if waiting else None, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    point = running.pop(task)
                    try:
                        self.round_trip = task.result()
                    except _BREAKS as error:
                        failures.append(f"{point}: {_reason(error)}")
                    else:
                        return point
        finally:
            for task in running:
                task.cancel()
            if running:
                await asyncio.wait(running)
        raise Unreachable("; ".join(failures))

    async def _knock(self, point: Point) -> float:
        """How long it takes to answer, on a connection that is open. Raises what says that it is not there."""
        took = 0.0
        for _ in range(2):  # the first one pays for the connection
            began = asyncio.get_running_loop().time()
            async with asyncio.timeout(ANSWER_S):
                async with self._session.options(_origin(point) + BASE + "/uploads", allow_redirects=False) as answer:
                    if answer.status != 204 or "1.0.0" not in answer.headers.get("Tus-Version", ""):
                        raise Unreachable(f"{answer.status}: no media service answers there")
            took = asyncio.get_running_loop().time() - began
        return took


def _origin(point: Point) -> str:
    return f"{'https' if point.secure else 'http'}://{point.authority}"


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
