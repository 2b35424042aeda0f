"""`send`, from the call to its outcome: the outbox, its book, the link that carries it, and who waits for what.

Where up and down are apart there is a link when there is something to send: `need` is called when one is missing.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Generator
from typing import Any

import msgspec

from .._codec import HEADER_SIZE, MSG
from ..errors import EncodeError, ImcoreError, OutboxError, Refused, Unknown
from ..messages import Refusal, Welcome
from .book import FileBook
from .link import ClientLink
from .outbox_file import OutboxFile
from .uplink import UNSURE, WITHDRAWN, Entry, Outbox

__all__ = ["Receipt", "Sending", "Settled", "again", "check"]

ROUTE_MOST = 255
"""Bytes of a route (wire: "Frames")."""


class Receipt(msgspec.Struct, frozen=True):
    """The message is durable."""

    id: int
    """Its number (wire: `MSG` c→s)."""


class Settled(msgspec.Struct, frozen=True):
    """What became of a message that no `send` waits for any more: its time was up, or an earlier process sent it."""

    id: int
    """Its number."""
    route: str
    body: bytes
    error: Refused | Unknown | OutboxError | None = None
    """None: it is durable."""


class Sending:
    """outbox: path of the file, None = memory. count, size: what the outbox holds at most. where: one sentence about
    the connection, for who has waited in vain. need: called when something could go and there is no link. on_settled:
    see `Client`."""

    def __init__(
        self,
        outbox: str | os.PathLike[str] | None,
        device: str,
        count: int,
        size: int,
        where: Callable[[], str],
        need: Callable[[], None],
        on_settled: Callable[[Settled], object] | None,
    ) -> None:
        self._book = None if outbox is None else FileBook(outbox, device, self._unwritten, self.pump)
        self._outbox = Outbox(self._settle, count=count, size=size, book=self._book)
        self._where = where
        self._on_settled = on_settled
        self._need = need
        self.link: ClientLink | None = None
        """The link that carries it."""
        self._pumping: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._outbox)

    def number(self) -> int | None:
        """A number that no message has; None before a WELCOME has told our count."""
        return self._outbox.number() if self._outbox.known else None

    async def open(self) -> None:
        """Open the file, and take over what is in it. Raises `ConfigError`."""
        self._loop = asyncio.get_running_loop()
        if self._book is not None:
            self._book.serve(self._outbox)
            self._restore(await self._book.open())

    async def send(self, route: str, body: bytes, seconds: float | None) -> Receipt:
        """See `Client.send`."""
        waiter: asyncio.Future[int] = self._loop.create_future()
        entry = self._outbox.add(route, body, waiter)
        self.pump()
        timer = None if seconds is None else self._loop.call_later(seconds, self._expire, entry, seconds)
        try:
            return Receipt(await waiter)
        except asyncio.CancelledError:
            self._outbox.withdraw(entry)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def claim(self, user: str) -> None:
        """The server named the user; raises `ConfigError` if the file is another one's."""
        if self._book is not None:
            self._book.file.claim(user)

    def carry(self, link: ClientLink) -> None:
        """A new link has said HELLO: what waits may follow at once."""
        self.link = link
        self._outbox.open()
        self.pump()

    def learn(self, welcome: Welcome) -> None:
        """A link that carries nothing up was welcomed. May raise `BadHello`."""
        self._outbox.learn(welcome.accepted)

    def begin(self, link: ClientLink, welcome: Welcome) -> None:
        """A link was welcomed: from `pump` on it carries what waits. May raise `BadHello`."""
        if link is not self.link:
            self._outbox.end()  # what another link carries, this one has to carry too
        self._outbox.begin(welcome.accepted, welcome.max_frame)
        self.link = link

    def end(self, *, broken: bool = True) -> None:
        """The link is over. broken: not as foreseen."""
        self.link = None
        self._outbox.end(broken=broken)

    @property
    def waits(self) -> bool:
        """An answer is due."""
        return self._outbox.flying > 0

    def give_up(self, why: Refusal) -> None:
        """The link carried one message alone, and will never get it through."""
        self._outbox.give_up_flying(why)

    def answer(self, number: int, refusal: Refusal | None) -> None:
        """The link brought an answer to a message."""
        self._outbox.answer(number, refusal, self._loop.time())
        self.pump()

    def pump(self) -> None:
        """Put on the link what may go now."""
        link, outbox, now = self.link, self._outbox, self._loop.time()
        if link is None:
            if outbox.wants and outbox.not_before <= now:
                self._need()
        elif not link.sealed:
            while (entry := outbox.next(now, link.room - HEADER_SIZE)) is not None:
                link.send(MSG, entry.number, entry.route, entry.body, entry.flags)
            if outbox.flying:
                link.due()
        if outbox.not_before > now and len(outbox):
            if self._pumping is not None:
                self._pumping.cancel()
            self._pumping = self._loop.call_at(outbox.not_before, self.pump)

    def finish(self, why: ImcoreError | None) -> None:
        """Nothing will go any more. why: None = the application closed the client."""
        self.link = None
        for entry in self._outbox.close():
            future = entry.waiter.future if isinstance(entry.waiter, _Late) else entry.waiter
            if future.done():
                continue
            if why is not None and not entry.number and self._book is None:
                error: ImcoreError = again(why)
            else:
                error = Unknown(entry.number, f"{why or 'the client was closed'}: {self._so_far(entry)}")
            _fail(future, error)
        if self._pumping is not None:
            self._pumping.cancel()

    async def close(self) -> None:
        """Let go of the file."""
        if self._book is not None:
            await self._book.close()

    def _restore(self, file: OutboxFile) -> None:
        entries = []
        for row in file.rows:
            late = _Late(self._loop.create_future())
            entry = Entry(row.place, row.route, row.body, late)
            if row.refusal is not None:
                entry.refusal = row.refusal
                entry.told = True
                if row.refusal.code != WITHDRAWN.code and file.base is not None:
                    error = Refused(row.refusal.code, row.refusal.text)
                    self._loop.call_soon(self._tell, Settled(file.base + row.place, row.route, row.body, error))
            entries.append(entry)
        file.rows.clear()
        self._outbox.restore(file.base, file.last, entries)

    def _expire(self, entry: Entry, seconds: float) -> None:
        """The sender's time is up."""
        waiter = entry.waiter
        if waiter.done():
            return
        receipt = None
        if self._book is None and self._outbox.drop(entry):
            what = "it was not sent"
        else:
            what = self._so_far(entry)
            entry.waiter = receipt = _Late(self._loop.create_future())
        waiter.set_exception(Unknown(entry.number, f"{seconds:g} s are up: {what} ({self._where()})", receipt))

    def _so_far(self, entry: Entry) -> str:
        what = "it was sent, but no answer came" if entry.number else "it was not sent"
        return what if self._book is None else f"{what}; it stays in the outbox"

    def _settle(self, entry: Entry, refusal: Refusal | None) -> None:
        error: Refused | Unknown | None = None
        if refusal is UNSURE:
            error = Unknown(entry.number, refusal.text)
        elif refusal is not None:
            error = Refused(refusal.code, refusal.text)
        future = entry.waiter
        if isinstance(future, _Late):
            future = future.future
            self._tell(Settled(entry.number, entry.route, entry.body, error))
        if future.done():  # cancelled: nobody waits any more
            return
        if error is None:
            future.set_result(entry.number)
        else:
            _fail(future, error)

    def _unwritten(self, entry: Entry, error: Exception) -> None:
        """The file did not take it."""
        why = OutboxError(f"it was not sent, and is not kept: {error}")
        future = entry.waiter
        if isinstance(future, _Late):
            future = future.future
            self._tell(Settled(0, entry.route, entry.body, why))
        if not future.done():
            _fail(future, why)

    def _tell(self, settled: Settled) -> None:
        if self._on_settled is None:
            return
        try:
            self._on_settled(settled)
        except Exception as error:
            self._loop.call_exception_handler({"message": "on_settled failed", "exception": error})


