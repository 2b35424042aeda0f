"""Standard input as lines, standard output as whole lines, and signals as an orderly end.

What other people wrote never reaches a terminal as control sequences; into a file or a pipe it goes as it is.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from ..errors import ImcoreError

__all__ = ["Failed", "TooLong", "first_of", "lines", "note", "reason_of", "stop_on_signals", "visible", "write_line"]

AHEAD = 1024
"""Lines that are read before they are wanted."""
CHUNK = 65536


class Failed(ImcoreError):
    """The command could not do what it was asked for; the text is all that the person is told."""


class TooLong:
    """Stands for a line above the limit, whose bytes were not kept."""


async def lines(limit: int, fd: int = 0) -> AsyncIterator[bytes | TooLong]:
    """The lines of a descriptor without their newline, read in a thread: it may be a file, a pipe or a terminal.

    limit: bytes of the longest line. Only `\\n` ends a line.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes | TooLong | OSError | None] = asyncio.Queue()
    room = threading.Semaphore(AHEAD)

    def hand_over(line: bytes | TooLong | OSError | None) -> None:
        room.acquire()
        loop.call_soon_threadsafe(queue.put_nowait, line)

    def read() -> None:
        try:
            _split(fd, limit, hand_over)
        except OSError as error:
            hand_over(error)
        except RuntimeError:  # the loop was closed while we waited for a person to type
            return

    # A daemon, on the bare descriptor: the process can leave while this thread waits for input.
    threading.Thread(target=read, name="imcore-stdin", daemon=True).start()
    while (line := await queue.get()) is not None:
        room.release()
        if isinstance(line, OSError):
            raise line
        yield line


def _split(fd: int, limit: int, hand_over: Callable[[bytes | TooLong | None], None]) -> None:
    rest: list[bytes] = []
    size = 0
    too_long = False
    while chunk := os.read(fd, CHUNK):
        *whole, last = chunk.split(b"\n")
        for piece in whole:
            too_long = too_long or size + len(piece) > limit
            hand_over(TooLong() if too_long else b"".join([*rest, piece]))
            rest, size, too_long = [], 0, False
        size += len(last)
        if size > limit:
            rest, too_long = [], True
        else:
            rest.append(last)
    if size:
        hand_over(TooLong() if too_long else b"".join(rest))
    hand_over(None)


def write_line(data: bytes) -> None:
    """One whole line to standard output at once. Raises `BrokenPipeError`."""
    data += b"\n"
    while data:  # not sys.stdout: it would keep what could not be written, and try again on the way out
        data = data[os.write(1, data) :]


def visible(data: bytes) -> bytes:
    """UTF-8 for standard output: on a terminal its control characters are shown, not obeyed."""
    if not os.isatty(1):
        return data
    text = data.decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() or char in "\t\n" else f"\\x{ord(char):02x}" for char in text).encode()


def note(text: str) -> None:
    """A word to the person, beside the output."""
    print(f"imcore: {text}", file=sys.stderr, flush=True)


async def first_of(*work: Coroutine[Any, Any, Any]) -> int:
    """Run all until the first has ended, then cancel the others and wait for them; its index, or what it raised."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    index = next(index for index, task in enumerate(tasks) if not task.cancelled())
    try:
        tasks[index].result()
    except ExceptionGroup as group:
        raise reason_of(group) from None
    return index


def reason_of(group: ExceptionGroup[Exception]) -> Exception:
    """The first of what failed together: one reason is enough for a person."""
    error = group.exceptions[0]
    return reason_of(error) if isinstance(error, ExceptionGroup) else error


def stop_on_signals() -> asyncio.Event:
    """Set by SIGINT and SIGTERM from now on."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
