"""Print what comes for a user, one message a line, until SIGINT or SIGTERM.

A message is acknowledged when its line is written: what was not printed comes again, what was printed does not.
"""

from __future__ import annotations

import argparse
import base64

import msgspec
import uvloop

from ..client import Client, Message
from . import options
from .terminal import first_of, note, stop_on_signals, visible, write_line
from .values import utf8, whole

__all__ = ["HELP", "add_arguments", "run"]

HELP = "print messages to standard output"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    options.add_arguments(parser, "listen", remembers=True)
    parser.add_argument(
        "--room", type=utf8, action="append", default=[], metavar="NAME", help="join a room too; repeatable"
    )
    parser.add_argument("--count", type=whole(1), metavar="N", help="end after N messages")
    parser.add_argument("--json", action="store_true", help="one JSON object a line: seq, route, room, from, text, gap")


def run(args: argparse.Namespace) -> int:
    """Print until told to stop."""
    uvloop.run(_listen(args))
    return 0


async def _listen(args: argparse.Namespace) -> None:
    stop = stop_on_signals()
    # Leaving the block without an error acknowledges the message that was printed last.
    async with options.client(args) as im:
        for room in args.room:
            if await first_of(im.join(room, timeout=None), stop.wait()) == 1:
                return
        await first_of(_print(im, args), stop.wait())


async def _print(im: Client, args: argparse.Namespace) -> None:
    """A line for each message. It can be cancelled only between two lines: writing does not wait for the loop."""
    printed = 0
    async for message in im:
        if message.gap is not None:
            note(_missing(message))
        write_line(_json(message) if args.json else _plain(message))
        printed += 1
        if printed == args.count:
            return


def _missing(message: Message) -> str:
    lost = message.gap.lost if message.gap is not None else None
    if lost is None:
        return "history may be missing here, or come again: the server's numbers began anew"
    return f"history is missing here: messages {lost.start} to {lost.stop - 1} expired before they were fetched"


def _plain(message: Message) -> bytes:
    heard = options.said(message.route, message.body)
    return visible(message.body if heard is None else heard.text.encode())


def _json(message: Message) -> bytes:
    heard = options.said(message.route, message.body)
    row: dict[str, object] = {"seq": message.seq, "route": message.route, "room": message.room}
    if heard is not None:
        row |= {"from": heard.sender, "text": heard.text}
    else:
        try:
            row |= {"from": None, "text": message.body.decode()}
        except UnicodeDecodeError:
            row |= {"from": None, "text": None, "base64": base64.b64encode(message.body).decode()}
    lost = message.gap.lost if message.gap is not None else None
    row["gap"] = None if message.gap is None else {"lost": [lost.start, lost.stop - 1] if lost is not None else None}
    return msgspec.json.encode(row)