class _Late:
    """Who may ask later what became of a message."""

    def __init__(self, future: asyncio.Future[int]) -> None:
        self.future = future

    def __await__(self) -> Generator[Any, None, Receipt]:
        return self._receipt().__await__()

    async def _receipt(self) -> Receipt:
        return Receipt(await asyncio.shield(self.future))


def again(error: ImcoreError) -> ImcoreError:
    """One of its own for each that meets it: an exception carries the trace of where it was raised."""
    return type(error)(*error.args)


def _fail(future: asyncio.Future[int], error: ImcoreError) -> None:
    future.set_exception(error)
    future.exception()  # perhaps nobody waits any more


def check(route: str, body: bytes, max_frame: int | None) -> None:
    """A message can be made of them, as far as that is known: max_frame None = not yet. Raises `EncodeError`."""
    if not isinstance(body, bytes):
        raise EncodeError(f"body: expected bytes, got {type(body).__name__}")
    try:
        length = len(route.encode())
    except UnicodeEncodeError as error:
        raise EncodeError(f"route: expected text that UTF-8 can carry: {error.reason}") from None
    if length > ROUTE_MOST:
        raise EncodeError(f"route: expected at most {ROUTE_MOST} bytes, got {length}")
    if max_frame is not None and length + len(body) > max_frame:
        raise EncodeError(f"message: expected at most {max_frame} bytes of route and body, got {length + len(body)}")
