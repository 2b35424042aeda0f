"""A list of access points is taken from whoever has the key and nobody else; what is wrong with another is named."""

from __future__ import annotations

import base64
import contextlib
import json

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from imcore.access_list import (
    LIST_MOST,
    TYPE,
    AccessList,
    AccessPoint,
    BackOff,
    Port,
    Report,
    key_id,
    open_list,
    public_keys,
    sign_list,
)
from imcore.errors import BadList, ConfigError

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
KEYS = {key_id(KEY.public_key()): KEY.public_key()}
LIST = AccessList(
    role="down",
    iat=1_000,
    exp=1_300,
    refresh_s=150,
    points=[AccessPoint("gw-1", ["192.0.2.1", "2001:db8::1"], [Port(443, ["tls", "https"]), Port(80, ["http"])])],
)
SIGNED = sign_list(LIST, KEY)


def reason(document: bytes, now_s: float = 1_100) -> str:
    with pytest.raises(BadList) as caught:
        open_list(document, KEYS, "down", now_s)
    return caught.value.reason


names = st.text(max_size=20)
points = st.builds(
    AccessPoint,
    name=names,
    addresses=st.lists(st.ip_addresses().map(str), min_size=1, max_size=3),
    ports=st.lists(st.builds(Port, st.integers(1, 65535), st.lists(names, max_size=3)), min_size=1, max_size=3),
    host=names,
    carrier=names,
    region=names,
    level=st.integers(0, 4),
)
lists = st.builds(
    AccessList,
    role=st.sampled_from(["up", "down", "media"]),
    iat=st.integers(0, 2**40),
    exp=st.integers(1, 2**40),
    refresh_s=st.integers(1, 3600),
    points=st.lists(points, max_size=4),
    carrier=names,
    region=names,
    back_off=st.builds(BackOff, st.integers(1, 1000), st.integers(1000, 60_000)),
)


@given(lists)
def test_what_is_signed_is_read_as_it_was(made: AccessList) -> None:
    assert open_list(sign_list(made, KEY), KEYS, made.role, made.exp - 1) == made


def test_any_library_for_web_tokens_can_verify_it() -> None:
    claims = jwt.decode(SIGNED, KEY.public_key(), algorithms=["EdDSA"], options={"verify_exp": False})
    assert claims["points"][0]["addresses"] == ["192.0.2.1", "2001:db8::1"]
    assert jwt.get_unverified_header(SIGNED) == {"alg": "EdDSA", "typ": TYPE, "kid": key_id(KEY.public_key())}


def test_a_list_is_good_up_to_its_end() -> None:
    assert open_list(SIGNED, KEYS, "down", 1_299.9) == LIST
    assert reason(SIGNED, 1_300) == "expired"


def test_each_of_several_keys_may_have_signed_it() -> None:
    both = public_keys([pem(OTHER), base64.b64encode(KEY.public_key().public_bytes_raw()).decode()])
    for key in (KEY, OTHER):
        assert open_list(sign_list(LIST, key), both, "down", 1_100) == LIST


def test_another_keys_list_is_named() -> None:
    assert reason(sign_list(LIST, OTHER)) == "signature"


def test_a_list_under_our_keys_name_that_another_signed_is_named() -> None:
    header, payload, _ = SIGNED.split(b".")
    signature = base64.urlsafe_b64encode(OTHER.sign(header + b"." + payload)).rstrip(b"=")
    assert reason(b".".join([header, payload, signature])) == "signature"


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
def test_no_other_algorithm_is_taken(algorithm: str) -> None:
    secret = "" if algorithm == "none" else "s" * 32
    forged = jwt.encode(
        msgspec.to_builtins(LIST), secret, algorithm, headers={"typ": TYPE, "kid": key_id(KEY.public_key())}
    )
    assert reason(forged.encode()) == "signature"


@pytest.mark.parametrize(
    "came",
    [b"", b"<html>Sign in</html>", b"a.b.c", b"\xff\xfe", b"." * 10, b"x" * (LIST_MOST + 1)],
)
def test_a_strangers_answer_is_named(came: bytes) -> None:
    assert reason(came) == "stranger"


def test_a_token_of_ours_that_is_no_list_is_named() -> None:
    token = jwt.encode({"sub": "alice"}, KEY, "EdDSA", headers={"kid": key_id(KEY.public_key())})
    assert reason(token.encode()) == "stranger"
    no_list = jwt.encode({"sub": "alice"}, KEY, "EdDSA", headers={"kid": key_id(KEY.public_key()), "typ": TYPE})
    assert reason(no_list.encode()) == "stranger"


def test_a_list_for_another_direction_is_named() -> None:
    assert reason(sign_list(msgspec.structs.replace(LIST, role="up"), KEY)) == "role"


def test_keys_that_a_later_version_adds_are_passed_over() -> None:
    later = {**msgspec.to_builtins(LIST), "weather": "fine"}
    signed = jwt.encode(later, KEY, "EdDSA", headers={"typ": TYPE, "kid": key_id(KEY.public_key())})
    assert open_list(signed.encode(), KEYS, "down", 1_100) == LIST


@given(st.integers(0, len(SIGNED) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed(at: int, change: int) -> None:
    changed = bytearray(SIGNED)
    changed[at] ^= change
    with contextlib.suppress(BadList):  # the last character of base64 has bits that mean nothing
        assert open_list(bytes(changed), KEYS, "down", 1_100) == LIST


@given(st.binary(max_size=200) | st.recursive(st.none() | st.text(), lambda inner: st.lists(inner)).map(json.dumps))
def test_any_bytes_are_a_list_or_a_bad_list(came: bytes | str) -> None:
    with pytest.raises(BadList):
        open_list(came if isinstance(came, bytes) else came.encode(), KEYS, "down", 1_100)


def pem(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.mark.parametrize("plain", ["", "AAAA", "not base64!", "-----BEGIN PUBLIC KEY-----", "é" * 43])
def test_what_is_no_key_is_named(plain: str) -> None:
    with pytest.raises(ConfigError, match=r"keys\[1\]: expected a public key of Ed25519"):
        public_keys([pem(KEY), plain])


def test_a_key_of_another_kind_is_named() -> None:
    public = generate_private_key(SECP256R1()).public_key()
    with pytest.raises(ConfigError, match="another kind"):
        public_keys([public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()])


def test_a_report_is_short_when_there_is_little_to_say() -> None:
    text = b'{"device":"d","role":"up","measured":[{"point":"gw-1","port":80,"way":"tcp","outcome":"SILENT"}]}'
    assert msgspec.json.encode(msgspec.json.decode(text, type=Report)) == text
