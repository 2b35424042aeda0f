"""The gateway's side of the uplink rule (wire: "Messages up") in plain Python.

One integer for each device, and for each link the number that was refused and has not come again.
"""

from __future__ import annotations

from collections.abc import Callable

from imcore.messages import Refusal

__all__ = ["HELD", "GatewayModel"]

HELD = Refusal("overloaded", "a lower number was refused", 0)


class GatewayModel:
    """judge: None = take the message, or why not. hold: False takes the rule out that makes it safe."""

    def __init__(self, judge: Callable[[bytes], Refusal | None], *, hold: bool = True) -> None:
        self.judge = judge
        self.hold = hold
        self.accepted = 0
        self.log: list[bytes] = []
        self.held: dict[int, int] = {}

    def read(self, link: int, number: int, body: bytes, withdrawn: bool) -> Refusal | None:
        """A message came on this link; the answer."""
        if number <= self.accepted:
            return None
        held = self.held.get(link)
        if self.hold and held is not None and number != held:
            return HELD
        if not withdrawn:
            refusal = self.judge(body)
            if refusal is not None:
                self.held[link] = number
                return refusal
            self.log.append(body)
        self.held.pop(link, None)
        self.accepted = number
        return None
