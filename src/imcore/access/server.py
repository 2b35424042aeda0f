"""The access service at work: what it answers over HTTP, as handlers of the node's application, and what it is told."""

from __future__ import annotations

import asyncio
import base64
import binascii
import inspect
import logging
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from functools import lru_cache
from types import TracebackType
from typing import Self, cast, get_args

import msgspec
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ..access_list import REPORT_MOST, AccessPoint, Direction, Measured, Report
from ..bus.ports import Loads
from ..errors import Unauthorized
from .carriers import Origin, Origins, Prefixes, exit_address
from .dns import QUERY_MOST, Names
from .figures import Figures
from .hearing import Hearing
from .levels import Levels
from .lists import Lists
from .ranking import Ranking
from .settings import Access, Point
from .shares import Shares, drawn
from .stills import Stills
from .store import Store
from .voices import Rate, neighbourhood

__all__ = ["AccessService", "read_report"]

NEARBY = 65_536
"""Callers whose origin is not looked up again."""
SAVE_S = 10.0
"""Between two times that figures are saved, seconds."""

# Reports: so many a minute, and so many at once.
BY_ADDRESS = 300.0, 60.0  # many devices may share one
BY_USER = 6.0, 6.0

_FRESH = {"Cache-Control": "no-store, no-transform"}
_LIST = {**_FRESH, "Content-Type": "application/jose"}
_DNS = "application/dns-message"

_log = logging.getLogger(__name__)
_reports = msgspec.json.Decoder(Report)

Authenticate = Callable[[str], str | Awaitable[str]]
"""A token to the user's name; raises `Unauthorized`."""


