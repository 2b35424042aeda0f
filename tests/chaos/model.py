"""The promise, in plain Python: what devices were told of what they sent, what they heard, and what must never be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Broken", "Counts", "Outcome", "Promise"]

Outcome = Literal["confirmed", "refused"]
Name = str
"""`user/device`."""


class Broken(AssertionError):
    """The promise was not kept; the text says what was lost, doubled or reordered."""


@dataclass
class Counts:
    """What a run did, and what it found."""

    messages: int = 0
    confirmed: int = 0
    refused: int = 0
    unknown: int = 0
    heard: int = 0
    cuts: int = 0
    kills: int = 0
    failovers: int = 0
    lost: int = 0
    doubled: int = 0
    reordered: int = 0

    def add(self, other: Counts) -> None:
        """Another run's."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass
class Promise:
    """devices: by user. Numbers rise with each message of a sender, whoever it is for."""

    devices: dict[str, list[Name]]
    sent: dict[Name, dict[int, str]] = field(default_factory=dict)
    """By sender: number and receiving user, in the order of the calls."""
    outcomes: dict[tuple[Name, int], Outcome] = field(default_factory=dict)
    heard: dict[Name, list[tuple[Name, int]]] = field(default_factory=dict)
    """By receiving device: what its application was shown, in order."""
    again: set[tuple[Name, Name, int]] = field(default_factory=set)
    """Shown, but the application was killed before it could come back for more: may be shown once more."""
    adrift: set[tuple[Name, int]] = field(default_factory=set)
    """Sent by a process that was killed before it was told: it may arrive, once, or never have left."""

    def sends(self, sender: Name, number: int, to: str) -> None:
        """`send` was called."""
        self.sent.setdefault(sender, {})[number] = to

    def told(self, sender: Name, number: int, outcome: Outcome) -> None:
        """`send` has ended."""
        before = self.outcomes.setdefault((sender, number), outcome)
        if before != outcome:
            raise Broken(f"{sender} was told {before} and then {outcome} of {number}")

    def hears(self, device: Name, sender: Name, number: int) -> None:
        """The application of a device was shown a message."""
        self.heard.setdefault(device, []).append((sender, number))

    def killed(self, device: Name) -> None:
        """Its process is gone: what it was shown last may not have been taken in, what it sent may not have left."""
        self.adrift.update((device, number) for number in self.sent.get(device, ()))
        if self.heard.get(device):
            self.again.add((device, *self.heard[device][-1]))

    def waiting(self) -> list[str]:
        """What was sent, and its sender has to be told yet what became of it."""
        return [
            f"{sender} was not told about {number}"
            for sender, numbers in self.sent.items()
            for number in numbers
            if (sender, number) not in self.outcomes and (sender, number) not in self.adrift
        ]

    def missing(self) -> list[str]:
        """What was confirmed and has not been shown yet."""
        found = []
        for user, devices in self.devices.items():
            for device in devices:
                seen = set(self.heard.get(device, ()))
                found += [
                    f"{device} lacks {sender} {number}"
                    for sender, number in self._due(user)
                    if (sender, number) not in seen
                ]
        return found

    def _due(self, user: str) -> Iterable[tuple[Name, int]]:
        return [
            (sender, number)
            for (sender, number), outcome in self.outcomes.items()
            if outcome == "confirmed" and self.sent[sender][number] == user
        ]

    def verdict(self) -> Counts:
        """Everything is quiet: what came of it. Look at `lost`, `doubled` and `reordered`."""
        counts = Counts(messages=sum(map(len, self.sent.values())), lost=len(self.missing()))
        counts.confirmed = sum(outcome == "confirmed" for outcome in self.outcomes.values())
        counts.refused = len(self.outcomes) - counts.confirmed
        counts.unknown = counts.messages - len(self.outcomes)
        for device, shown in self.heard.items():
            highest: dict[Name, int] = {}
            seen: set[tuple[Name, int]] = set()
            spare = {(sender, number) for who, sender, number in self.again if who == device}
            for sender, number in shown:
                counts.heard += 1
                if (sender, number) in seen:
                    if (sender, number) in spare:
                        spare.discard((sender, number))
                    else:
                        counts.doubled += 1
                elif number < highest.get(sender, 0):
                    counts.reordered += 1
                elif self.outcomes.get((sender, number)) == "refused":
                    raise Broken(f"{device} was shown {sender} {number}, which was refused")
                if self.sent.get(sender, {}).get(number) != device.split("/")[0]:
                    raise Broken(f"{device} was shown {sender} {number}, which nobody sent to it")
                seen.add((sender, number))
                highest[sender] = max(number, highest.get(sender, 0))
        return counts
