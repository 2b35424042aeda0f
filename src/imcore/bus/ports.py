"""The ports between channel and business, as protocols, and the values that cross them.

The inbox is the only truth. A wake-up is only a hint that happens to carry the message: losing it, doubling it or
reordering it does no harm. Nothing here knows what a payload means. All methods are called on the event loop's thread,
and every callback is called there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from ..messages import Refusal, Resume, Role

__all__ = [
    "PRESENCE",
    "Bus",
    "Check",
    "Inbox",
    "Load",
    "Loads",
    "Nobody",
    "Opening",
    "Push",
    "Route",
    "Routes",
    "Seen",
    "Sink",
    "Stored",
    "Uplink",
    "UplinkQueue",
    "Wake",
    "seen",
]


class Uplink(msgspec.Struct, gc=False, eq=False, array_like=True):
    """A message on its way up, as the service sees it."""

    user: str
    device: str
    id: int
    """The device's message number (wire: `MSG` c→s)."""
    route: str
    body: bytes
    time_ms: int = 0
    """When the gateway took it, milliseconds since 1970."""
    entry: int = 0
    """Its place in the queue, given by the engine; 0 = not stored yet."""

    _key: str = ""

    @property
    def key(self) -> str:
        """The same at every delivery of this message: what makes a push that answers it idempotent. The length in front
        keeps user `a/b` with device `c` apart from user `a` with device `b/c`."""
        if not self._key:
            self._key = f"{len(self.user)}/{self.user}/{self.device}/{self.id}"
        return self._key


class Stored(msgspec.Struct, gc=False, frozen=True):
    """A message in a user's inbox."""

    seq: int
    route: str
    body: bytes


class Wake(msgspec.Struct, gc=False, frozen=True, array_like=True):
    """What was appended to `user`'s inbox as number `seq`."""

    user: str
    seq: int
    route: str
    body: bytes


class Opening(msgspec.Struct, frozen=True):
    """Where a device stands, for its `WELCOME`."""

    epoch: str
    head: int
    """The newest sequence number in the inbox, 0 = empty from the start."""
    first: int
    """The number of the first message that follows or will follow."""
    resumed: bool
    accepted: int
    """The highest message number accepted from this device, 0 = none."""


class Route(msgspec.Struct, gc=False, frozen=True):
    """By which link a device is connected, and which of the user's places it holds."""

    user: str
    device: str
    node: str
    place: str
    """Devices of one place take over from each other. The gateway's policy names it: the device itself, its kind, or
    the one place that a user has."""
    way: Role
    order: int
    """When its HELLO came, among all: of `Routes.order`."""
    client: str = ""
    """Which program is on it, as its HELLO says."""

    @property
    def session(self) -> str:
        """Its name, told in WELCOME: no two links have the same."""
        return f"{self.node}-{self.order:x}"

    def rivals(self, other: Route) -> bool:
        """Only one of the two may stand. An up and a down link of one device stand beside each other."""
        return (
            self.place == other.place
            and self.user == other.user
            and (self.device != other.device or {self.way, other.way} != {"up", "down"})
            and (self.order, self.node) != (other.order, other.node)
        )

    def newer(self, other: Route) -> bool:
        """Its HELLO came later. The node decides between two that came at once."""
        return (self.order, self.node) > (other.order, other.node)


PRESENCE = "@presence"
"""The route of messages that say who has come and gone. Their device is `@presence` too; the body is a `Seen`."""


class Seen(msgspec.Struct, frozen=True):
    """What a message of `@presence` says, in MessagePack."""

    device: str
    online: bool
    node: str
    client: str
    since_ms: int
    """Since when, milliseconds since 1970."""


def seen(route: Route, online: bool, number: int, time_ms: int) -> Uplink:
    """The message that says so. number: higher than in any that came before it."""
    since_ms = route.order // 1000 if online else time_ms
    what = Seen(route.device, online, route.node, route.client, since_ms)
    return Uplink(route.user, PRESENCE, number, PRESENCE, msgspec.msgpack.encode(what), time_ms)