class AccessService:
    """`async with AccessService(…) as access: access.begin(points)`.

    loads: of the bus. keys: that sign the lists. store: keeps the figures. authenticate: the tokens in reports.
    `figures` are what was measured, `counters` count what was asked and told. Raises `ConfigError` for databases that
    can't be read.
    """

    def __init__(
        self,
        settings: Access,
        *,
        loads: Loads,
        keys: Sequence[Ed25519PrivateKey],
        store: Store,
        authenticate: Authenticate,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._settings = settings
        self._keys = keys
        self._store = store
        self._authenticate = authenticate
        self._stopping = asyncio.Event()
        self._levels = Levels(settings.links_most, time.monotonic)
        self.figures = Figures()
        self._stills = Stills()
        self._names = Names(settings.names, settings.ttl_s)
        self._proxies = Prefixes((prefix, True) for prefix in settings.proxies)
        self._by_address, self._by_user = Rate(*BY_ADDRESS), Rate(*BY_USER)
        self._shares = Shares(keys[0].private_bytes_raw())
        self._hearing = Hearing(self.figures, self._stills, self._shares, self.counters)
        self._origins = Origins(settings.networks, settings.databases, settings.carriers)
        self._nearby = lru_cache(NEARBY)(lambda peer: self._caller(exit_address(peer, (), self._proxies)))
        self.begin(settings.points)
        loads.watch(self._levels.take)

    async def __aenter__(self) -> Self:
        """Bring back what an earlier process measured; from here on what is new is kept."""
        async with AsyncExitStack() as stack:
            stack.callback(self._origins.close)
            stack.push_async_callback(asyncio.to_thread, self._store.close)
            try:
                now = time.time()
                rows = await asyncio.to_thread(self._store.load, now)
                self.figures.restore((row for row in rows if row.key.role in get_args(Direction)), now)
                self._stills.restore(rows, now)
            except OSError as error:
                _log.error("the figures of earlier races can't be read, and are measured anew: %s", error)
            self._stopping.clear()
            self._saving = asyncio.create_task(self._keep_saving())
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        try:
            await self._saving
        finally:
            await self._stack.__aexit__(kind, error, trace)

    def begin(self, points: Sequence[Point]) -> None:
        """These are the points."""
        self._ranking = Ranking(points, self._levels, self.figures)
        self._lists = Lists(self._ranking, self._stills, self._shares, self._settings, self._keys, time.time)

    def add_routes(self, application: web.Application) -> None:
        """What the service answers."""
        application.router.add_get("/v1/access", self.points, allow_head=False)
        application.router.add_post("/v1/report", self.report)
        application.router.add_get("/dns-query", self.dns_query, allow_head=False)
        application.router.add_post("/dns-query", self.dns_query)
        application.router.add_get("/d", self.http_dns, allow_head=False)

    # The list.

    async def points(self, request: web.Request) -> web.Response:
        """GET /v1/access?role=ROLE, and kid=ID for each key that the caller knows."""
        roles = request.query.getall("role", [])
        if len(roles) != 1 or roles[0] not in get_args(Direction):
            text = f"role: expected one of {', '.join(get_args(Direction))}, once\n"
            raise web.HTTPBadRequest(text=text, headers=_FRESH)
        role, (origin, near) = cast(Direction, roles[0]), self._asking(request)
        signed = self._lists.signed(origin, role, near, request.query.getall("kid", []))
        self.counters["lists"] += 1
        if not signed:
            text = f"no point for {role} can be given now\n"
            raise web.HTTPServiceUnavailable(text=text, headers={**_FRESH, "Retry-After": "5"})
        return web.Response(body=signed, headers=_LIST)

    def _asking(self, request: web.Request) -> tuple[Origin, str]:
        """Where a caller is from, and who is counted as one with it."""
        peer, forwarded = request.remote or "", request.headers.getall("X-Forwarded-For", [])
        return self._caller(exit_address(peer, forwarded, self._proxies)) if forwarded else self._nearby(peer)

    def _caller(self, address: str) -> tuple[Origin, str]:
        return self._origins.of(address), neighbourhood(address)

    # Reports.

    async def report(self, request: web.Request) -> web.Response:
        """POST /v1/report: what a race measured, in JSON. A token (`Authorization: Bearer …`) gives the device a voice
        of its own; without one it shares that of its address."""
        origin, near = self._asking(request)
        if not self._by_address.allows(near, time.monotonic()):
            raise self._too_often("from this address")
        report = read_report(await _body(request, REPORT_MOST))
        user = await self._user(request.headers.get("Authorization"))
        if user is not None and not self._by_user.allows(user, time.monotonic()):
            raise self._too_often("by this user")
        voice = (near,) if user is None else (user, report.device)
        self._hearing.hear(self._ranking, voice, near, origin, report, time.time())
        return web.Response(status=204, headers=_FRESH)

    async def _user(self, authorization: str | None) -> str | None:
        if authorization is None:
            return None
        kind, _, token = authorization.partition(" ")
        try:
            if kind.lower() != "bearer" or not token.strip():
                raise Unauthorized("expected Authorization: Bearer TOKEN")
            user = self._authenticate(token.strip())
            return await user if inspect.isawaitable(user) else user
        except Unauthorized as error:
            self.counters["reports_unauthorized"] += 1
            raise web.HTTPUnauthorized(text=f"{error}\n", headers={**_FRESH, "WWW-Authenticate": "Bearer"}) from None

    def _too_often(self, who: str) -> web.HTTPException:
        self.counters["reports_too_often"] += 1
        return web.HTTPTooManyRequests(text=f"too many reports {who}\n", headers={**_FRESH, "Retry-After": "60"})

    # The DNS faces.

    async def dns_query(self, request: web.Request) -> web.Response:
        """DNS over HTTPS (RFC 8484): GET with the query in base64, or POST with it as the body."""
        if request.method == "POST":
            if request.content_type != _DNS:
                raise web.HTTPUnsupportedMediaType(text=f"expected Content-Type: {_DNS}\n", headers=_FRESH)
            query = await _body(request, QUERY_MOST)
        else:
            query = _unpacked(request.query.getall("dns", []))
        answer, keep = self._names.answer(query, self._order(request))
        self.counters["dns"] += 1
        kept = {"Cache-Control": f"private, max-age={self._names.ttl_s}"} if keep else _FRESH
        return web.Response(body=answer, content_type=_DNS, headers=kept)

    async def http_dns(self, request: web.Request) -> web.Response:
        """GET /d?dn=NAME: addresses separated by `;`. ip=ADDRESS: for a caller there. type=AAAA: of that family.
        format=json: as JSON, with the TTL."""
        asked = request.query
        name, ip, kind = asked.get("dn", ""), asked.get("ip"), asked.get("type", "A").upper()
        if kind not in ("A", "AAAA"):
            raise web.HTTPBadRequest(text="type: expected A or AAAA\n", headers=_FRESH)
        version = 6 if kind == "AAAA" else 4
        found = self._names.addresses(name, version, self._order(request, ip)) if name.isascii() else None
        self.counters["dns"] += 1
        if found is None:
            raise web.HTTPForbidden(text="dn: expected a name of this service's own\n", headers=_FRESH)
        if asked.get("format") == "json":
            body = {"name": name, "type": kind, "addresses": found, "ttl": self._names.ttl_s}
            return web.Response(body=msgspec.json.encode(body), content_type="application/json", headers=_FRESH)
        return web.Response(text=";".join(found), headers=_FRESH)

    def _order(self, request: web.Request, ip: str | None = None) -> Callable[[Direction], list[AccessPoint]]:
        origin, near = self._asking(request) if ip is None else self._caller(exit_address(ip, (), Prefixes([])))
        now = time.time()
        share = self._shares.of(near, drawn(now))
        # Who asks by DNS takes the first, and does not race: nothing is tried out on it.
        return lambda role: self._ranking.order(origin, role, now, share, explore=False)

    # What outlives the process.

    async def _keep_saving(self) -> None:
        """Every few seconds, and when the service stops."""
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), SAVE_S)
            await self._save()

    async def _save(self) -> None:
        rows = [*self.figures.changed(time.time()), *self._stills.figures.changed(time.time())]
        if not rows:
            return
        try:
            await asyncio.to_thread(self._store.save, rows, time.time())
        except OSError as error:
            self.figures.again(rows)
            self._stills.figures.again(rows)
            _log.error("figures of %d races could not be saved, and are tried again: %s", len(rows), error)


