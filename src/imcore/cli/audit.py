"""Count every message again, and compare with the counters. Exit 0 only if all adds up.

Of a node's data folder, or of what its configuration names. Nodes may run meanwhile or not; nothing is changed.
"""

from __future__ import annotations

import argparse

import msgspec

from .. import config
from ..bus.books import Books
from ..bus.embedded.audit import audit
from .terminal import write_line

__all__ = ["HELP", "add_arguments", "run"]

HELP = "count every message again, and compare"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--config", metavar="FILE", help="the node's configuration, which says where messages are")
    parser.add_argument("--data", default="data", metavar="DIR", help="without it: the node's folder (%(default)s)")
    parser.add_argument("--json", action="store_true", help="the figures and faults as one line of JSON")


def run(args: argparse.Namespace) -> int:
    """Print the books."""
    books = _books(args)
    for line in [msgspec.json.encode(books).decode()] if args.json else _lines(books):
        write_line(line.encode())
    return 1 if books.faults else 0


def _books(args: argparse.Namespace) -> Books:
    settings = config.load(args.config) if args.config is not None else None
    if settings is None or settings.bus.engine == "embedded":
        return audit(args.data if settings is None else settings.node.data)
    from ..bus.redis.audit import audit as audit_redis  # what it needs is an extra

    return audit_redis(settings.bus.url, settings.bus.space)


def _lines(books: Books) -> list[str]:
    up = {"settled": books.settled, "waiting": books.waiting, "dead": books.dead, "dropped": books.dropped}
    down = {"delivered": books.delivered, "waiting": books.undelivered, "expired": books.expired}
    lines = [
        f"up    {books.accepted:,} accepted = {_sum(up)}",
        f"      {books.replayed:,} dead ones replayed, {books.withdrawn:,} numbers withdrawn by their devices",
        f"down  {books.appended:,} appended = {_sum(down)}",
        f"      in the inboxes of {books.users:,} users with {books.devices:,} devices",
    ]
    if not books.faults:
        return [*lines, "all adds up"]
    return [*lines, *(f"fault: {fault}" for fault in books.faults)]


def _sum(parts: dict[str, int]) -> str:
    return " + ".join(f"{count:,} {name}" for name, count in parts.items())
