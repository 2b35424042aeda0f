"""What every node answers to other HTTP: who it is, proven (wire: `/im/probe`), and what it is."""

from __future__ import annotations

import base64
import re

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["PROBE_PATH", "PROBE_SIZE", "add_routes", "probe_page"]

PROBE_PATH = "/im/probe"
PROBE_SIZE = 1024
"""Bytes of the page: always the same, so that times can be compared and what was cut or added to shows."""

_NONCE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FRESH = {"Cache-Control": "no-store, no-transform"}
_FRONT = """\
This is a gateway of instant messaging (imcore), and this port is for programs: it takes raw frames, and the same frames
in HTTP (POST /im). GET /im/probe?n=NONCE answers with a signature over the nonce.
"""


def probe_page(node: str, nonce: str, key: Ed25519PrivateKey) -> bytes:
    """The page: three lines, a fourth with the signature over those three in base64, and spaces up to its size."""
    said = f"imcore probe 1\nnode: {node}\nnonce: {nonce}\n".encode()
    signature = base64.b64encode(key.sign(said))
    return (said + b"signature: " + signature + b"\n").ljust(PROBE_SIZE - 1) + b"\n"


def add_routes(application: web.Application, node: str, key: Ed25519PrivateKey) -> None:
    """Behind those that the application has: a front page of its own stays."""

    async def probe(request: web.Request) -> web.Response:
        nonces = request.query.getall("n", [])
        if len(nonces) != 1 or not _NONCE.fullmatch(nonces[0]):
            raise web.HTTPBadRequest(text="n: expected 1 to 64 letters, digits, - or _, once\n", headers=_FRESH)
        return web.Response(body=probe_page(node, nonces[0], key), content_type="text/plain", headers=_FRESH)

    async def front(_: web.Request) -> web.Response:
        return web.Response(text=_FRONT)

    application.router.add_get(PROBE_PATH, probe, allow_head=False)
    if not any(resource.canonical == "/" for resource in application.router.resources()):
        application.router.add_get("/", front)
