"""The built-in service: person to person, `{"to": "bob", "text": "…"}` up, `{"from": "alice", "text": "…"}` down. With
`"media": {…}` beside the text it passes on the reference to a file.

It is what a business service looks like, small enough to read at once; it knows nothing of gateways and links.
"""

from __future__ import annotations

from asyncio import Future
from typing import Annotated

import msgspec

from .bus.ports import Uplink
from .reference import Reference
from .service import Service

__all__ = ["ROUTE", "register"]

ROUTE = "chat"
EXPECTED = 'chat expects a JSON object {"to": "<user>", "text": "<text>"}'


class Said(msgspec.Struct, forbid_unknown_fields=True):
    """What comes up."""

    to: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    text: str
    media: Reference | None = None


class Heard(msgspec.Struct, rename={"sender": "from"}, omit_defaults=True):
    """What goes down."""

    sender: str
    text: str
    media: Reference | None = None


_decode = msgspec.json.Decoder(Said).decode
_encode = msgspec.json.Encoder().encode


def register(service: Service) -> None:
    """Handle the route `chat`. Raises `ConfigError` if it has a handler already."""

    def check(message: Uplink) -> str | None:
        try:
            said = _decode(message.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return f"{EXPECTED}; got {_shown(message.body)}: {error}"
        # Only what is near the limit is worth the look: what goes down is longer than what came up by the name at most.
        if len(message.body) + len(message.user) * 6 + 16 > service.max_frame:
            size = len(_encode(Heard(message.user, said.text, said.media))) + len(ROUTE)
            if size > service.max_frame:
                return f"{EXPECTED} of at most {service.max_frame} bytes on the way down; got {size}"
        return None

    @service.on(ROUTE, check=check)
    def chat(message: Uplink) -> Future[int]:
        said = _decode(message.body)
        return service.push(said.to, ROUTE, _encode(Heard(message.user, said.text, said.media)), key=message.key)


def _shown(body: bytes) -> str:
    text = body[:40].decode("utf-8", "backslashreplace")
    return repr(text) + ("…" if len(body) > 40 else "")
