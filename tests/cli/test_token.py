"""`imcore token`: what it makes, a gateway with that key takes, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from imcore.cli.token import make
from imcore.errors import ConfigError, Unauthorized
from imcore.gateway.auth import jwt_authenticator
from tests.cli.running import Place

SECRET = "0123456789abcdef0123456789abcdef"


def pair(algorithm: str) -> tuple[str, str]:
    """Private and public key in PEM."""
    key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    if algorithm == "EdDSA":
        key = ed25519.Ed25519PrivateKey.generate()
    elif algorithm == "ES256":
        key = ec.generate_private_key(ec.SECP256R1())
    else:
        key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


def test_a_secret_makes_what_the_same_secret_takes() -> None:
    assert jwt_authenticator([SECRET])(make("alice", SECRET)) == "alice"
    with pytest.raises(Unauthorized):
        jwt_authenticator([SECRET[::-1]])(make("alice", SECRET))


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "RS256"])
def test_a_private_key_makes_what_its_public_key_takes(algorithm: str) -> None:
    private, public = pair(algorithm)
    _, stranger = pair(algorithm)
    token = make("alice", private, algorithm)
    assert jwt_authenticator([stranger, public])(token) == "alice"
    with pytest.raises(Unauthorized):
        jwt_authenticator([stranger])(token)


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [("short", "HS256"), (pair("EdDSA")[0], "HS256"), (SECRET, "EdDSA"), (pair("EdDSA")[0], "RS256"),
     (pair("ES256")[0], "EdDSA"), (pair("EdDSA")[1], "EdDSA"), (pair("ES256")[1], "ES256")],
)  # fmt: skip
def test_a_key_that_does_not_fit_is_refused_and_not_shown(key: str, algorithm: str) -> None:
    with pytest.raises(ConfigError, match=f"the key for {algorithm}: expected a ") as caught:
        make("alice", key, algorithm)
    assert key not in str(caught.value)


@pytest.mark.parametrize("user", ["", "a\nb", "x" * 129])
def test_a_name_that_no_gateway_takes_is_refused(user: str) -> None:
    with pytest.raises(ConfigError, match="printable"):
        make(user, SECRET)


def test_the_command_reads_the_key_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(SECRET + "\n")
    process = Place(tmp_path).run("token", "--user", "alice", "--key-file", "key", "--ttl", "60")
    assert process.returncode == 0
    assert jwt_authenticator([SECRET])(process.stdout.decode().strip()) == "alice"
