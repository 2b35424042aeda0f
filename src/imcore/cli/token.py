"""Make a token for a user: a JSON Web Token (RFC 7519) with `sub`, `iat` and `exp`, on standard output."""

from __future__ import annotations

import argparse
import time

import jwt

from ..errors import ConfigError, Unauthorized
from ..gateway.auth import checked_user
from .values import utf8, whole

__all__ = ["HELP", "add_arguments", "make", "run"]

HELP = "make a token for a user"
ALGORITHMS = {"HS256": "secret of at least 32 bytes", "EdDSA": "Ed25519", "ES256": "P-256", "RS256": "RSA"}
KEY_MOST = 65536
TTL_MOST = 100 * 366 * 86400


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--user", type=utf8, required=True, metavar="NAME", help="who the token speaks for")
    key = parser.add_mutually_exclusive_group(required=True)
    key.add_argument(
        "--key-file", metavar="FILE", help="file with the secret, or with the private key (PEM); a last newline is cut"
    )
    key.add_argument(
        "--key", type=utf8, metavar="TEXT", help="the same, on the command line, where other users can see it"
    )
    parser.add_argument("--alg", choices=ALGORITHMS, default="HS256", help="how it is signed (%(default)s)")
    parser.add_argument(
        "--ttl", type=whole(1, TTL_MOST), default=3600, metavar="SECONDS", help="for how long it holds (%(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Print the token."""
    if args.key_file is not None:
        try:
            with open(args.key_file, encoding="utf-8") as file:
                key = file.read(KEY_MOST).rstrip("\r\n")
        except OSError as error:
            raise ConfigError(
                f"--key-file {args.key_file!r}: {error.strerror}: expected a file with a secret, or a key in PEM"
            ) from None
        except UnicodeDecodeError:
            raise ConfigError(f"--key-file {args.key_file}: expected a text: a secret, or a key in PEM") from None
    else:
        key = args.key
    print(make(args.user, key, args.alg, args.ttl))
    return 0


def make(user: str, key: str, algorithm: str = "HS256", ttl: int = 3600) -> str:
    """A token that says who the user is for `ttl` seconds. Raises `ConfigError` if the key does not fit."""
    try:
        checked_user(user)
    except Unauthorized as error:
        raise ConfigError(f"--user: {error}, got {user!r}") from None
    if ttl <= 0:
        raise ConfigError(f"--ttl: expected seconds from 1 on, got {ttl}")
    pem = "-----BEGIN" in key
    if algorithm == "HS256" and (pem or len(key.encode()) < 32):
        what = "a PEM key: --alg says for which algorithm it is" if pem else f"{len(key.encode())} bytes"
        raise ConfigError(f"the key for HS256: expected a {ALGORITHMS['HS256']}, got {what}")
    now = int(time.time())
    try:
        return jwt.encode({"sub": user, "iat": now, "exp": now + ttl}, key, algorithm)
    except (jwt.InvalidKeyError, ValueError, TypeError, AttributeError):
        # AttributeError: PyJWT takes a public key for a private one until it has to sign
        raise ConfigError(
            f"the key for {algorithm}: expected a private key of {ALGORITHMS[algorithm]} in PEM that is not encrypted"
        ) from None
