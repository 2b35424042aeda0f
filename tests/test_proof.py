"""What a node proves is what the other side reads; nothing else passes for it."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from imcore.errors import BadProof
from imcore.proof import FILL_MOST, PROBE_SIZE, fill_page, probe_page, read_fill, read_probe

KEY = Ed25519PrivateKey.generate()
KEYS = [KEY.public_key()]
nonces = st.text("abcXYZ09-_", min_size=1, max_size=64)
names = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=64)


@given(names, nonces)
def test_a_probe_is_of_one_size_and_read_back(node: str, nonce: str) -> None:
    page = probe_page(node, nonce, KEY)
    assert len(page) == PROBE_SIZE
    proof = read_probe(page, nonce, KEYS)
    assert (proof.node, proof.signed) == (node, True)
    assert not read_probe(page, nonce, []).signed


@given(names, nonces, st.integers(PROBE_SIZE, FILL_MOST))
def test_a_fill_has_the_size_that_was_asked_for(node: str, nonce: str, size: int) -> None:
    page = fill_page(node, nonce, size, KEY)
    assert len(page) == size
    assert read_fill(page, nonce, size, KEYS).node == node


@pytest.mark.parametrize("made", ["probe", "fill"])
@given(st.data())
def test_a_changed_byte_is_seen_wherever_it_is(made: str, data: st.DataObject) -> None:
    page = bytearray(probe_page("gw", "nonce", KEY) if made == "probe" else fill_page("gw", "nonce", 2048, KEY))
    where = data.draw(st.integers(0, len(page) - 1))
    page[where] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BadProof):
        read_probe(bytes(page), "nonce", KEYS) if made == "probe" else read_fill(bytes(page), "nonce", 2048, KEYS)


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=100).map(lambda end: b"imcore probe 1\nnode: " + end)))
def test_any_bytes_are_a_proof_or_an_error_that_says_why(page: bytes) -> None:
    with pytest.raises(BadProof):
        read_probe(page, "n", KEYS)
    with pytest.raises(BadProof):
        read_fill(page, "n", 2048, KEYS)


def test_reasons_are_told_apart() -> None:
    def reason(page: bytes, nonce: str = "n", keys: Any = KEYS) -> str:
        with pytest.raises(BadProof) as caught:
            read_probe(page, nonce, keys)
        return caught.value.reason

    good = probe_page("gw", "n", KEY)
    assert reason(good, "other") == "cached"
    assert reason(good, keys=[Ed25519PrivateKey.generate().public_key()]) == "stranger"
    assert reason(good[:700]) == "truncated"
    assert reason(good + b"x") == "rewritten"
