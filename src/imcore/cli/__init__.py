"""The command `imcore`: reads the arguments, runs one command, and makes of what went wrong one line and an exit code.

0 = done, 1 = it failed, 2 = the arguments or the configuration are wrong. One file a command; none knows of another.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, NoReturn

from ..errors import ConfigError, ImcoreError
from . import audit, chat, dead, demo, doctor, frame, listen, send, serve, token

__all__ = ["main"]

COMMANDS = (demo, serve, chat, send, listen, doctor, token, frame, dead, audit)


class _Parser(argparse.ArgumentParser):
    """Errors in one line, in the words of the other errors."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.set_defaults(parser=self)  # the innermost one: its help is of use

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"imcore: {message}; see `{self.prog} --help`\n")

    def _check_value(self, action: argparse.Action, value: str) -> None:
        if action.dest == "command" and action.choices is not None and value not in action.choices:
            near = difflib.get_close_matches(value, list(action.choices), 1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(action.choices)}"
            self.error(f"no command {value!r}: {hint}")
        super()._check_value(action, value)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in `argv` (without the program's name; by default the process's arguments); the exit code."""
    _open_what_is_closed()
    args, unknown = _parser().parse_known_args(argv)
    if unknown:
        args.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        code = 0  # whoever read our output has had enough
    except ConfigError as error:
        code = _failed(error, 2)
    except (ImcoreError, OSError) as error:
        code = _failed(error, 1)
    except KeyboardInterrupt:
        code = 130
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # else the interpreter would try once more on its way out, and complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _open_what_is_closed() -> None:
    """Whoever started us may have closed standard input or output: the loop's own descriptors must not land there."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    # Python has left out what was closed at its start.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 - it stays for as long as the process lasts
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115 - it stays, too


def _failed(error: Exception, code: int) -> int:
    text = " ".join(str(error).split())
    print(f"imcore: {text or type(error).__name__}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="imcore",
        description="The channel layer of instant messaging.",
        epilog="`imcore COMMAND --help` tells of each command.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"imcore {version('imcore')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        sub = commands.add_parser(
            command.__name__.rpartition(".")[2], help=command.HELP, description=command.__doc__, allow_abbrev=False
        )
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    return parser
