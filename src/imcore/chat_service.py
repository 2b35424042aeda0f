"""The built-in service: person to person, `{"to": "bob", "text": "…"}` up, `{"from": "alice", "text": "…"}` down.

It is what a business service looks like, small enough to read at once; it knows nothing of gateways and links.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from .bus.ports import Uplink
from .service import Service

__all__ = ["ROUTE", "register"]

ROUTE = "chat"


class Said(msgspec.Struct, forbid_unknown_fields=True):
    """What comes up."""

    to: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    text: str


class Heard(msgspec.Struct, rename={"sender": "from"}):
    """What goes down."""

    sender: str
    text: str


_decode = msgspec.json.Decoder(Said).decode
_encode = msgspec.json.Encoder().encode


def check(message: Uplink) -> str | None:
    """None, or what was expected and what came."""
    try:
        _decode(message.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return f'chat expects a JSON object {{"to": "<user>", "text": "<text>"}}; got {_shown(message.body)}: {error}'
    return None


def register(service: Service) -> None:
    """Handle the route `chat`. Raises `ConfigError` if it has a handler already."""

    @service.on(ROUTE, check=check)
    async def chat(message: Uplink) -> None:
        said = _decode(message.body)
        await service.push(said.to, ROUTE, _encode(Heard(message.user, said.text)), key=message.key)


def _shown(body: bytes) -> str:
    text = body[:40].decode("utf-8", "backslashreplace")
    return repr(text) + ("…" if len(body) > 40 else "")
