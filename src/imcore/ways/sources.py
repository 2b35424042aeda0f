"""Who knows access points: the device's own memory, the points it was built with, DNS, and the access service.

All are asked at once, and each is heard when it answers. What comes from a stranger, by another key, or too late is
named and dropped. None of them is needed: a way in is proven by the gateway itself, not by who told of it.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

import msgspec

from ..access_list import AccessList, BackOff, Direction, PublicKeys, Report, open_list
from ..errors import BadList, WayError
from ..points import Point, Scheme, is_host
from .candidate import Candidate, Listed
from .dial import Connect
from .fetch import Answer, Progress, Request, fetch
from .memory import Memory
from .outcomes import Outcome, met
from .resolve import Resolve, is_address

__all__ = ["BUILT_IN_LEVEL", "Heard", "Sources", "points_of"]

BUILT_IN_LEVEL = 5
"""Of points that were built in, where there is an access service: above those that it can give, so the last resort."""
PATIENCE_S = 10.0
"""How long a source may take, seconds: as long as a whole attempt."""
ADDRESSES = 16
"""That are tried of a name, of each family: an answer of DNS may come from anybody, and name thousands."""
LIST_PATH = "/v1/access"
REPORT_PATH = "/v1/report"

_SCHEMES: tuple[Scheme, ...] = ("tcp", "tls", "http", "https")


class Heard(msgspec.Struct, frozen=True):
    """What a source has said."""

    source: str
    """`memory`, `built in`, `DNS NAME`, `DoH NAME`, `access POINT`"""
    outcome: str
    """`OK`, or the name of what was met: nothing was taken over then."""
    text: str
    took_s: float
    listed: list[Listed] = []


def points_of(made: AccessList) -> list[Listed]:
    """Each address, port and way of a signed list, in its order. What nobody can be reached by is passed over."""
    found = []
    for point in made.points:
        for address in point.addresses:
            if not (is_host(address) and is_host(point.host or address)):
                continue
            ways = ((port.port, scheme) for port in point.ports for scheme in _SCHEMES if scheme in port.ways)
            for turn, (port, scheme) in enumerate(ways):
                candidate = Candidate(Point(scheme, point.host or address, port), address)
                found.append(Listed(candidate, point.name, point.level, turn))
    return found


class Sources:
    """points: built in. access: the access service's addresses. keys: that its lists are signed with. through: what
    makes connections to an address. resolve: the system's DNS. clock: seconds since 1970."""

    def __init__(
        self,
        points: Sequence[Point],
        access: Sequence[Point],
        keys: PublicKeys,
        memory: Memory,
        *,
        through: Callable[[Candidate], Connect],
        resolve: Resolve,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._points = points
        self._access = access
        self._keys = keys
        self._memory = memory
        self._through = through
        self._resolve = resolve
        self._tls = tls
        self._clock = clock
        self._again_at = 0.0
        self.back_off: BackOff | None = None
        """How to come back after a failure: what the last list says; None = there was none."""
        self.still_s = 0.0
        """How long a connection may be still on most networks of the caller's carrier, seconds, as the last list says;
        0 = nobody knows."""
        self._level = BUILT_IN_LEVEL if access else 0
        self._lookups: dict[str, asyncio.Task[list[str]]] = {}

    @property
    def stale(self) -> bool:
        """The access service's last list asks to be asked for again, or there was none."""
        return bool(self._access) and self._clock() >= self._again_at

    async def gather(self, role: Direction, hear: Callable[[Heard], None], *, anew: bool = True) -> None:
        """Ask all of them; `hear` is told of each as it answers. Returns when the last one has, or is given up. anew:
        False = the access service is not asked before its last list says so."""
        self._lookups = {name: lookup for name, lookup in self._lookups.items() if not lookup.done()}
        names = dict.fromkeys(point.host for point in self._points if not is_address(point.host))
        addresses = [point for point in self._points if is_address(point.host)]
        remembered = self._memory.points(role)
        if remembered:
            hear(Heard("memory", Outcome.OK.name, "what was good before", 0.0, remembered))
        if addresses:
            listed = self._built_in({point.host: [point.host] for point in addresses})
            hear(Heard("built in", Outcome.OK.name, "the addresses it was made with", 0.0, listed))
        services = self._access if anew or self.stale else ()
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(self._ask(f"DNS {name}", self._by_dns(name), hear))
                for point in services:
                    if is_address(point.host):
                        group.create_task(self._ask(f"DoH {point} {name}", self._by_doh(point, name), hear))
            for point in services:
                group.create_task(self._ask(f"access {point}", self._by_access(point, role), hear))

    async def report(self, report: Report) -> None:
        """Tell the access service, wherever it takes it first. Nobody is told if it takes it nowhere."""
        request = Request(REPORT_PATH, body=msgspec.json.encode(report), kind="application/json")
        for point in self._access:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    answer = await self._fetch(point, request)
            except (WayError, TimeoutError):
                continue
            if answer.head.status < 300:
                return

    async def close(self) -> None:
        """What is still looked up is waited for no more."""
        left = [lookup for lookup in self._lookups.values() if not lookup.done()]
        for lookup in left:
            lookup.cancel()
        if left:
            await asyncio.wait(left)

    async def _ask(self, source: str, work: Awaitable[list[Listed]], hear: Callable[[Heard], None]) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(PATIENCE_S):
                listed = await work
        except TimeoutError:
            error = met(Outcome.SILENT, f"within {PATIENCE_S:g} s")
        except WayError as met_:
            error = met_
        except BadList as bad:
            error = WayError(bad.reason.upper(), bad.text)
        else:
            hear(Heard(source, Outcome.OK.name, f"{len(listed)} ways in", loop.time() - began, listed))
            return
        hear(Heard(source, error.outcome, error.text, loop.time() - began))

    async def _by_dns(self, name: str) -> list[Listed]:
        return self._built_in({name: await self._addresses(name)})

    async def _by_doh(self, service: Point, name: str) -> list[Listed]:
        from .doh import DOH_PATH, DOH_TYPE, read_reply, write_query  # a tenth of a second, for those who ask

        found: list[str] = []
        for kind in ("A", "AAAA"):
            request = Request(DOH_PATH, body=write_query(name, kind), kind=DOH_TYPE, accept=DOH_TYPE)
            answer = await self._fetch(service, request)
            if answer.head.status != 200:
                raise met(Outcome.HIJACK, f"status {answer.head.status} to a question of DNS")
            found += read_reply(answer.body, name, kind)
        if not found:
            raise met(Outcome.NO_NAME, name)
        return self._built_in({name: found})

    async def _by_access(self, service: Point, role: Direction) -> list[Listed]:
        known = "".join(f"&kid={key}" for key in self._keys)  # so that it signs with one of them
        answer = await self._fetch(service, Request(f"{LIST_PATH}?role={role}{known}"))
        made = open_list(answer.body, self._keys, role, self._clock())
        self._again_at = self._clock() + made.refresh_s
        self.back_off = made.back_off
        self.still_s = float(made.still_s)
        listed = points_of(made)
        self._memory.listed(role, listed)
        return listed

    async def _fetch(self, service: Point, request: Request) -> Answer:
        """By each of its addresses, until one answers."""
        failure: WayError | None = None
        for address in await self._addresses(service.host):
            through = self._through(Candidate(service, address))
            try:
                return await fetch(service, request, Progress(), through=through, tls=self._tls)
            except WayError as error:
                failure = error
        raise failure or met(Outcome.NO_NAME, service.host)

    async def _addresses(self, name: str) -> list[str]:
        """Each name is looked up once for all who ask."""
        if is_address(name):
            return [name]
        lookup = self._lookups.get(name)
        if lookup is None:
            lookup = self._lookups[name] = asyncio.create_task(self._look_up(name), name=f"imcore looks up {name}")
        found = await asyncio.shield(lookup)
        if not found:
            raise met(Outcome.NO_NAME, name)
        return found

    async def _look_up(self, name: str) -> list[str]:
        """Empty if there is no such name, or nobody to ask: a task's failure would have to be fetched."""
        try:
            return await self._resolve(name)
        except OSError:
            return []

    def _built_in(self, addresses: dict[str, Iterable[str]]) -> list[Listed]:
        found = []
        for host, known in addresses.items():
            for address in _first(known):
                ways = [point for point in self._points if point.host == host]
                found += [
                    Listed(Candidate(point, address), level=self._level, turn=turn) for turn, point in enumerate(ways)
                ]
        return found


def _first(addresses: Iterable[str]) -> list[str]:
    """As many of each family as are tried, in their order."""
    left = {True: ADDRESSES, False: ADDRESSES}
    first = []
    for address in dict.fromkeys(addresses):
        left[":" in address] -= 1
        if left[":" in address] >= 0:
            first.append(address)
    return first
