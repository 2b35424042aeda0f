"""Access points and their signed list, and the report of what a race measured: the words that a device and the access
service share. Nothing here connects, and nothing asks a clock.

The list is a JSON Web Token (RFC 7519, EdDSA): whoever was built with the public key knows a list of ours from a
portal's page, an old copy, or a stranger's answer. Unknown keys in it are ignored, so that it can grow.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from msgspec import Meta

from .errors import BadList, ConfigError

__all__ = [
    "LIST_MOST",
    "MULTI_LINE",
    "REPORT_MOST",
    "TYPE",
    "AccessList",
    "AccessPoint",
    "BackOff",
    "Direction",
    "Measured",
    "Port",
    "PublicKeys",
    "Report",
    "key_id",
    "open_list",
    "public_keys",
    "sign_list",
]

TYPE = "im-access+jwt"
"""The `typ` of a list's header: a user's token is no list, whoever signed it (RFC 8725, 3.11)."""
LIST_MOST = 64 * 1024
"""Bytes of a signed list."""
REPORT_MOST = 16 * 1024
"""Bytes of a report."""
MULTI_LINE = "*"
"""The carrier of a point that has lines to all of them."""

Direction = Literal["up", "down", "media"]
"""What the way is for. Each has its own list, its own race and its own winner."""

Name = Annotated[str, Meta(max_length=64)]
Short = Annotated[str, Meta(max_length=32)]
PortNumber = Annotated[int, Meta(ge=1, le=65535)]
Millis = Annotated[int, Meta(ge=0, le=600_000)]


class Port(msgspec.Struct, frozen=True, omit_defaults=True):
    """A port of a point, and the ways to use it, the best first."""

    port: PortNumber
    ways: Annotated[list[Short], Meta(max_length=16)]
    """Schemes of `points.Point`: `tcp` (raw frames), `tls` (frames in TLS), `http` (the tunnel), `https` (the tunnel in
    TLS). One that the reader does not know is passed over."""


class AccessPoint(msgspec.Struct, frozen=True, omit_defaults=True):
    """One way in, as the access service lists it."""

    name: Name
    """The point's own; reports name it by this."""
    addresses: Annotated[list[Name], Meta(min_length=1, max_length=16)]
    """Its IP addresses, of both families."""
    ports: Annotated[list[Port], Meta(min_length=1, max_length=16)]
    """The best first."""
    host: Annotated[str, Meta(max_length=255)] = ""
    """The name in its certificate, and for proxies that refuse IP addresses; "" = it has none."""
    carrier: Name = ""
    """Whose line it is on; `*` = on all of them, "" = not known."""
    region: Name = ""
    level: Annotated[int, Meta(ge=0, le=4)] = 0
    """How loaded the machine behind it is: 0 = hardly, 4 = take another one."""


class BackOff(msgspec.Struct, frozen=True, omit_defaults=True):
    """How to come back after a failure: a random part of `first_ms`, doubled each time up to `most_ms`."""

    first_ms: Annotated[int, Meta(ge=1, le=600_000)] = 500
    most_ms: Annotated[int, Meta(ge=1, le=3_600_000)] = 20_000


class AccessList(msgspec.Struct, frozen=True):
    """What `GET /v1/access` answers, signed. The points stand in the order in which to try them."""

    role: Direction
    iat: Annotated[int, Meta(ge=0)]
    """When it was made, seconds since 1970."""
    exp: Annotated[int, Meta(ge=0)]
    """Until when it may be used, seconds since 1970."""
    refresh_s: Annotated[int, Meta(ge=1)]
    """Ask again after so long, seconds; until `exp` the list is good without."""
    points: Annotated[list[AccessPoint], Meta(max_length=256)]
    carrier: Name = ""
    """Whose customer the caller's address is, as far as the service knows."""
    region: Name = ""
    back_off: BackOff = BackOff()
    still_s: Annotated[int, Meta(ge=0, le=65535)] = 0
    """How long a connection may be silent on most networks of this carrier, seconds, as their devices found out; 0 =
    nobody knows. Where to begin to look, and no promise."""


