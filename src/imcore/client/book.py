"""The outbox's book on disk: a thread that writes, group commit, and word to the outbox of what is durable.

What gathers while the disk works on one batch is the next one. What has to be written is tried until it is; a message
that can't be written is told to its sender, and gone.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from ..errors import OutboxError
from .outbox_file import Change, OutboxFile, base_of, forgotten, given_up, new
from .uplink import Entry, Outbox

__all__ = ["FileBook"]

RETRY_S = 1.0
"""Seconds between tries to write what has to be written."""
FORGET_S = 0.2
"""How long what is settled may stay in the file, seconds: many go at once, and their senders know by then."""

_log = logging.getLogger(__name__)

_Step = tuple[Change, Callable[[], object] | None, Callable[[Exception], object] | None]
"""A change, what follows when it is durable, and when it is not (None: it is tried again)."""


class FileBook:
    """path, device: of the file. failed: told of each message that could not be written. moved: called when the outbox
    may have something for the link. Follows `uplink.Book`."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        device: str,
        failed: Callable[[Entry, Exception], None],
        moved: Callable[[], None],
    ) -> None:
        self._path = path
        self._device = device
        self._failed = failed
        self._moved = moved
        self._steps: list[_Step] = []
        self._settled: list[_Step] = []
        self._writing = False
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None

    async def open(self) -> OutboxFile:
        """Open the file, and return what is in it. Raises `ConfigError`."""
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "imcore outbox")
        opening = self._thread.submit(OutboxFile, self._path, self._device)
        try:
            self.file = await asyncio.wrap_future(opening)
        except BaseException:
            opening.add_done_callback(_let_go)
            self._thread.shutdown(wait=False)
            raise
        return self.file

    def serve(self, outbox: Outbox) -> None:
        """Whose book it is."""
        self._outbox = outbox

    def put(self, entry: Entry) -> None:
        change = new(entry.place, entry.route, entry.body)
        self._add(change, partial(self._outbox.kept, entry), partial(self._lost, entry))

    def give_up(self, entry: Entry) -> None:
        assert entry.refusal is not None
        self._add(given_up(entry.place, entry.refusal), partial(self._outbox.kept, entry), None)

    def rebase(self, base: int) -> None:
        assert self.file.user is not None
        self._add(base_of(self.file.user, base), partial(self._outbox.based, base), None)

    def forget(self, entry: Entry) -> None:
        self._settled.append((forgotten(entry.place), None, None))
        if len(self._settled) == 1 and not self._closed:
            self._loop.call_later(FORGET_S, self._forget)

    async def close(self) -> None:
        """Write what is left, and let go of the file; nothing follows."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        steps = self._steps + self._settled
        closing = self._thread.submit(self._end, [change for change, _, _ in steps])
        self._thread.shutdown(wait=False)
        await asyncio.wrap_future(closing)

    def _add(self, change: Change, then: Callable[[], object], failed: Callable[[Exception], object] | None) -> None:
        self._steps.append((change, then, failed))
        if len(self._steps) == 1 and not self._writing:
            self._loop.call_soon(self._write)

    def _forget(self) -> None:
        self._steps += self._settled
        self._settled.clear()
        self._write()

    def _write(self) -> None:
        if self._writing or self._closed or not self._steps:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        steps, self._steps = self._steps, []
        self._writing = True
        writing = self._loop.run_in_executor(self._thread, self.file.write, [change for change, _, _ in steps])
        writing.add_done_callback(partial(self._written, steps))

    def _written(self, steps: list[_Step], writing: asyncio.Future[None]) -> None:
        self._writing = False
        error = writing.exception()
        assert error is None or isinstance(error, Exception)
        if error is None:
            for _, then, _ in steps:
                if then is not None:
                    then()
            self._write()
        else:
            again = [step for step in steps if step[2] is None]
            for _, _, failed in steps:
                if failed is not None:
                    failed(error)
            self._steps[:0] = again
            if again and not self._closed:
                _log.warning("%s; trying again in %g s", error, RETRY_S)
                self._timer = self._loop.call_later(RETRY_S, self._write)
            else:
                self._write()
        self._moved()

    def _lost(self, entry: Entry, error: Exception) -> None:
        if self._outbox.drop(entry):
            self._failed(entry, error)

    def _end(self, changes: list[Change]) -> None:
        """On the thread, behind all that it was given before."""
        try:
            if changes:
                self.file.write(changes)
        except OutboxError as error:
            _log.warning("%s: what was settled last may be told again", error)
        finally:
            self.file.close()


def _let_go(opening: Future[OutboxFile]) -> None:
    """Nobody waits for the file any more."""
    if opening.exception() is None:
        opening.result().close()
