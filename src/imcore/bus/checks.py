"""A service's look at a message before it is accepted. It is a program's own code: what it raises is a refusal."""

from __future__ import annotations

import logging

from ..messages import Refusal
from .ports import Check, Uplink

__all__ = ["objection"]

log = logging.getLogger("imcore.bus")


def objection(check: Check, message: Uplink, code: str) -> Refusal | None:
    """None, or the refusal of this message for good. code: of what the check says itself."""
    try:
        expected = check(message)
    except Exception:
        log.exception("the check of route %r failed", message.route)
        return Refusal("internal", "the service could not look at this message: the node's log says why", None)
    return None if expected is None else Refusal(code, expected, None)
