"""A media service of a test's own, on a free port of loopback, and a client that says what it is told to."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import socket
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import uvloop

from imcore import Reference
from imcore.gateway.auth import anonymous
from imcore.media.limits import Limits
from imcore.media.media import Media
from imcore.media.store import Store

Result = TypeVar("Result")

TUS = {"Tus-Resumable": "1.0.0"}
BODY = TUS | {"Content-Type": "application/offset+octet-stream"}


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """On uvloop, as a node does."""
    return uvloop.run(work)


def pairs(**values: str | bytes) -> str:
    """`Upload-Metadata`"""
    raw = {key: value.encode() if isinstance(value, str) else value for key, value in values.items()}
    return ",".join(f"{key} {base64.b64encode(value).decode()}" for key, value in raw.items())


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Answer:
    """A response that was read to the end."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def text(self) -> str:
        return self.body.decode()


class Person:
    """Somebody who speaks HTTP with the service."""

    def __init__(self, session: aiohttp.ClientSession, base: str, user: str) -> None:
        self.session = session
        self.base = base
        self.user = user

    async def ask(self, method: str, path: str, body: bytes | None = None, /, **headers: str) -> Answer:
        """One request; `_` in a header's name stands for `-`."""
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.user:
            said.setdefault("Authorization", f"Bearer {self.user}")
        data = None if body is None else io.BytesIO(body)
        async with self.session.request(method, self.base + path, data=data, headers=said, allow_redirects=False) as it:
            return Answer(it.status, it.headers, await it.read())

    async def tus(self, method: str, path: str, body: bytes | None = None, /, **headers: str) -> Answer:
        """With what tus wants of every request."""
        headers.setdefault("Tus_Resumable", "1.0.0")
        if body is not None:
            headers.setdefault("Content_Type", "application/offset+octet-stream")
        return await self.ask(method, path, body, **headers)

    async def begin(self, length: int, **headers: str) -> str:
        """A new upload's path."""
        answer = await self.tus("POST", "/im/media/uploads", Upload_Length=str(length), **headers)
        assert answer.status == 201, answer.text
        return answer.headers["Location"]

    async def append(self, path: str, offset: int, data: bytes, **headers: str) -> Answer:
        return await self.tus("PATCH", path, data, Upload_Offset=str(offset), **headers)

    async def offset(self, path: str) -> int:
        answer = await self.tus("HEAD", path)
        assert answer.status == 200
        return int(answer.headers["Upload-Offset"])

    async def put(self, data: bytes, **metadata: str) -> Reference:
        """Upload it whole."""
        path = await self.begin(len(data), Upload_Metadata=pairs(**metadata))
        answer = await self.append(path, 0, data)
        assert answer.status == 204, answer.text
        return await self.reference(path)

    async def reference(self, path: str) -> Reference:
        return Reference.decode((await self.ask("GET", path)).body)

    async def link(self, reference: Reference) -> str:
        """A signed link's path."""
        answer = await self.ask("POST", f"/im/media/files/{reference.id}/link", Media_Key=reference.key)
        assert answer.status == 200, answer.text
        link: str = json.loads(answer.body)["link"]
        return link

    async def get(self, reference: Reference, **headers: str) -> Answer:
        return await self.ask("GET", await self.link(reference), **headers)


class Service:
    """What a test reaches for."""

    def __init__(self, media: Media, session: aiohttp.ClientSession, port: int, folder: Path) -> None:
        self.media = media
        self.port = port
        self.base = f"http://127.0.0.1:{port}"
        self.folder = folder
        self._session = session

    def person(self, user: str = "alice") -> Person:
        return Person(self._session, self.base, user)


@asynccontextmanager
async def serving(folder: Path, limits: Limits | None = None, store: Store | None = None) -> AsyncIterator[Service]:
    async with Media(folder, anonymous, limits, store=store) as media:
        sock = socket.create_server(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        await media.serve([sock], None)
        async with aiohttp.ClientSession() as session:
            yield Service(media, session, port, folder)
