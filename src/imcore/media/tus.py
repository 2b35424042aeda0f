"""The headers of tus 1.0 (https://tus.io/protocols/resumable-upload), read strictly. No file and no socket is near.

Every function takes a header's value as it came, and raises `Refusal` with a 4xx for what the protocol does not allow.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence

import msgspec

from ..reference import MOST
from .refusal import Refusal, quoted

__all__ = [
    "ALGORITHMS",
    "CHECKSUM_MISMATCH",
    "EXTENSIONS",
    "VERSION",
    "Checksum",
    "Concat",
    "Described",
    "checksum",
    "concat",
    "described",
    "metadata",
    "number",
    "version",
]

VERSION = "1.0.0"
EXTENSIONS = ("creation", "creation-with-upload", "expiration", "checksum", "termination", "concatenation")
ALGORITHMS = {"sha1": 20, "sha256": 32, "md5": 16}
"""Of `Upload-Checksum`, and the bytes of their digests."""
CHECKSUM_MISMATCH = 460

METADATA_MOST = 4096
KEYS_MOST = 32
PARTS_MOST = 64

_ID = re.compile(r"[0-9a-f]{32}")
_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,62}/[a-z0-9][a-z0-9!#$&^_.+-]{0,62}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ORIGIN = re.compile(r"https?://[^/?#\s]+", re.IGNORECASE)

UNNAMED = "application/octet-stream"


class Checksum(msgspec.Struct, frozen=True):
    """`Upload-Checksum`"""

    algorithm: str
    digest: bytes


class Concat(msgspec.Struct, frozen=True):
    """`Upload-Concat`: a part, or the ids of the parts that make a whole."""

    parts: tuple[str, ...] = ()

    @property
    def final(self) -> bool:
        return bool(self.parts)


class Described(msgspec.Struct, frozen=True):
    """What the metadata say of a file. sha256: what its sender expects it to be, "" = nothing."""

    name: str
    type: str
    sha256: str


def version(value: str | None) -> None:
    """`Tus-Resumable`"""
    if value != VERSION:
        said = "nothing" if value is None else quoted(value)
        raise Refusal(412, f"Tus-Resumable: expected {VERSION}, got {said}", {"Tus-Version": VERSION})


def number(value: str | None, name: str) -> int:
    """A length or an offset in bytes, up to 2^63 - 1."""
    if value is None:
        raise Refusal(400, f"{name}: expected a number of bytes, got nothing")
    if not (value.isascii() and value.isdigit()):
        raise Refusal(400, f"{name}: expected a number of bytes, got {quoted(value)}")
    digits = value.lstrip("0") or "0"
    if len(digits) > 19 or int(digits) > MOST:
        raise Refusal(400, f"{name}: expected at most {MOST}, got {digits[:40]}")
    return int(digits)


def metadata(value: str | None) -> dict[str, bytes]:
    """`Upload-Metadata`: each key with its value, decoded."""
    if not value:
        return {}
    if len(value) > METADATA_MOST:
        raise Refusal(400, f"Upload-Metadata: expected at most {METADATA_MOST} characters, got {len(value)}")
    found: dict[str, bytes] = {}
    for pair in value.split(","):
        key, _, text = pair.strip(" ").partition(" ")
        if not key or not key.isascii() or not key.isprintable():
            raise Refusal(400, f"Upload-Metadata: expected ASCII keys with a value in base64, got {quoted(pair)}")
        if key in found:
            raise Refusal(400, f"Upload-Metadata: expected each key once, got {quoted(key)} again")
        try:
            found[key] = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise Refusal(400, f"Upload-Metadata: {key[:40]}: expected base64, got {quoted(text)}") from None
    if len(found) > KEYS_MOST:
        raise Refusal(400, f"Upload-Metadata: expected at most {KEYS_MOST} keys, got {len(found)}")
    return found


def described(found: dict[str, bytes]) -> Described:
    """What the metadata say that we know: the name and type under the keys that the usual clients use, and `sha256`."""
    name = _text(found, "filename", "name")
    name = name.replace("\\", "/").rpartition("/")[2]
    name = "".join(char for char in name if char.isprintable())
    if name in (".", ".."):
        name = ""
    if len(name) > 255:
        raise Refusal(400, f"Upload-Metadata: filename: expected at most 255 characters, got {len(name)}")
    kind = _text(found, "filetype", "type").partition(";")[0].strip().lower() or UNNAMED
    if not _TYPE.fullmatch(kind):
        raise Refusal(400, f"Upload-Metadata: filetype: expected a media type such as image/jpeg, got {quoted(kind)}")
    sha256 = _text(found, "sha256").lower()
    if sha256 and not _SHA256.fullmatch(sha256):
        raise Refusal(400, f"Upload-Metadata: sha256: expected 64 hexadecimal digits, got {quoted(sha256)}")
    return Described(name, kind, sha256)


def _text(found: dict[str, bytes], *keys: str) -> str:
    for key in keys:
        if key in found:
            try:
                return found[key].decode()
            except UnicodeDecodeError:
                raise Refusal(400, f"Upload-Metadata: {key}: expected UTF-8") from None
    return ""


def checksum(value: str | None) -> Checksum | None:
    """`Upload-Checksum`; None if there is none."""
    if value is None:
        return None
    algorithm, _, text = value.partition(" ")
    if algorithm not in ALGORITHMS:
        raise Refusal(400, f"Upload-Checksum: expected one of {', '.join(ALGORITHMS)}, got {quoted(algorithm)}")
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(400, f"Upload-Checksum: expected base64, got {quoted(text)}") from None
    if len(digest) != ALGORITHMS[algorithm]:
        raise Refusal(
            400, f"Upload-Checksum: expected {ALGORITHMS[algorithm]} bytes for {algorithm}, got {len(digest)}"
        )
    return Checksum(algorithm, digest)


def concat(value: str | None, base: str) -> Concat | None:
    """`Upload-Concat`; None if there is none. base: the path below which uploads are, with its last slash."""
    if value is None:
        return None
    kind, _, rest = value.partition(";")
    if value == "partial":
        return Concat()
    if kind != "final":
        raise Refusal(400, f'Upload-Concat: expected "partial" or "final;" with uploads, got {quoted(value)}')
    urls = rest.split()
    if not 0 < len(urls) <= PARTS_MOST:
        raise Refusal(400, f"Upload-Concat: expected 1 to {PARTS_MOST} uploads, got {len(urls)}")
    parts = [_part(url, base) for url in urls]
    _once(parts)
    return Concat(tuple(parts))


def _part(url: str, base: str) -> str:
    """The id in a part's URL, which may be relative (without a host)."""
    origin = _ORIGIN.match(url)
    path = url[origin.end() :] if origin else url
    id = path.removeprefix(base)
    if id == path or not _ID.fullmatch(id):
        raise Refusal(400, f"Upload-Concat: expected {base} and the id of an upload, got {quoted(url)}")
    return id


def _once(parts: Sequence[str]) -> None:
    if len(set(parts)) != len(parts):
        raise Refusal(400, "Upload-Concat: expected each upload once")
