"""What programs of others, which tests start, run in."""

from __future__ import annotations

import os

__all__ = ["ENVIRONMENT", "SANITIZED"]

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
"""Without the sanitizers that our own modules run under: under them curl hangs, and squid can't write its report."""

SANITIZED = "ASAN_OPTIONS" in os.environ
"""Our own modules run under them: nothing is to be learned of memory, of which they take their part."""
