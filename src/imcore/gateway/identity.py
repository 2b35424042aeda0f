"""The node's own key (Ed25519): by it a client that was built with the public one knows a gateway from a stranger."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from ..errors import ConfigError

__all__ = ["FILE", "kept", "load"]

FILE = "node.pem"
"""Of a key that nobody gave, in the data folder."""


def load(path: str | os.PathLike[str], named: str = "node.key") -> Ed25519PrivateKey:
    """The key in a PEM file; raises `ConfigError`. named: the key of the configuration that names the file."""
    try:
        key = load_pem_private_key(Path(path).read_bytes(), None)
    except OSError as error:
        raise ConfigError(f"{named}: {os.fspath(path)}: {error.strerror}") from None
    except (ValueError, TypeError):
        raise ConfigError(f"{named}: {os.fspath(path)}: expected a private key in PEM that is not encrypted") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{named}: {os.fspath(path)}: expected a key of Ed25519, got another kind")
    return key


def kept(folder: str | os.PathLike[str]) -> Ed25519PrivateKey:
    """The key that is kept in this folder; both are made at the first time. Raises `ConfigError`."""
    path = Path(folder) / FILE
    if not path.exists():
        key = Ed25519PrivateKey.generate()
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.unlink(missing_ok=True)
        new.touch(mode=0o600)
        new.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        new.replace(path)  # whole, or not at all
    return load(path)
