"""Talk with a user: each line that is typed is sent, what comes is shown. Ctrl-D ends once all is sent, Ctrl-C now."""

from __future__ import annotations

import argparse
import asyncio
import os

import msgspec
import uvloop

from ..client import Client
from ..errors import Refused
from . import options
from .terminal import TooLong, first_of, lines, note, stop_on_signals, visible, write_line

__all__ = ["HELP", "add_arguments", "run"]

HELP = "talk with a user"

LONGEST = 65536
"""Bytes of a line: what a gateway takes unless configured otherwise."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--to", required=True, metavar="NAME", help="whom to talk with")
    options.add_arguments(parser, "chat", remembers=True)


def run(args: argparse.Namespace) -> int:
    """Talk."""
    uvloop.run(_chat(args))
    return 0


async def _chat(args: argparse.Namespace) -> None:
    stop = stop_on_signals()
    async with options.client(args) as im:
        if os.isatty(0):
            note(f"what you type goes to {args.to}; Ctrl-D ends")
        await first_of(_say(im, args.to), _show(im), stop.wait())


async def _say(im: Client, to: str) -> None:
    async with asyncio.TaskGroup() as group:
        async for line in lines(LONGEST):
            if isinstance(line, TooLong):
                note(f"not sent: expected at most {LONGEST} bytes")
            elif line:
                group.create_task(_send(im, to, line))


async def _send(im: Client, to: str, line: bytes) -> None:
    try:
        await im.send("chat", msgspec.json.encode({"to": to, "text": line.decode()}), timeout=None)
    except UnicodeDecodeError:
        note("not sent: expected UTF-8")
    except Refused as error:
        note(f"not sent: {error}")


async def _show(im: Client) -> None:
    async for message in im:
        heard = options.said(message.route, message.body)
        if message.gap is not None:
            note("history is missing here")
        if heard is not None:  # a newline must not let one person speak as another
            text = heard.text.replace("\n", "\n  ")
            write_line(visible(f"{heard.sender}: {text}".encode()))
