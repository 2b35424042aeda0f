"""Show it: a node and its users in this process, on loopback, and real messages through three breaks.

Links are cut, a user goes and comes back, the node stops and starts again; or, with roles apart, the service is killed,
replaced and away for a minute. Exit code 0 only if no message was lost, doubled or reordered.
"""

from __future__ import annotations

import argparse
import errno
import tempfile
import time
from pathlib import Path

import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from ..errors import ConfigError
from . import descriptors
from .account import Break, Verdict, percentile
from .split import Split
from .terminal import Failed
from .trial import AT_BREAKS, Trial
from .values import seconds, whole

__all__ = ["HELP", "Result", "add_arguments", "run"]

HELP = "show it: real messages through breaks, in one process"

MESSAGES_MOST = 1_000_000
USERS_MOST = 1000


class Result(msgspec.Struct, frozen=True):
    """What the demo found."""

    verdict: Verdict
    users: int
    seconds: float
    """In all."""
    p50_ms: float
    """From `send` to the receiver's loop, of messages that met no break."""
    p99_ms: float
    longest_ms: float
    """Of those that did."""
    breaks: list[Break]
    drops: int | None = None
    """Roles apart: links that were lost while business restarted."""

    @property
    def good(self) -> bool:
        """Whether the demo shows what it says."""
        return self.verdict.good and not self.drops


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "--messages",
        type=whole(1, MESSAGES_MOST),
        default=2000,
        metavar="N",
        help="how many in all, about (%(default)s)",
    )
    parser.add_argument(
        "--users", type=whole(2, USERS_MOST), default=8, metavar="N", help="how many, each with a client (%(default)s)"
    )
    parser.add_argument(
        "--seconds", type=seconds, default=6.0, metavar="S", help="over which they are sent, breaks apart (%(default)s)"
    )
    parser.add_argument(
        "--split", action="store_true", help="roles as processes over a redis-server, and a service that restarts"
    )
    parser.add_argument(
        "--away",
        type=seconds,
        default=60.0,
        metavar="S",
        help="how long the service is away, with --split (%(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="the result as JSON on standard output")


def run(args: argparse.Namespace) -> int:
    """Run it and show what became of the messages."""
    least = 2 * AT_BREAKS * args.users
    if args.messages < least:
        raise ConfigError(f"--messages: expected at least {least}, since each user sends some, got {args.messages}")
    descriptors.allow_many()
    console = Console(stderr=True, highlight=False)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="imcore-demo-") as folder:
        trial: Trial | Split
        how = {"users": args.users, "messages": args.messages}
        if args.split:
            trial = Split(Path(folder), **how, seconds=args.seconds, away_s=args.away, tell=console.print)
        else:
            trial = Trial(Path(folder), **how, seconds=args.seconds, tell=console.print)
        try:
            uvloop.run(trial.run())
        except TimeoutError:
            raise Failed("somebody did not get back after a break in time") from None
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
            raise Failed("too many open files: expected fewer --users, or a higher limit (`ulimit -n`)") from None
    smooth, broken = trial.crowd.account.latencies((each.start, each.end) for each in trial.breaks)
    result = Result(
        trial.crowd.account.verdict(),
        args.users,
        round(time.monotonic() - began, 1),
        _ms(percentile(smooth, 0.5)),
        _ms(percentile(smooth, 0.99)),
        _ms(broken[-1]) if broken else 0.0,
        trial.breaks,
        trial.drops if isinstance(trial, Split) else None,
    )
    return show(result, as_json=args.json)


def show(result: Result, *, as_json: bool) -> int:
    """Print it; the exit code."""
    if as_json:
        print(msgspec.json.encode({"good": result.good, **msgspec.to_builtins(result)}).decode())
    else:
        Console(highlight=False).print(_table(result))
    return 0 if result.good else 1


def _table(result: Result) -> Table:
    table = Table(title=f"imcore demo: {result.users} users, {result.seconds:g} s", show_header=False)
    table.add_column("what")
    table.add_column("how many", justify="right")
    verdict = result.verdict
    rows: list[tuple[str, object]] = [
        ("messages sent", verdict.sent),
        ("confirmed as durable", verdict.confirmed),
        ("received", verdict.received),
    ]
    for name, count in (
        ("lost", verdict.lost),
        ("doubled", verdict.doubled),
        ("reordered", verdict.reordered),
        ("foreign", verdict.foreign),
    ):
        rows.append((name, f"[bold {'red' if count else 'green'}]{count}[/]"))
    rows += [
        ("p50, without a break", f"{result.p50_ms:g} ms"),
        ("p99, without a break", f"{result.p99_ms:g} ms"),
        ("longest, through a break", f"{result.longest_ms:g} ms"),
        ("breaks survived", len(result.breaks)),
        *((f"longest, {each.what}", f"{each.longest_ms:g} ms") for each in result.breaks),
    ]
    if result.drops is not None:
        rows.append(("links dropped", f"[bold {'red' if result.drops else 'green'}]{result.drops}[/]"))
    for what, value in rows:
        table.add_row(what, str(value))
    return table


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)
