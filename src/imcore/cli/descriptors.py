"""Open files: each link is one, and what a user gets unasked is too few for a node."""

from __future__ import annotations

import resource

__all__ = ["allow_many"]


def allow_many() -> None:
    """As many open files as this user may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):  # macOS says "unlimited" and takes at most OPEN_MAX
        resource.setrlimit(resource.RLIMIT_NOFILE, (10240, hard))