class Sink(Protocol):
    """Who brought a message, and is told how it fared: the link."""

    def objection(self) -> Refusal | None:
        """Why this message may not come in now, whatever it is. The queue asks while it has it in hand, and never of a
        repeat."""

    def answered(self, id: int, refusal: Refusal | None) -> None:
        """`None`: the message is durable, or was so before (a repeat)."""


class Nobody:
    """A sink for messages that no link waits for."""

    def objection(self) -> Refusal | None:
        """They always may."""
        return None

    def answered(self, id: int, refusal: Refusal | None) -> None:
        """Nobody asked."""


Check = Callable[[Uplink], str | None]
"""Looks at a message before it is accepted, where service and gateway share a process: None, or what was expected."""


class UplinkQueue(Protocol):
    """Messages from devices, durable from `answered(id, None)` on, until the service has settled them."""

    def put(self, message: Uplink, sink: Sink) -> None:
        """Store the message unless its number is not above the highest accepted from this device. What is durable is
        answered in the order of one sink's puts. What is refused at the door (its sink objects, no such route, its
        check, no room) is answered before `put` returns, so that the link can hold back what follows. If one can't be
        stored, those that were put behind it and are not durable yet are refused with it: order holds."""

    def withdraw(self, user: str, device: str, id: int, sink: Sink) -> None:
        """The device gives this number up: it counts as accepted, and nothing is processed."""

    def consume(self, routes: Mapping[str, Check | None], take: Callable[[Sequence[Uplink]], None]) -> None:
        """Hand messages of these routes to `take`, oldest first: first what an earlier process left unsettled, then
        what comes. Messages of other routes are refused with `no_route`."""

    def settle(self, messages: Iterable[Uplink]) -> None:
        """Their handlers have returned; they leave the queue (durably soon, not at once: they may come again)."""

    def bury(self, message: Uplink, error: str) -> None:
        """The handler failed too often: the message leaves the queue and is put aside with its last error."""


class Inbox(Protocol):
    """A user's messages from the server, numbered from 1 without gaps."""

    def attach(self, changed: Callable[[Callable[[str], bool]], None]) -> None:
        """The gateway is told when history was lost, and of a function that says of a user whether the user's inbox is
        of another epoch now: such links must begin again."""

    async def open(self, user: str, device: str, resume: Resume | None, fresh: str, *, down: bool = True) -> Opening:
        """A device comes. `resume` acknowledges everything up to it (wire: "Messages down"). With `down`
        False it comes only to send: it gets no cursor, and nothing is kept for it."""

    def append(self, user: str, route: str, body: bytes, key: str | None = None) -> asyncio.Future[int]:
        """Append: the sequence number, once it is durable. What is appended to one user comes in the order of the
        calls, and fails in it: nothing is appended behind a failure that its caller was not told of yet. A repeated
        key appends nothing and returns the number that it was given at first."""

    async def read(self, user: str, after: int, count: int, size: int) -> list[Stored]:
        """The messages after number `after`, in order: at most `count` and about `size` bytes, at least one if there is
        one."""

    def newest(self, user: str, then: Callable[[int], None]) -> None:
        """Tell `then` the newest number in the inbox, from the inbox itself: now, if it is at hand, or soon; never, if
        it can't be read. Asked at each heartbeat of each link, so it must cost next to nothing, and keep nothing."""

    def taken(self, user: str, device: str, seq: int) -> None:
        """The device has taken in everything up to `seq` (durably soon; never goes back)."""


