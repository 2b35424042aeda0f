"""Opening a link: one access point, by one way, to a link that is welcomed, or to what stands in the way, by name."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

from .._hub import Hub
from ..errors import LinkClosed
from ..messages import Hello, Role
from ..ways.candidate import Candidate
from ..ways.dial import Connect, dial
from ..ways.learned import Manner, Memory
from ..ways.outcomes import met, of_error, reason
from ..ways.tunnel import Path, Tunnel
from .exchange import ExchangeLink
from .link import ClientLink, Owner

__all__ = ["Opening", "OpeningOwner", "Token", "Want", "fresh"]

Token = str | Callable[[], str | Awaitable[str]]
"""A token, or what gets one: asked for each new link, so that an expired one is renewed."""

DIAL_S = 10.0
"""How long a connection may take, and then WELCOME, seconds."""
ECHO_S = 60.0
"""How long a request may be on its way at the most, seconds."""
TUNNELS = 8
"""That are kept beside those in use: names may lead to new addresses for ever."""
TRIES = 6
"""Exchanges that may fail one after another in a way that says nothing about the next one."""


async def fresh(token: Token) -> str:
    """The token itself, or a new one."""
    got = token if isinstance(token, str) else token()
    return got if isinstance(got, str) else await got


class Want(NamedTuple):
    """What kind of link."""

    role: Role
    beats: bool = True
    """It shows signs of life, and is kept; else it is there as long as the gateway likes."""
    quick: bool = False
    """Where answers are held back: an answer at once."""
    last: bool = False
    """Only to say what was taken: an answer at once, however the way is."""


class OpeningOwner(Owner, Protocol):
    """Who is told of the links."""

    def opening(self, link: ClientLink) -> None:
        """It has said HELLO: what else it may say at once goes now."""


class Opening:
    """hello: makes the HELLO for a token, a role and a carrier. through: what makes connections for a candidate.
    memory: of ways through the tunnel."""

    def __init__(
        self,
        owner: OpeningOwner,
        token: Token,
        tls: ssl.SSLContext | None,
        hello: Callable[[str, Role, str], Hello],
        through: Callable[[Candidate], Connect],
        memory: Memory,
    ) -> None:
        self._owner = owner
        self._token = token
        self._tls = tls
        self._hello = hello
        self._through = through
        self._memory = memory
        self._echoes_until = 0.0
        self._tunnels: dict[Candidate, Tunnel] = {}

    async def open(self, hub: Hub, candidate: Candidate, want: Callable[[], Want]) -> ClientLink:
        """The link, welcomed; of an exchange it may be all over by then. want: asked before each try. Raises
        `LinkClosed` with the gateway's code if it was a gateway; else its cause is the `WayError` that names what was
        met."""
        tries = 0
        try:
            while True:
                wants = want()
                hello = self._hello(await fresh(self._token), wants.role, candidate.point.scheme)
                if not candidate.point.tunnels:
                    return await self._connect(hub, candidate, hello, wants)
                link = await self._exchange(hub, candidate, hello, wants)
                try:
                    await link.opened
                except LinkClosed:
                    tries = 0 if link.served else tries + 1
                    if not (link.again or link.served) or tries == TRIES:
                        raise
                except BaseException:
                    link.abort()
                    raise
                else:
                    return link
        except OSError as error:
            why = met(of_error(error), reason(error))
            raise LinkClosed(why.code, str(why), 0) from why

    def echoes(self) -> bool:
        """A request of the tunnel may still come to a gateway, late or once more."""
        return asyncio.get_running_loop().time() < self._echoes_until

    def moved(self) -> None:
        """This device is on another network: what is kept may lead nowhere."""
        for tunnel in self._tunnels.values():
            tunnel.moved()

    def close(self) -> None:
        """Close what is kept."""
        for tunnel in self._tunnels.values():
            tunnel.close()

    async def _connect(self, hub: Hub, candidate: Candidate, hello: Hello, want: Want) -> ClientLink:
        link = ClientLink(hub, self._owner)
        link.beats = want.beats
        try:
            async with asyncio.timeout(DIAL_S):
                link.wire = await dial(candidate.point, link, self._tls, self._through(candidate))
            link.hello(hello, DIAL_S)
            self._owner.opening(link)
            await link.opened
        except BaseException:
            link.abort()
            raise
        return link

    async def _exchange(self, hub: Hub, candidate: Candidate, hello: Hello, want: Want) -> ExchangeLink:
        """An exchange that has been asked for."""
        path: Path = "up" if hello.role == "up" else "down"
        tunnel = self._tunnel(hub, candidate)
        async with asyncio.timeout(DIAL_S):
            await tunnel.reach(path)
        link = ExchangeLink(hub, self._owner, tunnel, path, quick=want.quick, last=want.last)
        link.hello(hello, DIAL_S)
        self._owner.opening(link)
        link.ask()
        self._echoes_until = asyncio.get_running_loop().time() + ECHO_S
        return link

    def _tunnel(self, hub: Hub, candidate: Candidate) -> Tunnel:
        """The one to there, as the latest; the oldest that nobody uses are given up."""
        tunnel = self._tunnels.pop(candidate, None)
        if tunnel is None:
            manner = Manner(self._memory, str(candidate), candidate.path)
            tunnel = Tunnel(hub, candidate.point, manner, self._tls, self._through(candidate))
            idle = [one for one, other in self._tunnels.items() if other.idle]
            for one in idle[:-TUNNELS]:
                self._tunnels.pop(one).close()
        self._tunnels[candidate] = tunnel
        return tunnel
