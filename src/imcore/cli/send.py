"""Send each line of standard input to a user, as one message of the built-in chat service.

Ends with exit code 0 when all are durable. A line that is no UTF-8, too long or refused is named, and the rest sent.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time

import msgspec
import uvloop

from ..client import Client
from ..errors import ConfigError, EncodeError, Refused
from . import options
from .terminal import Failed, TooLong, first_of, lines, note, stop_on_signals
from .values import utf8

__all__ = ["HELP", "add_arguments", "run"]

HELP = "send lines from standard input"

LONGEST = 16 * 1024 * 1024
"""Bytes of a line: no frame may be longer (wire: "Frames")."""
COUNT = 256
"""Messages under way at once."""
SIZE = 8 * 1024 * 1024
"""And their bytes; one may always go."""
PATIENCE_S = 10.0
"""How long the first connection may take."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--to", type=utf8, required=True, metavar="NAME", help="who gets the messages")
    options.add_arguments(parser, "send", remembers=False)
    parser.add_argument("--json", action="store_true", help="the summary as JSON on standard output")


class Said(msgspec.Struct, frozen=True):
    """What the built-in chat service takes."""

    to: str
    text: str


class Wrong(msgspec.Struct, frozen=True):
    """A line that was not sent, or not taken."""

    line: int
    code: str
    text: str


class Summary(msgspec.Struct):
    """What became of the lines."""

    lines: int = 0
    durable: int = 0
    wrong: list[Wrong] = []
    seconds: float = 0.0

    def told(self) -> str:
        """In words."""
        unknown = self.lines - self.durable - len(self.wrong)
        parts = [f"{self.durable} of {self.lines} lines are durable"]
        if self.wrong:
            parts.append(f"{len(self.wrong)} were not sent or refused")
        if unknown:
            parts.append(f"{unknown} have no answer")
        return f"{'; '.join(parts)}; {self.seconds:.2f} s"


def run(args: argparse.Namespace) -> int:
    """Send, and tell what became of it."""
    summary = Summary()
    began = time.monotonic()
    try:
        code = uvloop.run(_send(args, summary))
    except ConfigError:
        raise  # nothing was read yet: the error is all there is to tell
    except BaseException:
        _tell(summary, began, args.json)
        raise
    _tell(summary, began, args.json)
    return code


def _tell(summary: Summary, began: float, json: bool) -> None:
    summary.seconds = round(time.monotonic() - began, 3)
    note(summary.told())
    if json:
        print(msgspec.json.encode(summary).decode())


async def _send(args: argparse.Namespace, summary: Summary) -> int:
    stop = stop_on_signals()
    if os.isatty(0):
        note("each line is a message; Ctrl-D ends")
    async with options.client(args, receive=False) as im:
        ended = await first_of(_lines(im, args.to, summary), stop.wait(), _patience(im), _end(im))
    if ended == 1:
        return 130
    return 1 if summary.wrong else 0


async def _lines(im: Client, to: str, summary: Summary) -> None:
    """All lines, many under way at once, in order."""
    size = count = 0
    moved = asyncio.Event()

    async def one(number: int, body: bytes) -> None:
        nonlocal size, count
        try:
            await im.send("chat", body, timeout=None)
            summary.durable += 1
        except Refused as error:
            _wrong(summary, number, error.code, error.text)
        except EncodeError as error:
            _wrong(summary, number, "too_large", str(error))
        finally:
            size -= len(body)
            count -= 1
            moved.set()

    async with asyncio.TaskGroup() as group:
        async for line in lines(LONGEST):
            summary.lines += 1
            if isinstance(line, TooLong):
                _wrong(summary, summary.lines, "too_large", f"expected at most {LONGEST} bytes")
                continue
            try:
                body = msgspec.json.encode(Said(to, line.decode()))
            except UnicodeDecodeError as error:
                _wrong(
                    summary,
                    summary.lines,
                    "not_utf8",
                    f"expected UTF-8, got byte {line[error.start]:#04x} at {error.start}",
                )
                continue
            while count >= COUNT or (count and size + len(body) > SIZE):
                moved.clear()
                await moved.wait()
            count += 1
            size += len(body)
            group.create_task(one(summary.lines, body))


async def _end(im: Client) -> None:
    """Nothing comes to who only sends, but that the server wants no more of this client."""
    async for _ in im:
        pass


async def _patience(im: Client) -> None:
    """Ends in `Failed` if there is no gateway; a way that was there and is lost is waited for."""
    await asyncio.sleep(PATIENCE_S)
    if im.welcome is None:
        raise Failed(
            f"no gateway found in {PATIENCE_S:g} s: {im.state_text}; `imcore serve` starts one, --point names one"
        )
    await asyncio.Event().wait()


def _wrong(summary: Summary, number: int, code: str, text: str) -> None:
    summary.wrong.append(Wrong(number, code, text))
    print(f"imcore: line {number}: {code}: {text}", file=sys.stderr)
