"""The client: the public object, which puts outbox, downlink and rooms on one link after another.

It owns one task, which opens links and waits between tries; everything else happens in the turns of the links. It never
looks into a message.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Awaitable, Callable, Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import Literal, Self

from .._hub import Hub
from ..errors import ConfigError, ImcoreError, LinkClosed, LocalError, OutboxFull, Refused, Unknown
from ..messages import GoAway, Hello, Refusal, Role, Welcome
from ..points import parse_points
from ..ways.memory import Memory
from ..ways.resolve import Resolve, system
from ..ways.still import Still
from ..ways.ways import Ways
from .connection import Channels, Connection, State, Token
from .downlink import Message
from .exchange import ExchangeLink
from .greeting import Greeting
from .hub import shared_hub
from .link import ClientLink
from .media import Media, Transfers
from .receiving import Receiving
from .rooms import PUBLISH_MOST, Rooms
from .sending import Receipt, Sending, Settled, again, check
from .standing import Standing

__all__ = ["Client", "Receipt", "Settled", "State", "Token"]

_log = logging.getLogger(__name__)

FAREWELL_S = 3.0
"""How long it may take until the gateway has confirmed that it has read everything, when the client closes, seconds."""


class Client(Transfers, Standing):
    """A device: `async with Client(points=["im.example.com:8080"], token="…", device="phone") as im`.

    points: ways in, as `host`, `host:port`, `tcp://…`, `tls://…`, or through the HTTP tunnel `http://…` and `https://…`:
    raced if there are keys, else tried in turn. token: who the user is. device: a name of at most 64 characters; one
    process at a time uses it. tls: for `tls://` and `https://`, None = the system's authorities. fresh: where a device
    begins that the server does not know. receive: False = a device that only sends: the server keeps no place for it.
    channels: "split" = a link down, and one up while there is something to send; "single" = one for both, where the way
    allows it. accepts: payload formats that the application understands beside the plain one, best first
    (`Service.push`, `variants`).

    keys: public keys (Ed25519, in PEM or base64) that gateways and lists are known by; with them a token goes only to
    who has proven himself. access: the access service's addresses. memory: a file that keeps what was learned of ways
    in, for each network; None = as long as this client lives. network: asked for the network's name (SSID), where the
    application knows it. resolve: names to addresses, else by the system's DNS. proxy: the `http://…` or `socks5://…`
    to go through, always; True = what the environment names (`HTTPS_PROXY` and others), False = none.

    state: a file in which the device remembers across processes where it stopped (without it, the server's memory of
    what was acknowledged decides). outbox: a file that keeps what is not confirmed: a message is in it before it is
    sent, and the next process goes on with it, under the same number. outbox_count, outbox_size: how many messages, and
    how many bytes, may be unconfirmed, in a file or not: then `send` raises `OutboxFull`.

    on_state: called with each new state and one sentence about it. on_settled: told what became of each message that no
    `send` waits for any more: those of an earlier process (after a crash perhaps once more), and those whose time was
    up. on_left: told of a room that this client is no longer in, because it may not come back, and why. media: access
    points of the media service, None = those of messages.

    Raises `ConfigError` for points, proxies and files that can't be used. Entering the block does not wait for the
    connection. Leaving it acknowledges what was taken, and ends what waits. If the server wants no more of this client,
    iteration and sends raise `LinkClosed`, which says what to do.
    """

    doubts: int = 0

    def __init__(
        self,
        points: Iterable[str],
        token: Token,
        device: str,
        *,
        state: str | os.PathLike[str] | None = None,
        outbox: str | os.PathLike[str] | None = None,
        outbox_count: int = 10_000,
        outbox_size: int = 16 * 1024 * 1024,
        receive: bool = True,
        on_state: Callable[[State, str], None] | None = None,
        on_settled: Callable[[Settled], object] | None = None,
        on_left: Callable[[str, Refused], object] | None = None,
        tls: ssl.SSLContext | None = None,
        fresh: Literal["oldest", "head"] = "oldest",
        channels: Channels = "split",
        accepts: Iterable[str] = (),
        keys: Iterable[str] = (),
        access: Iterable[str] = (),
        memory: Memory | str | os.PathLike[str] | None = None,
        network: Callable[[], str] = str,
        resolve: Resolve = system,
        media: Iterable[str] | None = None,
        proxy: str | bool = True,
    ) -> None:
        self._greeting = Greeting(device, accepts, fresh)
        ways = Ways.known(points, access, keys, memory, device, tls, resolve, network, proxy)
        self._connection = Connection(
            self,
            ways,
            token,
            self._hello,
            self._say,
            channels=channels,
            receive=receive,
            joining=lambda: self._rooms.joining,
        )
        there = ways if media is None else ways._replace(points=parse_points(media), access=[])
        self._media = Media(there, token, self._connection.round_trip)
        self._on_state = on_state
        self._receiving = Receiving(state, device, self._connection, self._broke)
        need, where = self._connection.need, self._connection.where_up
        self._sending = Sending(outbox, device, outbox_count, outbox_size, where, need, on_settled)
        self._receive = receive
        self._rooms = Rooms(self._sending.number, self._connection.anew, self._publishes, on_left)
        self._failure: ImcoreError | None = None  # why the client has ended by itself
        self._entered = self._closed = self._ended = False
        self.state = State.CLOSED
        """Where it stands now."""
        self.state_text = "not started"
        """The same in one sentence."""
        self.welcome: Welcome | None = None
        """What the gateway said last, None before the first link."""

    def warm(self) -> None:
        """Something will be sent soon (somebody types): open now what it will go up on. Does nothing if it is open."""
        if self._connection.up is None:
            self._connection.need()

    async def __aenter__(self) -> Self:
        if self._entered:
            raise LocalError("a client is entered once: make a new one")
        self._loop = asyncio.get_running_loop()
        with ExitStack() as stack:
            self._receiving.open()
            stack.callback(self._receiving.close)
            self._hub: Hub = stack.enter_context(shared_hub())
            await self._sending.open()
            self._stack = stack.pop_all()
        self._entered = True
        self._runner = self._loop.create_task(self._run(), name="imcore client")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            try:
                if kind is None:  # the block is done with the message that it got last
                    self._receiving.take()
                self._close()
                async with asyncio.timeout(FAREWELL_S):
                    await self._farewell()
            except TimeoutError:
                _log.info("the gateway did not confirm the last acknowledgements: it may hand those messages out again")
            finally:
                self._close()
                self._runner.cancel()
                self._finish(None)
                self._connection.close()
                try:
                    await asyncio.wait([self._runner])
                finally:
                    await self._sending.close()
        if not self._runner.cancelled() and (bug := self._runner.exception()) is not None:
            raise bug

    # What the application does.

    async def send(self, route: str, body: bytes, *, timeout: float | None = 30.0) -> Receipt:
        """Send to a service; returns when the message is durable. Messages arrive in the order of the calls.

        timeout: seconds, None = for ever. Raises `Refused`; `Unknown` when the time is up or the client closes: it
        says whether, and how, more can be known. Without a file as outbox, what was not sent by then never will be.
        `LinkClosed` when the server wants no more of this client; `EncodeError`, `OutboxFull`, `LocalError`;
        `OutboxError` when the file did not take it. Cancelling takes the message back if that is still possible, and
        tells nothing.
        """
        self._check(route, body)
        return await self._sending.send(route, body, timeout)

    async def join(self, room: str, *, timeout: float | None = 30.0) -> None:
        """Hear what is published in a room, now and on every link to come. Raises `Refused`, and `Unknown` when the
        time is up: then it is joined as soon as that is possible, unless `leave` is called."""
        self._check(room, b"")
        if not self._receive:
            raise LocalError("nothing comes to a client that only sends: leave out `receive=False`")
        await self._within(timeout, f"joining room {room!r}", self._rooms.join(room))

    async def leave(self, room: str, *, timeout: float | None = 30.0) -> None:
        """Hear no more of it. Raises `Refused`, `Unknown` when the time is up."""
        self._check(room, b"")
        if not self._receive:
            return
        await self._within(timeout, f"leaving room {room!r}", self._rooms.leave(room))

    async def publish(
        self,
        room: str,
        body: bytes,
        *,
        confirm: bool = False,
        timeout: float | None = 30.0,
    ) -> None:
        """Hand a message to those who are in a room now: nothing is stored. Waits for a link if there is none.

        confirm: return only when the gateway has passed it on. Raises `Refused`; `Unknown` if the link broke or the
        time was up; `OutboxFull` if the link takes no more.
        """
        self._check(room, body)
        await self._within(timeout, f"publishing in room {room!r}", self._publish(room, body, confirm))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        """The next message; the one before is acknowledged. Raises `LinkClosed` when the server wants no more of this
        client."""
        message = await self._receiving.next()
        if message is None:
            if self._failure is not None:
                raise again(self._failure)
            raise StopAsyncIteration
        return message

    # What a link tells (`OpeningOwner`).

    def opening(self, link: ClientLink) -> None:
        self._connection.opening(link)
        if link.role == "up" and self._connection.split:
            self._sending.carry(link)
            self._rooms.carry(link)
        elif link.role == "down" and isinstance(link, ExchangeLink):
            self._rooms.begin(link)

    def welcomed(self, link: ClientLink, welcome: Welcome) -> None:
        if link.role == "up" and self._receive and not self._connection.split:
            link.die("internal", "one link does both by now")
            return
        try:
            self._receiving.claim(welcome.user)
            self._sending.claim(welcome.user)
        except ConfigError as error:
            self._finish(error)
            link.die("bad_hello", str(error), None)
            return
        self._connection.welcomed(link)
        self.welcome = welcome
        if link.role == "down":
            self._sending.learn(welcome)
        else:
            self._sending.begin(link, welcome)
        if link.role != "up":
            self._receiving.begin(welcome, link.asked)
            if not isinstance(link, ExchangeLink):
                self._rooms.begin(link)
        if link.role != "down":
            self._rooms.carry(link)
        self._sending.pump()
        if link.role != "up" or not self._receive:
            self._connection.long.say(State.OPEN, f"connected as {welcome.user} to {welcome.node}")

    def message(self, link: ClientLink, seq: int, route: str, body: bytes, room: str | None) -> None:
        if link is not self._connection.down:
            return
        self._connection.stirs()
        self._receiving.message(link, seq, route, body, room)

    def answer(self, link: ClientLink, number: int, refusal: Refusal | None) -> None:
        self.doubts = 0
        self._connection.stirs()
        if not self._rooms.answer(link, number, refusal) and link is self._sending.link:
            self._sending.answer(number, refusal)

    def waits(self, link: ClientLink) -> bool:
        return (link is self._sending.link and self._sending.waits) or self._rooms.waits(link)

    def head(self, link: ClientLink, head: int) -> None:
        if self._receive:
            self._receiving.head(head)

    def too_large(self, link: ClientLink, size: int) -> None:
        if link is self._sending.link:
            text = f"something on the way takes no requests of {size} bytes: send it by another way, or in parts"
            self._sending.give_up(Refusal("too_large", text))

    def lags(self, link: ClientLink) -> bool:
        return not link.paused and self._receiving.lags

    def lacks(self, link: ClientLink, head: int) -> int | None:
        if link is self._connection.down and not link.paused and self._receiving.downlink.behind(head):
            return self._receiving.downlink.received
        return None

    def still(self, link: ClientLink) -> Still:
        return self._connection.spare.known()

    def died(self, link: ClientLink, silence_s: float) -> None:
        if link is self._connection.down:
            self._connection.spare.died(silence_s)

    def going(self, link: ClientLink, notice: GoAway) -> None:
        self._connection.leave(link, notice)

    def ended(self, link: ClientLink) -> None:
        self._connection.lost(link)
        self._rooms.end(link)
        if link is self._sending.link:
            self._sending.end(broken=not link.served)
            self._sending.pump()
            if self._rooms.wants:
                self._connection.need()

    async def _run(self) -> None:
        try:
            await self._connection.run(self._hub)
        except LinkClosed as error:
            self._finish(error)
        except Exception as error:
            self._finish(LinkClosed("internal", f"the client failed: {error!r}", None))
            raise

    # Small matters.

    def _hello(self, token: str, role: Role, carrier: str) -> Hello:
        resume = self._receiving.downlink.resume if role != "up" else None
        return self._greeting.hello(token, role, resume, carrier)

    async def _farewell(self) -> None:
        """Returns when the gateway has read what was sent and knows what was taken."""
        up = self._sending.link
        if up is not None and up is not self._connection.down:
            await up.sound()
        await self._receiving.told()

    def _close(self) -> None:
        self._closed = True
        self._receiving.stop()

    def _check(self, route: str, body: bytes) -> None:
        """What is asked for can be done, as far as that can be known now."""
        if self._failure is not None:
            raise again(self._failure)
        if not self._entered or self._closed:
            raise LocalError("the client is closed: use it inside of `async with`")
        check(route, body, self.welcome.max_frame if self.welcome is not None else None)

    async def _within(self, seconds: float | None, what: str, work: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(seconds):
                await work
        except TimeoutError:
            raise Unknown(0, f"{what}: {seconds:g} s are up, and no answer came ({self.state_text})") from None

    async def _publish(self, room: str, body: bytes, confirm: bool) -> None:
        link = self._sending.link
        waiting = self._rooms.waiting + (link.queued if link is not None else 0)
        if waiting > PUBLISH_MOST:
            raise OutboxFull(f"{waiting} bytes wait for the link: publish less, or wait")
        await self._rooms.publish(link, room, body, confirm)
        if not confirm:
            await asyncio.sleep(0)  # the turn that sends it

    def _publishes(self) -> None:
        """What was said to a room may go up: on the link that there is, or on one that is opened for it."""
        link = self._sending.link
        if link is not None:
            self._rooms.carry(link)
        else:
            self._connection.need()

    def _broke(self, error: ConfigError) -> None:
        """A file of ours can't be written."""
        self._finish(error)
        self._runner.cancel()

    def _finish(self, why: ImcoreError | None) -> None:
        """Nothing will come or go any more. why: None = the application closed the client."""
        if self._failure is None:
            self._failure = why
            self._say(State.CLOSED, "closed" if why is None else str(why))
        self._sending.finish(why)
        self._rooms.close(why or LocalError("the client was closed"))
        self._receiving.finish()

    def _say(self, state: State, text: str) -> None:
        if self._ended:
            return
        self._ended = state is State.CLOSED  # that is the last word
        self.state, self.state_text = state, text
        _log.debug("%s: %s", state.value, text)
        if self._on_state is not None:
            self._on_state(state, text)
