"""Commands as Redis reads them (RESP: arrays of bulk strings). A call has thousands of words, and redis-py's packing of
them would cost as much as all else that the gateway does for a message.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Word", "pack"]

Word = bytes | str | int


def pack(words: Sequence[Word]) -> bytes:
    """One command."""
    parts = [b"*%d\r\n" % len(words)]
    add = parts.append
    for word in words:
        if isinstance(word, str):
            word = word.encode()
        elif isinstance(word, int):
            word = b"%d" % word
        add(b"$%d\r\n%b\r\n" % (len(word), word))
    return b"".join(parts)
