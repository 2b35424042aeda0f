"""The gateway: keeps connections and who is on them, from start through drain to stop. It knows no business."""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

from .._codec import WELCOME
from .._hub import Hub
from .._link import Link
from ..bus.ports import Bus, Opening, Route, Wake
from ..errors import BadHello, EngineError, Unauthorized
from ..messages import GoAway, Hello, Role, Welcome, pack, unpack
from ..session import Phase, moves
from .admission import Admission
from .auth import Authenticate, checked_user
from .counters import Counters
from .downlink import Downlink
from .http import Http
from .limits import Limits, place
from .link import ServerLink
from .listeners import Listen, Listeners
from .presence import Presence
from .pulse import Pulse
from .rooms import Rooms
from .web import Web

__all__ = ["Gateway"]

_log = logging.getLogger(__name__)

MANY_MS = 60_000
"""After so long a device comes back whose user has too many links."""

_PHASES: dict[Role, Phase] = {"down": Phase.GATEWAY_DOWN, "up": Phase.GATEWAY_UP, "both": Phase.GATEWAY_BOTH}


class Gateway:
    """The server side of links on one event loop: `async with Gateway(…) as gateway: await gateway.listen(…)`.

    bus: started by its owner. name: this node's. authenticate: token to user. serves: roles of HELLO that it takes;
    others are told `no_route`, and try another access point. native: False rides on asyncio's transports, as on
    platforms without epoll. web: what answers HTTP that is not the tunnel's; None = nobody.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        name: str,
        authenticate: Authenticate,
        limits: Limits | None = None,
        serves: Collection[Role] = ("down", "up", "both"),
        native: bool = True,
        web: Web | None = None,
    ) -> None:
        self.bus = bus
        self._serves = serves
        self.name = name
        self.limits = limits or Limits()
        self._authenticate = authenticate
        self._native = native
        self.http = Http(self, web)
        self._users: dict[str, ServerLink | list[ServerLink]] = {}  # most users have one link
        self._moves = {role: moves(phase, relay=self.limits.publish == "members") for role, phase in _PHASES.items()}
        self._ended = asyncio.Event()
        self._draining = False
        self.refused: Counter[str] = Counter()
        """Requests, by the code of their refusal."""
        self.errors: Counter[str] = Counter()
        """Links, by the code of the `ERROR` that ended them."""

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self.hub = Hub(asyncio.get_running_loop(), window=self.limits.window_bytes, native=self._native)
            stack.callback(self.hub.close)
            self.rooms = Rooms(self.hub, self.limits, self.bus.push, self.name)
            self.downlink = Downlink(self.bus, self.limits, self.spawn)
            self._tasks = await stack.enter_async_context(asyncio.TaskGroup())
            self._pulse = Pulse(self.bus.loads, self.name, lambda: self.hub.links)
            stack.callback(self._tasks.create_task(self._guarded(self._pulse.beat())).cancel)
            self.admission = Admission(self.limits, lambda: self._pulse.late_s * 1000)
            stack.callback(self.http.close)
            if self.http.web is not None:
                await stack.enter_async_context(self.http.web)
            self._listeners = Listeners(
                self.hub, lambda: ServerLink(self), self.limits.handshake_s, self.limits.window_bytes
            )
            stack.callback(self._listeners.close)
            self.bus.push.attach(self.name, self._wake, self.rooms.broadcast, self._said)
            self.bus.routes.attach(self.name, self._superseded)
            self.bus.inbox.attach(self._history_lost)
            self._presence = Presence(self.bus.routes)
            stack.callback(self._presence.close)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                await self.drain()
        finally:
            for link in self.links():
                link.close()
            await asyncio.sleep(0)
            while self.hub.behind:  # noqa: ASYNC110 - each turn sends some of the last frames, and tells nobody
                await asyncio.sleep(0)
            try:
                await self._stack.__aexit__(kind, error, trace)
            except BaseExceptionGroup as group:
                if error is None or group.exceptions != (error,):
                    raise
                # The group of tasks only wrapped what ended the block: that goes on as it is.

    async def listen(self, listens: Iterable[Listen]) -> None:
        """Accept links there; raises `ConfigError`."""
        for listen in listens:
            await self._listeners.open(listen)

    @property
    def addresses(self) -> list[str]:
        """Where it listens, as bound."""
        return [address for address, _ in self.places]

    @property
    def places(self) -> list[tuple[str, bool]]:
        """Where it listens, as bound, and whether in TLS alone."""
        return self._listeners.places

    @property
    def users(self) -> int:
        """How many users are connected."""
        return len(self._users)

    @property
    def counters(self) -> Counters:
        """What it has now, and has done since it started."""
        admission, hub = self.admission, self.hub
        return Counters(
            links=admission.links,
            up_links=admission.up_links,
            up_waiting=admission.waiting,
            up_bytes=admission.size,
            late_ms=self._pulse.late_s * 1000,
            users=self.users,
            rooms=len(self.rooms),
            connections=hub.links,
            http=len(self.http.connections),
            frames_in=hub.frames_in,
            frames_out=hub.frames_out,
            bytes_in=hub.bytes_in,
            bytes_out=hub.bytes_out,
            relayed=hub.relayed,
            dropped=hub.dropped,
            not_relayed=self.bus.push.dropped,
            refused_links=admission.refused["links"],
            refused_up_links=admission.refused["up_links"],
            refused=dict(self.refused),
            errors=dict(self.errors),
        )

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a link's work; what it raises ends neither the gateway nor another link."""
        self._tasks.create_task(self._guarded(work))

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:
            _log.exception("a link's work failed")

    async def drain(self) -> None:
        """Accept no more, ask every link to leave (wire: `GOAWAY`), and wait for them: `limits.drain_s` at most."""
        self._listeners.close()
        self._draining = True
        self._pulse.drain()
        body = pack(GoAway("draining", round(self.limits.drain_s * 1000), round(self.limits.spread_s * 1000)))
        for link in self.links():
            if link.role is None:  # before WELCOME, GOAWAY may not come
                self._turn_away(link)
            else:
                link.leave(body)
        self.http.leave()
        try:
            async with asyncio.timeout(self.limits.drain_s):
                while self._users:
                    self._ended.clear()
                    await self._ended.wait()
        except TimeoutError:
            _log.info("%d users' links did not leave within %g s", len(self._users), self.limits.drain_s)

    def links(self, user: str | None = None) -> list[ServerLink]:
        """The links of one user, or all that have said who they are."""
        if user is None:
            return [link for name in self._users for link in self.links(name)]
        found = self._users.get(user)
        if found is None:
            return []
        return found if isinstance(found, list) else [found]

    # What links ask.

    def hello(self, link: ServerLink, body: bytes) -> None:
        """A link's first frame; it is held until the answer."""
        self.spawn(self._welcome(link, body, self.bus.routes.order()))

    def publish(self, link: ServerLink, id: int, room: str, body: bytes) -> None:
        """A message for a room that the link itself is not in."""
        self.admission.came(len(body))
        down = self._listening(link)
        if (refusal := self.admission.message()) is not None:
            if id:
                link.refuse(id, refusal)
        elif down is None and self.bus.push.spreads:
            self.spawn(self._publish_elsewhere(link, id, room, body))
            return
        else:
            self.rooms.publish(link, id, room, body, down)
        self.admission.answered(len(body))

    async def _publish_elsewhere(self, link: ServerLink, id: int, room: str, body: bytes) -> None:
        try:
            await self.rooms.say_elsewhere(link, id, link.user, link.device, room, body)
        finally:
            self.admission.answered(len(body))

    def ended(self, link: ServerLink) -> None:
        """The link is over."""
        if link.route is None:
            return
        rest = [other for other in self.links(link.user) if other is not link]
        if rest:
            self._users[link.user] = rest if len(rest) > 1 else rest[0]
        elif self._users.pop(link.user, None) is not None:
            self._ended.set()
        if link.role is not None:  # before that the route is `_welcome`'s
            self.admission.left(link.role)
            self.bus.routes.release(link.route)
            self._presence.went(link.route)

    async def _welcome(self, link: ServerLink, body: bytes, order: int) -> None:
        """order: that of the HELLO, whatever comes later."""
        try:
            hello = unpack(body, Hello)
            link.on_hello(hello)
            if hello.role not in self._serves:
                served = f"with the role {' and '.join(self._serves)} only" if self._serves else "of no kind"
                link.farewell("no_route", f"this node takes links {served}: use another point")
            elif (refusal := self.admission.stranger(hello.role)) is not None:
                link.farewell(refusal.code, refusal.text, refusal.retry_ms)
            else:
                await self._known(link, hello, order)
        except (BadHello, Unauthorized) as error:
            link.farewell(error.code, str(error))
        except EngineError as error:
            link.farewell("overloaded", str(error), 1000)
        except Exception:
            _log.exception("HELLO could not be answered")
            link.farewell("internal", "this node could not answer HELLO: its log says why", 1000)

    async def _known(self, link: ServerLink, hello: Hello, order: int) -> None:
        """From the user on: only who is somebody takes a place, and a share of what goes up."""
        user = await self._user(hello.token)
        if not link.open:
            return
        if self._draining:
            self._turn_away(link)
        elif self._has_many(user, hello.device):
            link.farewell("rate_limited", f"expected at most {self.limits.user_links} links of one user", MANY_MS)
        elif (refusal := self.admission.link(hello.role)) is not None:
            link.farewell(refusal.code, refusal.text, refusal.retry_ms)
        else:
            try:
                await self._admitted(link, hello, user, order)
            finally:
                if link.role is None:  # it did not come to be
                    self.admission.left(hello.role)

    async def _admitted(self, link: ServerLink, hello: Hello, user: str, order: int) -> None:
        device = sys.intern(hello.device)  # most devices share a few names
        client = sys.intern(hello.client)
        route = Route(user, device, self.name, place(self.limits.devices, device), hello.role, order, client)
        self._seat(link, route)
        try:
            opening = await self._opening(link, route, hello)
            if opening is not None and link.open:
                link.accepts = tuple(map(sys.intern, hello.accepts))
                self._open(link, route, opening)
        finally:
            if link.role is None:  # it did not come to be, and nobody else lets go of its route
                self.bus.routes.release(route)

    async def _opening(self, link: ServerLink, route: Route, hello: Hello) -> Opening | None:
        """Where its device stands; None: the link is not to be. What comes behind HELLO waits for itself."""
        up = route.way == "up"
        self.admission.waiting += up
        try:
            newer = await self.bus.routes.claim(route)
            if newer is not None:
                self._superseded(route, newer)
                return None
            if not link.open:
                return None
            return await self.bus.inbox.open(route.user, route.device, hello.resume, hello.fresh, down=not up)
        finally:
            self.admission.waiting -= up

    async def _user(self, token: str) -> str:
        if not token:
            raise Unauthorized("expected a token, got an empty one")
        user = self._authenticate(token)
        if inspect.isawaitable(user):
            async with asyncio.timeout(self.limits.handshake_s):
                user = await user
        return checked_user(user)

    def _has_many(self, user: str, device: str) -> bool:
        """The user has as many links as may be, and none of them makes room because it is this device's."""
        links = self.links(user)
        return len(links) >= self.limits.user_links and all(link.device != device for link in links)

    def _seat(self, link: ServerLink, route: Route) -> None:
        """From here on this link is found by its user: it hears of wake-ups, and of who takes over from it."""
        link.route = route
        links = self.links(route.user)
        self._users[route.user] = [*links, link] if links else link

    def _turn_away(self, link: ServerLink) -> None:
        link.farewell("draining", "this node is about to stop: use another one", 0)

    def _open(self, link: ServerLink, route: Route, opening: Opening) -> None:
        limits = self.limits
        link.role = route.way
        link.head = max(opening.head, link.head)
        link.accepted = opening.accepted
        link.pong_head = route.way != "up"
        link.ack_head = route.way == "up"
        link.sent = link.taken = opening.first - 1
        link.expect_moves(self._moves[route.way], limits.max_frame)
        welcome = Welcome(
            session=route.session,
            user=route.user,
            node=self.name,
            epoch=opening.epoch,
            head=link.head,
            first=opening.first,
            resumed=opening.resumed,
            accepted=opening.accepted,
            heartbeat=limits.heartbeat,
            idle_s=limits.idle_s,
            max_frame=limits.max_frame,
            time_ms=time.time_ns() // 1_000_000,
            nonce=link.nonce,
        )
        link.send(WELCOME, body=pack(welcome))
        link.on_welcome()
        link.proceed()
        self._presence.came(route)
        if link.listens:
            self.downlink.pump(link)

    def _listening(self, link: ServerLink) -> Link | None:
        """The same device's link that messages come down on."""
        return next((other for other in self.links(link.user) if other.listens and other.device == link.device), None)

    # What the bus tells.

    def _wake(self, wakes: Sequence[Wake]) -> None:
        users = self._users
        for wake in wakes:
            found = users.get(wake.user)
            if found is None:
                continue
            if isinstance(found, list):
                for link in found:
                    link.wake(wake)
            else:
                found.wake(wake)

    def _said(self, user: str, device: str, room: str, body: bytes) -> None:
        """A device that hears here has said something in a room at another node."""
        for link in self.links(user):
            if link.listens and link.device == device:
                self.rooms.said_elsewhere(link, room, body)

    def _history_lost(self, concerns: Callable[[str], bool]) -> None:
        """What these links were told of their inboxes holds no more: they resume, and hear of it in WELCOME."""
        for link in self.links():
            if link.role is not None and concerns(link.user):
                link.farewell("internal", "the inbox has lost what was newest in it: resume", 0)

    def _superseded(self, route: Route, newer: Route) -> None:
        for link in self.links(route.user):
            if link.route == route:
                link.farewell("superseded", f"a newer link of device {newer.device!r} has taken over")