async def _body(request: web.Request, most: int) -> bytes:
    """The request's body; nothing beyond `most` bytes is kept."""
    said = request.content_length
    body = await request.content.read(most + 1) if said is None or said <= most else None
    while body is not None and len(body) <= most and (more := await request.content.read(most + 1 - len(body))):
        body += more
    if body is None or len(body) > most:
        raise web.HTTPRequestEntityTooLarge(max_size=most, actual_size=said or most + 1, headers=_FRESH)
    return body


def read_report(body: bytes) -> Report:
    try:
        report = _reports.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise web.HTTPBadRequest(text=f"expected a report in JSON: {str(error)[:200]}\n", headers=_FRESH) from None
    for number, each in enumerate(report.measured):
        if each.outcome == "OK" and (each.whole_ms is None or not _in_order(each)):
            text = f"measured[{number}]: expected connect_ms <= first_ms <= whole_ms, which OK has\n"
            raise web.HTTPBadRequest(text=text, headers=_FRESH)
    return report


def _in_order(measured: Measured) -> bool:
    times = [t for t in (measured.connect_ms, measured.first_ms, measured.whole_ms) if t is not None]
    return times == sorted(times)


def _unpacked(values: Sequence[str]) -> bytes:
    """A query in base64 without padding (RFC 8484, 4.1)."""
    try:
        if len(values) != 1 or len(values[0]) > math.ceil(QUERY_MOST * 4 / 3):
            raise ValueError(values)
        return base64.b64decode(values[0].encode() + b"=" * (-len(values[0]) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise web.HTTPBadRequest(text="dns: expected one query in base64url\n", headers=_FRESH) from None
