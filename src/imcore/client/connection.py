"""What connects a device: one channel both ways, or one for each (wire: "The HTTP tunnel", `role`).

The long channel brings messages down, and where one link does both, up too. The short one is there where up and down
are apart: its link is opened when something is to be sent, and kept for as long as the gateway likes. In the tunnel
they always are.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Literal

from .._hub import Hub
from ..messages import GoAway, Hello, Role
from ..ways.ahead import Ahead
from ..ways.candidate import Candidate
from ..ways.watch import Watch, stranded
from ..ways.ways import Ways
from .channel import Channel, State
from .exchange import ExchangeLink
from .link import ClientLink
from .opening import Opening, OpeningOwner, Token, Want
from .spare import Spare

__all__ = ["Channels", "Connection", "State", "Token"]

_log = logging.getLogger(__name__)

Channels = Literal["single", "split"]


class Connection:
    """owner: told what the links bring. hello: makes the HELLO for a token, a role and a carrier. say: told each new
    state. channels: "split" has up and down apart on any way. receive: False = messages only go up. joining: whether a
    room is waited for. ways: how ways in are found, for up and down apart."""

    def __init__(
        self,
        owner: OpeningOwner,
        ways: Ways,
        token: Token,
        hello: Callable[[str, Role, str], Hello],
        say: Callable[[State, str], None],
        *,
        channels: Channels,
        receive: bool,
        joining: Callable[[], bool],
    ) -> None:
        self._channels = channels
        self._receive = receive
        self._memory = ways.memory
        self._joining = joining
        self._ahead = Ahead(ways.through)
        self._opening = Opening(owner, token, ways.tls, hello, self._ahead.entering, ways.memory)
        self.split = channels == "split" or ways.tunnels
        """Up and down are apart, now."""
        renews = not isinstance(token, str)
        echoes = self._opening.echoes
        long = ways.finder("down" if receive else "up", ahead=self._ahead)
        short = ways.finder("up", self._is_apart, self._ahead)
        long.beside(short)
        self.long = Channel(long, self._open_long, self._wanted, renews, receive, echoes, say)
        self.short = Channel(short, self._open_short, self._sent_for, renews, False, echoes, lambda state, text: None)
        self.spare = Spare(ways.memory, long.still, lambda: self.long.good, lambda: long.still_s)
        self._need = asyncio.Event()
        self._ready = asyncio.Event()
        self._ready.set()
        self._last = False
        self._asked: ClientLink | None = None  # the newest link for what comes down, welcomed or not
        self._began = False  # there was a link

    @property
    def up(self) -> ClientLink | None:
        """The welcomed link that messages go up on."""
        return self.short.link if self.split and self._receive else self.long.link

    @property
    def down(self) -> ClientLink | None:
        """The welcomed link that messages come down on."""
        return self.long.link if self._receive else None

    @property
    def up_state(self) -> State:
        """Where what goes up stands."""
        if not self.split:
            return self.long.state
        channel = self.short if self._receive else self.long
        if channel.link is None and channel.state is State.OPEN:
            return State.IDLE
        return channel.state

    def where_up(self) -> str:
        """The same in one sentence: about what is wrong, if something is."""
        return (self.short.text if self.split and self._receive else "") or self.long.text

    async def run(self, hub: Hub) -> None:
        """Stay connected. Raises `LinkClosed`, with advice, when there is no use in coming back."""
        self._hub = hub
        hub.on_wake.append(self.stalled)
        try:
            with Watch(self.moved, self.woke):
                if not self._receive:
                    await self.long.run()
                    return
                try:
                    async with asyncio.TaskGroup() as group:
                        group.create_task(self.long.run())
                        group.create_task(self.short.run())
                        group.create_task(self.spare.run())
                except BaseExceptionGroup as failed:
                    raise failed.exceptions[0] from None
        finally:
            hub.on_wake.remove(self.stalled)
            self._opening.close()
            self._ahead.drop()

    def need(self) -> None:
        """Something is to be sent, and there is no link."""
        self._need.set()

    def ready(self, on: bool) -> None:
        """More may come down, or not yet."""
        if on:
            self._ready.set()
        else:
            self._ready.clear()

    def anew(self, *, last: bool = False) -> None:
        """What is wanted of the gateway can only be said on another link: open it now. last: only to say what was
        taken."""
        self._last = self._last or last
        self._ready.set()
        if isinstance(self._asked, ExchangeLink):
            self._asked.give_way()

    def moved(self) -> None:
        """This device is on another network now. What can't be reached from here any more is left: the link down when
        another one is welcomed; the one up at once, since it has nothing to bring."""
        _log.debug("another network: the links are looked at")
        self._memory.journeys += 1
        self.spare.begin(self.long.link)
        for channel in (self.long, self.short):
            link = channel.link
            channel.anew()
            if link is None:
                continue
            if not stranded(link.wire):
                self._see(link)
            elif isinstance(link, ExchangeLink) or channel is self.short:
                link.die("internal", "this device is on another network now")
            else:
                link.check()
                link.leave()
        self._opening.moved()
        self._ahead.drop()

    def woke(self) -> None:
        """This machine slept: what was tried before is nothing, and it may be elsewhere."""
        self._memory.journeys += 1
        self.stalled()
        for channel in (self.long, self.short):
            channel.anew()

    def stalled(self) -> None:
        """This process was stopped, or its loop was blocked: whether the links live is asked before anything else. What
        is waited for goes on, since its time went on too."""
        _log.debug("awake: the links are looked at")
        self.spare.begin(self.long.link)
        for link in (self.long.link, self.short.link):
            if link is not None:
                self._see(link)

    def _see(self, link: ClientLink) -> None:
        if isinstance(link, ExchangeLink):
            if link is self._asked:
                link.give_way()
        elif link.beats or link.owner.waits(link):
            link.check()
        else:
            link.close()  # it is idle, and another one is opened sooner than it is known whether this one lives

    def stirs(self) -> None:
        """A message came, or was answered."""
        self.long.stirs()
        self.short.stirs()

    def check(self) -> None:
        """Another link says that there is more to come down than has come."""
        if self._asked is not None:
            self._asked.check()

    def opening(self, link: ClientLink) -> None:
        """A new link has said HELLO."""
        if link.role == "up":
            self._need.clear()  # not before: as long as there is no link, it is needed
        else:
            self._asked = link

    def welcomed(self, link: ClientLink) -> None:
        """The link is welcomed: it takes the place of the one before."""
        self._began = True
        if link.role == "up" and self._receive:
            if self.short.state is not State.OPEN:
                self.long.hurry()
            self.short.switch(link)
            self.short.say(State.OPEN, "")
            return
        if self.long.state is not State.OPEN:
            self.short.hurry()
        self.long.switch(link)
        self.spare.begin(link)
        if link.role == "both" and (short := self.short.link) is not None:
            self.short.lost(short)
            short.close()

    def lost(self, link: ClientLink) -> bool:
        """The link is over; False if it was not one that is used."""
        if link is self.short.link and self.long.link is not None and link.reason.code == "timeout":
            self._see(self.long.link)  # it stands where silence is now
        if link is self.long.link:
            self.spare.begin(None)
        return self.long.lost(link) or self.short.lost(link)

    def leave(self, link: ClientLink, notice: GoAway) -> None:
        """The gateway asks us to go. What goes up stays until the gateway closes it."""
        if link is self.long.link:
            self.spare.begin(None)
            self.long.leave(link, notice)

    async def round_trip(self) -> float | None:
        """How long an answer takes now, seconds; None where there is no link to ask on."""
        link = self.long.link
        if link is None or link.paused or isinstance(link, ExchangeLink):
            return None
        began = time.monotonic()  # the loop's own time stands still for a whole turn
        return time.monotonic() - began if await link.sound() else None

    def close(self) -> None:
        """End both links now."""
        for link in (self.long.link, self.short.link):
            if link is not None:
                link.close()

    # What the channels ask.

    def _is_apart(self, candidate: Candidate) -> bool:
        """By it something can go up beside what comes down."""
        return candidate.point.tunnels or self._channels == "split"

    async def _open_long(self, candidate: Candidate) -> ClientLink:
        was, self.split = self.split, self._is_apart(candidate)
        try:
            return await self._opening.open(self._hub, candidate, self._want)
        except BaseException:
            if self.long.link is not None:  # it goes on as it was
                self.split = was
            raise

    def _want(self) -> Want:
        role: Role = "up" if not self._receive else "down" if self.split else "both"
        quick = self.long.state is not State.OPEN or self._joining()
        return Want(role, beats=self._receive or not self.split, quick=quick, last=self._last)

    async def _open_short(self, candidate: Candidate) -> ClientLink:
        return await self._opening.open(self._hub, candidate, lambda: Want("up", beats=False))

    async def _wanted(self) -> None:
        """A link down is always wanted; in the tunnel, where nothing else can hold it back, once what came is taken.
        One that is only for what goes up is wanted when there is something."""
        if not self.split or not self._began:
            return
        if not self._receive:
            await self._need.wait()
        elif self.long.good is not None and self.long.good.point.tunnels:
            await self._ready.wait()

    async def _sent_for(self) -> None:
        while True:
            await self._need.wait()
            if self.split:
                return
            self._need.clear()  # one link does both: that carries it
