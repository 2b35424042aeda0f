"""What every node answers to other HTTP: who it is, proven (wire: `/im/probe`), and what it is."""

from __future__ import annotations

import re

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ..proof import FILL_MOST, FILL_PATH, NONCE, PROBE_PATH, PROBE_SIZE, fill_page, probe_page

__all__ = ["add_routes"]

_FRESH = {"Cache-Control": "no-store, no-transform"}
_DIGITS = re.compile(r"[0-9]{1,6}")
_SIZES = f"{PROBE_SIZE} to {FILL_MOST} bytes"
_FRONT = """\
This is a gateway of instant messaging (imcore), and this port is for programs: it takes raw frames, and the same frames
in HTTP (POST /im). GET /im/probe?n=NONCE answers with a signature over the nonce, /im/fill?n=NONCE&size=BYTES with many
bytes behind it.
"""


def add_routes(application: web.Application, node: str, key: Ed25519PrivateKey) -> None:
    """Behind those that the application has: a front page of its own stays."""

    async def probe(request: web.Request) -> web.Response:
        return page(probe_page(node, asked(request, "n", NONCE, "1 to 64 letters, digits, - or _"), key))

    async def fill(request: web.Request) -> web.Response:
        nonce = asked(request, "n", NONCE, "1 to 64 letters, digits, - or _")
        size = int(asked(request, "size", _DIGITS, _SIZES))
        if not PROBE_SIZE <= size <= FILL_MOST:
            raise web.HTTPBadRequest(text=f"size: expected {_SIZES}\n", headers=_FRESH)
        return page(fill_page(node, nonce, size, key))

    def asked(request: web.Request, name: str, form: re.Pattern[str], expected: str) -> str:
        values = request.query.getall(name, [])
        if len(values) != 1 or not form.fullmatch(values[0]):
            raise web.HTTPBadRequest(text=f"{name}: expected {expected}, once\n", headers=_FRESH)
        return str(values[0])

    def page(body: bytes) -> web.Response:
        return web.Response(body=body, content_type="text/plain", headers=_FRESH)

    async def front(_: web.Request) -> web.Response:
        return web.Response(text=_FRONT)

    application.router.add_get(PROBE_PATH, probe, allow_head=False)
    application.router.add_get(FILL_PATH, fill, allow_head=False)
    if not any(resource.canonical == "/" for resource in application.router.resources()):
        application.router.add_get("/", front)