class Routes(Protocol):
    """By which links a user's devices are connected, whatever the node. Of two rivals the newer stands, and "newer" is
    decided when HELLO comes: however late a claim is, it takes over only from what is older than itself."""

    def attach(self, node: str, superseded: Callable[[Route, Route], None]) -> None:
        """This node's gateway is told when a route of its own has fallen, and to which newer one; perhaps before the
        claim of the fallen one has returned."""

    def order(self) -> int:
        """For a HELLO that has just come: higher than that of any that came before it, on any node as far as their
        clocks agree."""

    async def claim(self, route: Route) -> Route | None:
        """Stand, in one step: older rivals fall, and their nodes are told. If a newer rival stands, nothing changes,
        and that one is returned. Claiming again what stands already changes nothing. Raises `EngineError`, and then
        the route may stand or not: release it."""

    def release(self, route: Route) -> None:
        """The link is over. Does nothing if the route does not stand. Not called while its claim is on the way. What a
        node held that died falls by itself."""

    async def online(self, user: str) -> list[Route]:
        """What stands of the user's now. Raises `EngineError`."""

    @property
    def presence_wanted(self) -> bool:
        """Somebody serves the route `@presence` (`PRESENCE`)."""

    def presence(self, route: Route) -> None:
        """This route's device may have come or gone (a link that messages come down on): unless the service knows, a
        message of `@presence` goes into the queue. Waits for nothing and raises nothing."""


class Push(Protocol):
    """Wake-ups and room broadcasts, to the nodes that hold the links."""

    def attach(
        self,
        node: str,
        wake: Callable[[Sequence[Wake]], None],
        room: Callable[[str, bytes], None],
        said: Callable[[str, str, str, bytes], None] | None = None,
    ) -> None:
        """This node's gateway takes wake-ups for its users, broadcasts for rooms that have members here, and what its
        devices said in rooms at another node (see `say`)."""

    @property
    def spreads(self) -> bool:
        """There may be other nodes, whose members of a room hear what is said here."""

    def relay(self, node: str, room: str, body: bytes) -> None:
        """A member on this node has said something: hand it to the other nodes that have members. Waits for nothing:
        it is dropped, and counted, while too much is on its way."""

    @property
    def dropped(self) -> int:
        """Of what was to be relayed."""

    async def say(self, user: str, device: str, room: str, body: bytes) -> bool:
        """A device says something in a room here, and hears at another node: hand it to that one, which knows whether
        it is a member. False: it hears nowhere. Raises `EngineError`."""

    def joined(self, node: str, room: str) -> bool:
        """The first member of a room has come to this node. False: it may not, too many rooms begin and end."""

    def left(self, node: str, room: str) -> None:
        """The last one has gone."""

    async def broadcast(self, room: str, body: bytes) -> None:
        """Hand a transient message to every node that has members of the room; returns when it is on its way. Raises
        `EngineError`."""


class Load(msgspec.Struct, gc=False, frozen=True, array_like=True):
    """How a node does."""

    node: str
    links: int
    cpu: float
    """What its process has used of one core since the report before, 1.0 = all of it."""
    lag_ms: float
    """How late its loop came to a timer since the report before, at worst."""
    memory: float
    """What its process holds of the memory that it may have, 1.0 = all of it."""
    draining: bool = False
    """It is about to stop: nobody should be sent there."""


class Loads(Protocol):
    """How the nodes do, told to whoever chooses between them: every few seconds, and at once when one drains. A report
    that is lost is made up for by the next; a node that is silent for some of them is taken to be gone."""

    def report(self, load: Load) -> None:
        """Tell all who watch, on any node. Waits for nothing and raises nothing."""

    def watch(self, take: Callable[[Load], None]) -> None:
        """Hand `take` what every node reports from now on, this one too."""


class Bus(Protocol):
    """An engine: its ports, and its life."""

    @property
    def queue(self) -> UplinkQueue: ...
    @property
    def inbox(self) -> Inbox: ...
    @property
    def routes(self) -> Routes: ...
    @property
    def push(self) -> Push: ...
    @property
    def loads(self) -> Loads: ...

    async def start(self) -> None:
        """Open what is below; raises `EngineError` that says what is wrong and what to do."""

    async def close(self) -> None:
        """Make everything that was answered durable, and let go."""
