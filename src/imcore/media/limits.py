"""What the media service allows, in its own terms."""

from __future__ import annotations

import msgspec

__all__ = ["Limits"]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes and seconds; the configuration's `[media]` says the same to people."""

    max_size: int = 2 * 1024 * 1024 * 1024
    types: tuple[str, ...] = ("*/*",)
    rate: int = 0
    parallel: int = 16
    quota: int = 10 * 1024 * 1024 * 1024
    files: int = 100_000
    expire_s: int = 86400
    keep_s: int = 0
    link_s: int = 3600
    idle_s: float = 60.0

    def takes(self, type: str) -> bool:
        """Files of this media type are taken."""
        family = type.partition("/")[0] + "/*"
        return any(each in ("*/*", family, type) for each in self.types)
