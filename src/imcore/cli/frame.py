"""Make frames and read them, without a gateway: for trials with curl or nc, and to see what went over a wire.

`imcore frame make hello token=alice device=phone role=up` writes a frame to standard output; `imcore frame read` prints
those of a file, or of standard input as they come, one in a line.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from .. import notation
from ..errors import ConfigError, EncodeError
from .terminal import visible, write_line
from .values import whole

__all__ = ["HELP", "add_arguments", "run"]

HELP = "make frames, or read them"
READ = 65536
LONGEST = 16 * 1024 * 1024
"""Bytes of a body: no frame may be longer (wire: "Frames")."""
ID_MOST = (1 << 64) - 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    make = actions.add_parser(
        "make",
        help="write one frame to standard output",
        usage="%(prog)s TYPE [KEY=VALUE ...] [OPTION ...]",
        allow_abbrev=False,
    )
    make.add_argument("type", metavar="TYPE", help=", ".join(notation.TYPES).lower())
    make.add_argument(
        "fields",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="of the map in the body, right behind TYPE: token=alice; lists as JSON",
    )
    make.add_argument("--id", type=whole(0, ID_MOST), default=0, metavar="N", help="the id (%(default)s)")
    make.add_argument("--route", default="", metavar="NAME", help="the route")
    make.add_argument("--flag", action="append", default=[], metavar="FLAG", help="dup, room or failed; repeatable")
    body = make.add_mutually_exclusive_group()
    body.add_argument("--text", metavar="TEXT", help="the body")
    body.add_argument("--hex", metavar="DIGITS", help="the body, in hexadecimal digits; spaces between bytes are fine")
    body.add_argument("--file", metavar="FILE", help="the body is in this file; - is standard input")
    read = actions.add_parser("read", help="print frames, one in a line", allow_abbrev=False)
    read.add_argument("file", nargs="?", default="-", metavar="FILE", help="whose frames (standard input)")
    read.add_argument("--json", action="store_true", help="each as a JSON object")


def run(args: argparse.Namespace) -> int:
    """Write the frame, or print the frames up to what is none."""
    return _make(args) if args.action == "make" else _read(args.file, args.json)


def _make(args: argparse.Namespace) -> int:
    if os.isatty(1):
        raise ConfigError("frames are no text: expected standard output to be a file or a pipe")
    try:
        body = _body(args)
        frame = notation.make(args.type, args.id, args.route, body, args.flag)
    except EncodeError as error:
        raise ConfigError(str(error)) from None
    sys.stdout.buffer.write(frame)
    return 0


def _body(args: argparse.Namespace) -> bytes:
    given = [what for what in (args.text, args.hex, args.file) if what is not None]
    if given and args.fields:
        raise ConfigError(f"expected a body or {args.fields[0]!r}, got both")
    if args.text is not None:
        return os.fsencode(args.text)
    if args.hex is not None:
        try:
            return bytes.fromhex(args.hex)
        except ValueError:
            raise ConfigError(f"--hex: expected two hexadecimal digits for each byte, got {args.hex!r}") from None
    if args.file is not None:
        return _whole(args.file)
    if args.fields or args.type.upper() in notation.MAPS:
        return notation.body_of_fields(args.type, args.flag, args.fields)
    return b""


def _read(name: str, json: bool) -> int:
    show = notation.as_json if json else notation.as_line
    for frame in notation.read(_pieces(name)):
        write_line(visible(show(frame).encode("utf-8", "backslashreplace")))
    return 0


def _whole(name: str) -> bytes:
    """All of it, or one byte more than a frame takes: it may be endless."""
    body = bytearray()
    for piece in _pieces(name):
        body += piece
        if len(body) > LONGEST:
            break
    return bytes(body[: LONGEST + 1])


def _pieces(name: str) -> Iterator[bytes]:
    """What is in a file, as it comes."""
    try:
        with open(0 if name == "-" else Path(name), "rb", buffering=0, closefd=name != "-") as file:
            while piece := file.read(READ):
                yield piece
    except OSError as error:
        what = name or "''"
        raise ConfigError(
            f"{what}: {error.strerror}: expected a file that can be read, or - for standard input"
        ) from None
