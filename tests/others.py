"""What programs of others, which tests start, run in."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence

__all__ = ["ENVIRONMENT", "SANITIZED", "ours", "theirs"]

PRELOAD = "LD_PRELOAD"
"""Names the sanitizers that our own modules run under."""


def theirs(environment: Mapping[str, str]) -> dict[str, str]:
    """What is left of it for them: under our sanitizers curl hangs, and squid can't write its report."""
    return {name: value for name, value in environment.items() if name != PRELOAD}


def ours(command: Sequence[str]) -> str:
    """For a shell of theirs: this command of ours, as it would run here, with the sanitizers if they are here."""
    preload = [f"{PRELOAD}={os.environ[PRELOAD]}"] if PRELOAD in os.environ else []
    return shlex.join(["env", *preload, *command])


ENVIRONMENT = theirs(os.environ)

SANITIZED = "ASAN_OPTIONS" in os.environ
"""Our own modules run under them: nothing is to be learned of memory, of which they take their part."""
