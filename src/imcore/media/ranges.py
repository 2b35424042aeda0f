"""What a download asks for: ranges and conditions of RFC 9110, sections 13 and 14. No file is near.

What the RFC lets a server ignore is ignored, so that a reader that asks oddly gets the whole file, and never an error
that it need not get.
"""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from itertools import pairwise

from .refusal import Refusal, quoted

__all__ = ["RANGES_MOST", "none_match", "ranges", "still"]

RANGES_MOST = 16
"""Ranges in one request; one that asks for more, or for a byte twice, gets the whole file (RFC 9110, 14.2)."""

_SPEC = re.compile(r"(?P<first>[0-9]{1,40})?-(?P<last>[0-9]{1,40})?")
_TAG = re.compile(r'\s*(W/)?("[\x21\x23-\x7e\x80-\xff]*")\s*(?:,|$)')


def ranges(value: str | None, size: int) -> list[tuple[int, int]] | None:
    """`Range` for a file of `size` bytes: pieces [start, stop) in the order asked for, None = all of it. Raises
    `Refusal` 416 if there is nothing to send."""
    if value is None:
        return None
    unit, equals, rest = value.partition("=")
    if not equals or unit.strip().lower() != "bytes":
        return None
    found: list[tuple[int, int]] = []
    specs = [spec.strip(" \t") for spec in rest.split(",")]
    specs = [spec for spec in specs if spec]
    if not specs or len(specs) > RANGES_MOST:
        return None
    for spec in specs:
        parts = _SPEC.fullmatch(spec)
        if parts is None or spec == "-":
            return None
        first, last = parts["first"], parts["last"]
        if first is None:
            start, stop = max(0, size - int(last)), size
        else:
            start, stop = int(first), size if last is None else min(int(last) + 1, size)
            if last is not None and int(last) < start:
                return None
        if start < stop:
            found.append((start, stop))
    if not found:
        raise Refusal(
            416, f"Range: expected bytes below {size}, got {quoted(value)}", {"Content-Range": f"bytes */{size}"}
        )
    ordered = sorted(found)
    if any(stop > start for (_, stop), (start, _) in pairwise(ordered)):
        return None
    return found


def none_match(value: str | None, etag: str) -> bool:
    """`If-None-Match`: the reader has it already (weak comparison; RFC 9110, 13.1.2)."""
    if value is None:
        return False
    if value.strip() == "*":
        return True
    at = 0
    while tag := _TAG.match(value, at):
        if tag[2] == etag:
            return True
        at = tag.end()
        if at >= len(value):
            break
    return False


def still(value: str | None, etag: str, modified: float) -> bool:
    """`If-Range`: the file is the one that the reader began with, so ranges of it make sense (RFC 9110, 13.1.5).
    modified: seconds since 1970."""
    if value is None:
        return True
    value = value.strip()
    if value.startswith(('"', "W/")):
        return value == etag  # strong comparison
    try:
        return parsedate_to_datetime(value).timestamp() == int(modified)
    except (ValueError, TypeError, IndexError, OverflowError):
        return False
