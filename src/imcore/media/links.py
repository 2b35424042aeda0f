"""Who may read a file: whoever was sent its key gets a link, which is signed and ends. Nothing of either is stored.

A key proves that a reference was shared, and never stands in an address. A link stands in addresses, for players and
other programs, so it holds for a short time only.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path

from ..errors import ConfigError
from .refusal import Refusal

__all__ = ["FILE", "Keys", "kept", "load", "new_id"]

FILE = "media.key"
"""Of a secret that nobody gave, in the folder of the media files."""
SECRET_LEAST = 32

_UNTIL = re.compile(r"[0-9]{1,12}")


def new_id() -> str:
    """A name for a file that nobody can guess."""
    return secrets.token_hex(16)


class Keys:
    """secret: what all nodes that serve the same files know, and nobody else."""

    def __init__(self, secret: bytes) -> None:
        self._share = hmac.digest(secret, b"share", "sha256")
        self._link = hmac.digest(secret, b"link", "sha256")

    def key(self, id: str) -> str:
        """What a reference to this file says."""
        return _text(hmac.digest(self._share, id.encode(), "sha256"))

    def shared(self, id: str, key: str) -> bool:
        """The key is this file's."""
        return hmac.compare_digest(self.key(id).encode(), key.encode("utf-8", "replace"))

    def query(self, id: str, until: int) -> str:
        """What makes a file's address a link that holds until then, seconds since 1970."""
        return f"until={until}&sign={self._sign(id, until)}"

    def check(self, id: str, until: str | None, sign: str | None, now: float) -> None:
        """Raises `Refusal` for a link that does not hold."""
        if until is None or sign is None:
            raise Refusal(403, "expected a signed link: POST to the file's /link with its key makes one")
        if not _UNTIL.fullmatch(until) or not hmac.compare_digest(
            self._sign(id, int(until)).encode(), sign.encode("utf-8", "replace")
        ):
            raise Refusal(403, "this link was not made here, or was changed")
        if int(until) < now:
            raise Refusal(403, "this link is past its time: get a new one")

    def _sign(self, id: str, until: int) -> str:
        return _text(hmac.digest(self._link, b"%b %d" % (id.encode(), until), "sha256"))


def load(path: str | os.PathLike[str]) -> bytes:
    """The secret in a file; raises `ConfigError`."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"media.key: {os.fspath(path)}: {error.strerror}") from None
    if len(data) < SECRET_LEAST:
        raise ConfigError(f"media.key: {os.fspath(path)}: expected at least {SECRET_LEAST} bytes, got {len(data)}")
    return hashlib.sha256(data).digest()


def kept(folder: Path) -> bytes:
    """The secret that is kept in this folder, which is there; made at the first time. Raises `ConfigError`."""
    path = folder / FILE
    if not path.exists():
        new = path.with_suffix(".new")
        new.unlink(missing_ok=True)
        new.touch(mode=0o600)
        new.write_bytes(secrets.token_bytes(SECRET_LEAST))
        new.replace(path)  # whole, or not at all
    return load(path)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
