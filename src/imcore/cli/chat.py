"""Talk with a user: each line that is typed is sent, what comes is shown. Ctrl-D ends once all is sent, Ctrl-C now.

`/send FILE` sends a file, `/get N` fetches one that came; a line that begins with `//` is sent with one slash.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path

import msgspec
import uvloop

from ..client import Client
from ..errors import Refused
from ..reference import Reference
from . import options
from .files import Files
from .terminal import TooLong, first_of, lines, note, stop_on_signals, visible, write_line
from .values import utf8

__all__ = ["HELP", "add_arguments", "run"]

HELP = "talk with a user"

LONGEST = 65536
"""Bytes of a line: what a gateway takes unless configured otherwise."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--to", type=utf8, required=True, metavar="NAME", help="whom to talk with")
    parser.add_argument(
        "--files",
        default=".",
        metavar="DIR",
        help="where files that are fetched go, made if it is not there (%(default)s)",
    )
    parser.add_argument(
        "--media-point",
        action="append",
        metavar="HOST:PORT",
        help="where the media service is; repeatable (the points of messages)",
    )
    options.add_arguments(parser, "chat", remembers=True)


def run(args: argparse.Namespace) -> int:
    """Talk."""
    uvloop.run(_chat(args))
    return 0


async def _chat(args: argparse.Namespace) -> None:
    stop = stop_on_signals()
    async with options.client(args) as im:
        with Files(im, Path(args.files), options.state_path(args, options.token_of(args))) as files:
            if os.isatty(0):
                note(f"what you type goes to {args.to}; /send FILE sends a file; Ctrl-D ends")
            await first_of(_say(im, args.to, files), _show(im, files), stop.wait())


async def _say(im: Client, to: str, files: Files) -> None:
    async with asyncio.TaskGroup() as group:
        async for line in lines(LONGEST):
            if isinstance(line, TooLong):
                note(f"not sent: expected at most {LONGEST} bytes")
            elif line.startswith(b"/") and not line.startswith(b"//"):
                group.create_task(_command(im, to, files, line[1:]))
            elif line:
                group.create_task(_send(im, to, line.removeprefix(b"/") if line.startswith(b"//") else line))


async def _command(im: Client, to: str, files: Files, line: bytes) -> None:
    word, _, rest = os.fsdecode(line).partition(" ")
    rest = rest.strip()
    if word == "get" and rest.isdecimal():
        await files.get(int(rest))
    elif word == "send" and rest:
        reference = await files.send(rest)
        if reference is not None:
            await _send(im, to, b"", reference)
    else:
        note("expected /send FILE, /get N, or // for a line that begins with a slash")


async def _send(im: Client, to: str, line: bytes, media: Reference | None = None) -> None:
    try:
        said: dict[str, object] = {"to": to, "text": line.decode()}
        if media is not None:
            said["media"] = media
        await im.send("chat", msgspec.json.encode(said), timeout=None)
    except UnicodeDecodeError:
        note("not sent: expected UTF-8")
    except Refused as error:
        note(f"not sent: {error}")


async def _show(im: Client, files: Files) -> None:
    async for message in im:
        heard = options.said(message.route, message.body)
        if message.gap is not None:
            note("history is missing here")
        if heard is None:
            continue
        if heard.text or heard.media is None:  # a newline must not let one person speak as another
            text = heard.text.replace("\n", "\n  ")
            write_line(visible(f"{heard.sender}: {text}".encode()))
        if heard.media is not None:
            write_line(visible(f"{heard.sender}: {files.came(heard.media)}".encode()))
