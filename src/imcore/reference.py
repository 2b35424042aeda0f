"""What a message says of a file that is on the media service: enough to get it, and to know that it came whole.

The key is the right to read: whoever is sent the reference may, and nobody else. It says nothing of where the service
is: that every client knows as it knows its access points.
"""

from __future__ import annotations

from typing import Annotated, Self

import msgspec
from msgspec import Meta

from .errors import EncodeError

__all__ = ["MOST", "Reference"]

MOST = (1 << 63) - 1
"""Bytes of a file, at most: what a signed offset of the system can say."""


class Reference(msgspec.Struct, frozen=True):
    """A file on the media service. `encode()` and `decode()` carry it in a message, as JSON."""

    id: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
    key: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{43}\Z")]
    """Whoever knows it may read the file."""
    size: Annotated[int, Meta(ge=0, le=MOST)]
    """Bytes."""
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    """Of all bytes, in hexadecimal."""
    type: Annotated[str, Meta(max_length=127)]
    """The media type that its sender gave, `application/octet-stream` if none."""
    name: Annotated[str, Meta(max_length=255)]
    """The file's name without folders, as its sender gave it; may be empty."""

    def encode(self) -> bytes:
        """For a message."""
        return _encode(self)

    @classmethod
    def decode(cls, data: bytes | str) -> Self:
        """From a message; raises `EncodeError` for anything else."""
        try:
            return msgspec.json.decode(data, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise EncodeError(f"expected a reference to a file: {error}") from None


_encode = msgspec.json.Encoder().encode
