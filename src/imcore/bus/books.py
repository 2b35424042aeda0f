"""What an engine says of its messages when it is asked: the books, and the letters that could not be handled."""

from __future__ import annotations

from typing import Literal

import msgspec

from .ports import Uplink

__all__ = ["SHOWN", "Action", "Books", "Letter", "expect"]

SHOWN = 20
"""Faults of a kind that are told one by one."""

Action = Literal["replay", "drop"]


class Books(msgspec.Struct):
    """Messages since the database was made, and what does not add up."""

    accepted: int
    """From devices. accepted = settled + waiting + dead + dropped."""
    settled: int
    waiting: int
    """In the queue, for their handler."""
    dead: int
    """Put aside, since their handler failed too often; they wait for somebody to decide."""
    dropped: int
    """Dead ones that were given up."""
    replayed: int
    """Dead ones that came to their handler again, however often."""
    withdrawn: int
    """Numbers that devices gave up: they are not among the accepted."""
    appended: int
    """To inboxes. appended = delivered + undelivered + expired."""
    delivered: int
    undelivered: int
    """In inboxes, for devices."""
    expired: int
    """Let go of before all devices that count had them: over the limits of their inbox."""
    users: int
    devices: int
    faults: list[str]
    """What does not add up; empty = all is well."""


class Letter(msgspec.Struct, frozen=True):
    """A message that was put aside."""

    number: int
    message: Uplink
    error: str
    """What its handler raised last."""
    buried_ms: int
    asked: Action | None
    """What somebody has asked for, and the node has not done yet."""


def expect(faults: list[str], what: str, found: int, name: str, counted: int) -> None:
    """Two ways to count the same."""
    if found != counted:
        faults.append(f"{what}: {found}, but {name} counts {counted}")
