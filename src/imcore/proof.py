"""The pages by which a node proves who it is, and that much comes through from it: one side makes, one reads them.

The probe is small and of one size, so that times can be compared and what was cut or added shows (wire: `/im/probe`).
The fill is long, since some networks let a connection begin and freeze it after some kilobytes; both ends can make its
bytes from the nonce, so it need not be stored, and nothing on the way can shrink it. Nothing here connects.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from .errors import BadProof

__all__ = [
    "FILL_MOST",
    "FILL_PATH",
    "NONCE",
    "PROBE_PATH",
    "PROBE_SIZE",
    "STILL_PATH",
    "Proof",
    "fill_page",
    "probe_page",
    "read_fill",
    "read_probe",
    "still_page",
]

PROBE_PATH = "/im/probe"
PROBE_SIZE = 1024
"""Bytes of the probe."""
FILL_PATH = "/im/fill"
FILL_MOST = 64 * 1024
"""Bytes of the fill; a probe's size at least."""
STILL_PATH = "/im/still"
"""Where a gateway is asked to say nothing for a while, and then a word: whether that still comes through."""
NONCE = re.compile(r"[A-Za-z0-9_-]{1,64}")

_PROBE = re.compile(rb"(imcore probe 1\nnode: ([^\n]*)\nnonce: ([^\n]*)\n)signature: ([^\n]*)\n( *)\n")
_FILL = re.compile(rb"(imcore fill 1\nnode: ([^\n]*)\nnonce: ([^\n]*)\nsize: ([^\n]*)\n)signature: ([^\n]*)\n")


class Proof(msgspec.Struct, frozen=True):
    """Who has proven what."""

    node: str
    """Its name."""
    signed: bool
    """By a key that we were built with; False = we have none, and take its word."""


def probe_page(node: str, nonce: str, key: Ed25519PrivateKey) -> bytes:
    """Three lines, a fourth with the signature over those three in base64, and spaces up to its size."""
    return _signed(f"imcore probe 1\nnode: {node}\nnonce: {nonce}\n", key).ljust(PROBE_SIZE - 1) + b"\n"


def fill_page(node: str, nonce: str, size: int, key: Ed25519PrivateKey) -> bytes:
    """Four lines, a fifth with the signature over them in base64, and SHAKE-128 of the nonce up to `size` bytes."""
    front = _signed(f"imcore fill 1\nnode: {node}\nnonce: {nonce}\nsize: {size}\n", key)
    return front + _fill(nonce, size - len(front))


def still_page(nonce: str) -> bytes:
    """Two lines that show whose answer it is. There is nothing to prove: nobody is told anything on this connection."""
    return b"imcore still 1\nnonce: %b\n" % nonce.encode()


def read_probe(page: bytes, nonce: str, keys: Iterable[Ed25519PublicKey]) -> Proof:
    """Who has answered. No keys: any well-formed answer to this nonce will do. Raises `BadProof`."""
    found = _PROBE.fullmatch(page)
    if found is None:
        if page.startswith(b"imcore probe 1\n"):
            if len(page) < PROBE_SIZE:
                raise BadProof("truncated", f"{len(page)} of {PROBE_SIZE} bytes came")
            raise BadProof("rewritten", f"expected {PROBE_SIZE} bytes, got {len(page)}, and others")
        raise BadProof("stranger", f"expected a gateway's proof, got {page[:40]!r}")
    proof = _checked(found[1], found[2], found[3], found[4], nonce, keys)
    if len(page) != PROBE_SIZE:
        raise BadProof("rewritten", f"expected {PROBE_SIZE} bytes, got {len(page)}")
    return proof


def read_fill(page: bytes, nonce: str, size: int, keys: Iterable[Ed25519PublicKey]) -> Proof:
    """The same of a fill of `size` bytes. Raises `BadProof`."""
    found = _FILL.match(page)
    if found is None:
        raise BadProof("stranger", f"expected a gateway's fill, got {page[:40]!r}")
    proof = _checked(found[1], found[2], found[3], found[5], nonce, keys)
    if len(page) < size:
        raise BadProof("truncated", f"{len(page)} of {size} bytes came")
    if found[4] != b"%d" % size or page[found.end() :] != _fill(nonce, size - found.end()):
        raise BadProof("rewritten", "the bytes are not those that were sent")
    return proof


def _signed(said: str, key: Ed25519PrivateKey) -> bytes:
    return said.encode() + b"signature: " + base64.b64encode(key.sign(said.encode())) + b"\n"


def _fill(nonce: str, size: int) -> bytes:
    return hashlib.shake_128(nonce.encode()).digest(size)


def _checked(
    said: bytes, node: bytes, echo: bytes, signature: bytes, nonce: str, keys: Iterable[Ed25519PublicKey]
) -> Proof:
    keys = list(keys)
    signed = any(_verifies(key, signature, said) for key in keys)
    if keys and not signed:
        raise BadProof("stranger", "it is signed by no key of ours")
    if echo != nonce.encode():
        raise BadProof("cached", "it answers somebody else's question")
    return Proof(node.decode("utf-8", "replace"), signed)


def _verifies(key: Ed25519PublicKey, signature: bytes, said: bytes) -> bool:
    try:
        key.verify(base64.b64decode(signature, validate=True), said)
    except (InvalidSignature, binascii.Error):
        return False
    return True
