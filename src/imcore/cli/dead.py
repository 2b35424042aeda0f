"""Messages whose handler failed too often: list them, show one, have them handled again, or give them up.

In a node's data folder, what is asked for is done by the node that owns it: within seconds if it runs, else at its
next start. In Redis it is done at once.
"""

from __future__ import annotations

import argparse
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

import msgspec

from .. import config
from ..bus.books import Action, Letter
from ..bus.embedded.audit import reading
from ..bus.embedded.dead import ask, letters
from ..bus.embedded.store import explain, in_use
from ..errors import ConfigError, EngineError
from .terminal import Failed, visible, write_line

__all__ = ["HELP", "add_arguments", "run"]

HELP = "messages whose handler failed too often"
PATIENCE_S = 10.0
"""How long a running node is waited for."""
_DONE: dict[Action, bytes] = {"replay": b"replayed", "drop": b"dropped"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("action", choices=["list", "show", "replay", "drop"], help="what to do")
    parser.add_argument("number", nargs="*", default=[], help="numbers of the list, or `all`")
    parser.add_argument("--config", metavar="FILE", help="the node's configuration, which says where messages are")
    parser.add_argument("--data", default="data", metavar="DIR", help="without it: the node's folder (%(default)s)")
    parser.add_argument("--json", action="store_true", help="list and show: one line of JSON for each")


def run(args: argparse.Namespace) -> int:
    """Do it."""
    settings = config.load(args.config) if args.config is not None else None
    if settings is not None and settings.bus.engine == "redis":
        from ..bus.redis import audit as on_redis  # what it needs is an extra

        bus = settings.bus

        def do_now(numbers: list[int], action: Action) -> None:
            count = sum(on_redis.settle_letter(bus.url, bus.space, number, action) for number in numbers)
            write_line(b"%d %s" % (count, _DONE[action]))

        return _run(args, on_redis.letters(bus.url, bus.space), do_now)
    data = args.data if settings is None else settings.node.data
    try:
        with closing(reading(data)) as connection:
            found = list(letters(connection))
        return _run(args, found, partial(_have_it_done, Path(data)))
    except sqlite3.Error as error:
        raise EngineError(f"{data}: {explain(error)}") from error


def _run(args: argparse.Namespace, all_of_them: list[Letter], do: Callable[[list[int], Action], None]) -> int:
    found = {letter.number: letter for letter in all_of_them}
    if args.action == "list":
        if args.number:
            raise ConfigError("dead list: expected no numbers; `dead show NUMBER` tells all about one")
        chosen = list(found.values())
    else:
        chosen = _chosen(args.action, args.number, found)
    if args.action in ("list", "show"):
        for letter in chosen:
            text = _as_json(letter) if args.json else _line(letter, whole=args.action == "show")
            write_line(visible(text.encode()))
    elif chosen:
        do([letter.number for letter in chosen], cast(Action, args.action))
    return 0


def _chosen(action: str, words: list[str], found: dict[int, Letter]) -> list[Letter]:
    if not words:
        raise ConfigError(f"dead {action}: expected numbers of `imcore dead list`, or `all`")
    if words == ["all"]:
        return list(found.values())
    chosen = []
    for word in words:
        number = int(word) if word.isascii() and word.isdigit() else None
        if number is None or number not in found:
            raise ConfigError(f"dead {action}: no dead letter {word!r}; `imcore dead list` has their numbers")
        chosen.append(found[number])
    return chosen


def _have_it_done(folder: Path, numbers: list[int], action: Action) -> None:
    file = folder / "imcore.db"
    with closing(sqlite3.connect(file, isolation_level=None, timeout=PATIENCE_S)) as connection:
        ask(connection, numbers, action)
        done = _DONE[action]
        if not in_use(folder):
            write_line(b"%d will be %s when the node starts" % (len(numbers), done))
            return
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            wanted = {number for (number,) in connection.execute("SELECT number FROM request")}
            if not wanted.intersection(numbers):
                write_line(b"%d %s" % (len(numbers), done))
                return
            time.sleep(0.05)
    raise Failed(f"the node has not done it within {PATIENCE_S:g} s; it stays asked for")


def _line(letter: Letter, *, whole: bool) -> str:
    message = letter.message
    when = datetime.fromtimestamp(letter.buried_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    text = f"{letter.number}  {when}  {message.route}  {message.user}/{message.device} {message.id}  {letter.error}"
    if letter.asked is not None:
        text += f"  ({letter.asked} asked for)"
    if whole:
        text += f"  {len(message.body):,} bytes: {message.body.decode('utf-8', 'backslashreplace')}"
    return " ".join(text.splitlines())


def _as_json(letter: Letter) -> str:
    message = letter.message
    body: dict[str, Any] = {"bytes": len(message.body)}
    with suppress(UnicodeDecodeError):
        body["text"] = message.body.decode()
    shown = {
        "number": letter.number,
        "buried_ms": letter.buried_ms,
        "route": message.route,
        "user": message.user,
        "device": message.device,
        "id": message.id,
        "time_ms": message.time_ms,
        "key": message.key,
        "error": letter.error,
        "asked": letter.asked,
        "body": body if "text" in body else body | {"base64": msgspec.to_builtins(message.body)},
    }
    return msgspec.json.encode(shown).decode()
