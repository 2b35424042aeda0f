"""Tokens to users: what holds, what does not, and with which code."""

from __future__ import annotations

import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from jwt.utils import base64url_encode

from imcore.errors import ConfigError, Unauthorized
from imcore.gateway.auth import anonymous, jwt_authenticator

SECRET = "a secret that is long enough for HS256"
ED = ed25519.Ed25519PrivateKey.generate()
EC = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(private: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return public.decode()


def token(key: Any = SECRET, algorithm: str = "HS256", **claims: object) -> str:
    return jwt.encode({"sub": "alice", "exp": time.time() + 3600, **claims}, key, algorithm)


@pytest.mark.parametrize(("key", "algorithm"), [(SECRET, "HS256"), (ED, "EdDSA"), (EC, "ES256"), (RSA, "RS256")])
def test_a_token_signed_by_any_of_the_keys_names_its_user(key: object, algorithm: str) -> None:
    authenticate = jwt_authenticator(["another secret that is long enough", SECRET, pem(ED), pem(EC), pem(RSA)])
    assert authenticate(token(key, algorithm)) == "alice"


def test_a_token_past_its_time_is_expired() -> None:
    with pytest.raises(Unauthorized) as caught:
        jwt_authenticator([SECRET])(token(exp=time.time() - 1))
    assert caught.value.code == "expired"


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "alice",
        "a.b.c",
        "\udcff",  # a byte of a header that is no UTF-8
        token("some other secret that is long enough"),
        token(ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
        token(sub=""),
        token(sub="x" * 129),
        token(sub="a\nb"),
        token(nbf=time.time() + 3600),
        jwt.encode({"sub": "alice"}, SECRET, "HS256"),
        jwt.encode({"exp": time.time() + 3600}, SECRET, "HS256"),
        jwt.encode({"sub": "alice", "exp": time.time() + 3600}, None, "none"),  # type: ignore[arg-type]  # nobody signs it
    ],
)
def test_what_does_not_hold_is_unauthorized(wrong: str) -> None:
    with pytest.raises(Unauthorized) as caught:
        jwt_authenticator([SECRET, pem(ED)])(wrong)
    assert caught.value.code == "unauthorized"


@given(st.one_of(st.text(st.characters()), st.binary().map(lambda head: f"{base64url_encode(head).decode()}.e30.x")))
def test_any_text_is_no_token_that_nobody_signed(wrong: str) -> None:
    with pytest.raises(Unauthorized):
        jwt_authenticator([SECRET, pem(ED)])(wrong)


def test_a_public_key_never_serves_as_a_secret() -> None:
    """RFC 8725, section 2.1: HS256 with the text of the public key as the secret."""
    import base64
    import hashlib
    import hmac
    import json

    def part(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    signed = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(json.dumps({"sub": "eve", "exp": 2**33}).encode())
    forged = signed + b"." + part(hmac.digest(pem(RSA).encode(), signed, hashlib.sha256))
    with pytest.raises(Unauthorized):
        jwt_authenticator([pem(RSA)])(forged.decode())


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ([], "at least one key"),
        (["short"], "32 bytes"),
        (["-----BEGIN PUBLIC KEY-----\nnonsense\n-----END PUBLIC KEY-----"], "Ed25519"),
        (
            [
                ED.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                ).decode()
            ],
            "public key",
        ),
    ],
)
def test_a_wrong_key_is_named_at_the_start(keys: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        jwt_authenticator(keys)


def test_anonymous_takes_the_token_for_the_name() -> None:
    assert anonymous("alice") == "alice"
    for wrong in ("", "x" * 129, "a\x00b"):
        with pytest.raises(Unauthorized):
            anonymous(wrong)
