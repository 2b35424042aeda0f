"""Who is it: a token becomes a user's name, or an `Unauthorized`. Nothing here keeps state."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import jwt

from ..errors import ConfigError, Unauthorized

__all__ = ["USER_MOST", "Authenticate", "anonymous", "checked_user", "jwt_authenticator"]

Authenticate = Callable[[str], str | Awaitable[str]]
"""The token of a HELLO to the user's name; raises `Unauthorized`."""

USER_MOST = 128
"""Characters in a user's name."""

_SECRET = ["HS256"]
_PUBLIC = ["EdDSA", "ES256", "RS256"]


def checked_user(user: object) -> str:
    """A user's name as the channel takes it: 1 to 128 printable characters."""
    if not isinstance(user, str) or not 0 < len(user) <= USER_MOST or not user.isprintable():
        raise Unauthorized(f"expected a user's name of 1 to {USER_MOST} printable characters")
    return user


def anonymous(token: str) -> str:
    """The token is the user's name: for trials on one machine only."""
    return checked_user(token)


def jwt_authenticator(keys: Sequence[str]) -> Authenticate:
    """JSON Web Tokens (RFC 7519) whose `sub` is the user; `exp` is required.

    keys: PEM public keys (EdDSA, ES256, RS256) or secrets of at least 32 bytes (HS256); a token may be signed by any of
    them, so that keys can rotate. Raises `ConfigError` for a key that is neither.
    """
    if not keys:
        raise ConfigError("auth.keys: expected at least one key for mode 'jwt'")
    accepted = [_parsed(key, f"auth.keys[{number}]") for number, key in enumerate(keys)]

    def authenticate(token: str) -> str:
        try:
            algorithm = jwt.get_unverified_header(token).get("alg")
        except (jwt.InvalidTokenError, ValueError, RecursionError):
            raise Unauthorized("expected a JSON Web Token") from None
        for key, algorithms in accepted:
            if algorithm not in algorithms:
                continue
            try:
                claims = jwt.decode(token, key, algorithms=[algorithm], options={"require": ["exp", "sub"]})
            except jwt.ExpiredSignatureError:
                raise Unauthorized("the token is past its time: get a new one", "expired") from None
            except (jwt.InvalidSignatureError, jwt.InvalidKeyError):
                continue  # perhaps signed by the next key
            except jwt.InvalidTokenError as error:
                raise Unauthorized(f"the token does not hold: {error}") from None
            return checked_user(claims["sub"])
        raise Unauthorized("the token is not signed by a key of this node")

    return authenticate


def _parsed(key: str, name: str) -> tuple[Any, list[str]]:
    """The key, and the algorithms that it may be used with: a public key never serves as a secret."""
    if "-----BEGIN" not in key:
        if len(key.encode()) < 32:
            raise ConfigError(f"{name}: expected a PEM public key, or a secret of at least 32 bytes, got {len(key)}")
        return key, _SECRET
    if "PRIVATE" in key:
        raise ConfigError(f"{name}: expected a public key; a private one does not belong into a gateway")
    for algorithm in _PUBLIC:
        try:
            return jwt.get_algorithm_by_name(algorithm).prepare_key(key), [algorithm]
        except (jwt.InvalidKeyError, TypeError, ValueError):
            continue
    raise ConfigError(f"{name}: expected a PEM public key of Ed25519, P-256 or RSA")