class Measured(msgspec.Struct, frozen=True, omit_defaults=True):
    """One attempt of a race. Only direct ones are reported: by a proxy it is the proxy that is measured."""

    point: Name
    """`AccessPoint.name`"""
    port: PortNumber
    way: Short
    outcome: Short
    """`OK`, or the name of what was met instead: `REFUSED`, `SILENT`, `PORTAL` …"""
    connect_ms: Millis | None = None
    """From the start to the connection, TLS included; None = it did not come to that."""
    first_ms: Millis | None = None
    """From the start to the first byte of the answer."""
    whole_ms: Millis | None = None
    """From the start to the verified answer; there if the outcome is `OK`."""


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """What `POST /v1/report` takes, in JSON: the attempts of one race."""

    device: Name
    role: Direction
    measured: Annotated[list[Measured], Meta(min_length=1, max_length=64)]
    still_s: Annotated[int, Meta(ge=0, le=65535)] = 0
    """How long a connection may be silent on the device's network, seconds, as it found out; 0 = it does not know."""


PublicKeys = Mapping[str, Ed25519PublicKey]
"""By their `key_id`."""

_jws = jwt.PyJWS(algorithms=["EdDSA"])
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(AccessList)


def key_id(key: Ed25519PublicKey) -> str:
    """The key's name in a list's header (`kid`): its thumbprint (RFC 7638, RFC 8037)."""
    said = f'{{"crv":"Ed25519","kty":"OKP","x":"{_base64url(key.public_bytes_raw())}"}}'
    return _base64url(hashlib.sha256(said.encode()).digest())


def public_keys(texts: Iterable[str]) -> dict[str, Ed25519PublicKey]:
    """Keys that lists may be signed with: each in PEM, or its 32 bytes in base64. Several, so that they can rotate.
    Raises `ConfigError`."""
    found = [_public_key(text, number) for number, text in enumerate(texts)]
    return {key_id(key): key for key in found}


def sign_list(made: AccessList, key: Ed25519PrivateKey) -> bytes:
    """The list as it goes over the wire."""
    header = {"typ": TYPE, "kid": key_id(key.public_key())}
    return _jws.encode(_encoder.encode(made), key, algorithm="EdDSA", headers=header).encode()


def open_list(document: bytes, keys: PublicKeys, role: Direction, now_s: float) -> AccessList:
    """The list in a document that came from anywhere. now_s: seconds since 1970. Raises `BadList`, whose `reason` names
    what is wrong: a stranger's answer, another key's signature, a past lifetime, or a list for another role."""
    if len(document) > LIST_MOST:
        raise BadList("stranger", f"expected a signed list of at most {LIST_MOST} bytes, got {len(document)}")
    try:
        header = jwt.get_unverified_header(document)
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        raise BadList("stranger", f"expected a signed list, got {document[:40]!r}") from None
    if header.get("typ") != TYPE:
        raise BadList("stranger", f"expected a token of type {TYPE}, got {str(header.get('typ'))[:40]!r}")
    key = keys.get(str(header.get("kid")))
    if key is None:
        raise BadList("signature", f"expected a list signed by a key of ours, got {str(header.get('kid'))[:64]!r}")
    try:
        payload = _jws.decode(document, key, algorithms=["EdDSA"])
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        raise BadList("signature", "the list was changed on its way: its signature does not hold") from None
    try:
        made = _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadList("stranger", f"a list that was signed by us, but is none: {str(error)[:200]}") from None
    if made.exp <= now_s:
        raise BadList("expired", f"the list was good until {made.exp}, and it is {now_s:.0f} (seconds since 1970)")
    if made.role != role:
        raise BadList("role", f"expected a list for {role}, got one for {made.role}")
    return made


def _public_key(text: str, number: int) -> Ed25519PublicKey:
    what = f"keys[{number}]: expected a public key of Ed25519, in PEM or its 32 bytes in base64"
    try:
        if "-----BEGIN" not in text:
            plain = text.strip().rstrip("=").translate(str.maketrans("+/", "-_"))
            return Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(plain + "=" * (-len(plain) % 4)))
        key = load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(what) from None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"{what}, got a key of another kind")
    return key


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
