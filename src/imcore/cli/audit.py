"""Count every message of a node's data folder again, and compare with its counters. Exit 0 only if all adds up.

The node may run meanwhile or not; nothing is changed.
"""

from __future__ import annotations

import argparse

import msgspec

from ..bus.embedded.audit import Books, audit
from .terminal import write_line

__all__ = ["HELP", "add_arguments", "run"]

HELP = "count every message again, and compare"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--data", default="data", metavar="DIR", help="the node's folder (%(default)s)")
    parser.add_argument("--json", action="store_true", help="the figures and faults as one line of JSON")


def run(args: argparse.Namespace) -> int:
    """Print the books."""
    books = audit(args.data)
    for line in [msgspec.json.encode(books).decode()] if args.json else _lines(books):
        write_line(line.encode())
    return 1 if books.faults else 0


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
