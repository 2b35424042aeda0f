"""The HTTP of the media service: tus 1.0 up, signed links and ranges down. What a file or an upload is, others know.

Whatever is wrong with a request is a 4xx with a sentence; nothing of a request ever names a file of the disk.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import TYPE_CHECKING
from urllib.parse import quote

from aiohttp import web

from ..errors import EngineError, Unauthorized
from . import tus
from .mover import Move
from .pace import Pace
from .ranges import none_match, ranges, still
from .refusal import Refusal, quoted
from .store import Damaged, Entry
from .uploads import Upload

if TYPE_CHECKING:
    from .media import Media

__all__ = ["BASE", "Server"]

_log = logging.getLogger(__name__)

BASE = "/im/media"
UPLOADS = f"{BASE}/uploads/"
CONTENT_TYPE = "application/offset+octet-stream"

_ID = re.compile(r"[0-9a-f]{32}")
_SHOWN = re.compile(r"(?:image/(?!svg)|video/|audio/).*")
"""Types that a browser shows without running anything in them."""
_OVERRIDES = ("PATCH", "DELETE", "HEAD")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """The routes of one media service."""

    def __init__(self, media: Media) -> None:
        self._media = media
        self._paces: dict[str, Pace] = {}

    def add_routes(self, application: web.Application) -> None:
        """To an application that has not started."""
        route = application.router.add_route
        route("*", f"{BASE}/uploads", self._answering(self._creation))
        route("*", f"{BASE}/uploads/{{id}}", self._answering(self._upload))
        route("*", f"{BASE}/files/{{id}}", self._answering(self._file))
        route("*", f"{BASE}/files/{{id}}/link", self._answering(self._link))

    def _answering(self, handler: Handler) -> Handler:
        """Refusals become responses; each says that it speaks tus."""

        async def answer(request: web.Request) -> web.StreamResponse:
            try:
                response = await handler(request)
            except Refusal as error:
                response = web.Response(status=error.status, text=f"{error.text}\n", headers=error.headers)
            except (Damaged, EngineError) as error:
                _log.error("%s %s: %s", request.method, request.path, error)
                response = web.Response(status=503, text="this can't be read or kept now: look at the server's log\n")
            except ConnectionError as error:
                _log.info("%s %s: %s", request.method, request.path, error)
                response = web.Response(status=400, text="the connection broke\n")  # most likely nobody hears it
            except OSError as error:
                _log.exception("%s %s: %s", request.method, request.path, error)
                response = web.Response(status=503, text="the disk fails: try later\n")
            if not response.prepared:
                response.headers["Tus-Resumable"] = tus.VERSION
                response.headers.setdefault("Cache-Control", "no-store")
                if request.can_read_body and not request.content.is_eof():
                    response.force_close()
                elif request.content_length is not None and request.content.total_bytes < request.content_length:
                    response.force_close()  # the rest went another way, and aiohttp's reader does not know
                    await response.prepare(request)
                    await response.write_eof()
                    await self._media.bodies.linger(request)
            return response

        return answer

    # Uploads: https://tus.io/protocols/resumable-upload

    async def _creation(self, request: web.Request) -> web.StreamResponse:
        method = _method(request)
        if method == "OPTIONS":
            return self._options()
        if method != "POST":
            raise Refusal(405, f"expected POST or OPTIONS, got {method}", {"Allow": "OPTIONS, POST"})
        tus.version(request.headers.get("Tus-Resumable"))
        user = await self._user(request)
        concat = tus.concat(_one(request, "Upload-Concat"), UPLOADS)
        metadata = _one(request, "Upload-Metadata") or ""
        tus.described(tus.metadata(metadata))
        if concat is not None and concat.final:
            if "Upload-Length" in request.headers:
                raise Refusal(400, "Upload-Length: expected none for a final upload")
            async with self._turn(user):
                upload = await self._media.uploads.concat(user, concat.parts, metadata)
            return web.Response(status=201, headers={"Location": UPLOADS + upload.id} | _state(upload))
        if "Upload-Defer-Length" in request.headers:
            raise Refusal(400, "Upload-Defer-Length: this server does not do that; expected Upload-Length")
        length = tus.number(_one(request, "Upload-Length"), "Upload-Length")
        brings = request.can_read_body
        if brings:
            _check_type(request)
            self._check_fits(request, length)
        checksum = tus.checksum(_one(request, "Upload-Checksum")) if brings else None
        upload = await self._media.uploads.create(user, length, metadata, partial=concat is not None)
        if brings:
            try:
                async with self._turn(user) as pace:
                    await self._take(request, upload, 0, checksum, pace)
            except Refusal as error:  # the upload is there all the same: its address is worth more than this answer
                if error.status in (tus.CHECKSUM_MISMATCH, 413):
                    raise
        await self._media.uploads.finish(upload)
        return web.Response(status=201, headers={"Location": UPLOADS + upload.id} | _state(upload))

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        method = _method(request)
        if method == "OPTIONS":
            return self._options()
        if method not in ("HEAD", "PATCH", "DELETE", "GET"):
            raise Refusal(
                405, f"expected HEAD, PATCH, DELETE or GET, got {method}", {"Allow": "HEAD, PATCH, DELETE, GET"}
            )
        if method != "GET":
            tus.version(request.headers.get("Tus-Resumable"))
        user = await self._user(request)
        upload = self._media.uploads.find(_id(request), user)
        if method == "HEAD":
            await self._media.uploads.offset(upload)
            await self._media.uploads.finish(upload)
            return web.Response(headers=_state(upload))
        if method == "DELETE":
            await self._media.uploads.delete(upload)
            return web.Response(status=204)
        if method == "GET":
            return await self._reference(upload)
        _check_type(request)
        offset = tus.number(_one(request, "Upload-Offset"), "Upload-Offset")
        checksum = tus.checksum(_one(request, "Upload-Checksum"))
        self._check_fits(request, upload.row.length - offset)
        async with self._turn(user) as pace:
            await self._take(request, upload, offset, checksum, pace)
        await self._media.uploads.finish(upload)
        return web.Response(status=204, headers=_state(upload))

    async def _take(
        self, request: web.Request, upload: Upload, offset: int, checksum: tus.Checksum | None, pace: Pace
    ) -> None:
        move = Move(pace, self._media.limits.idle_s)
        most = upload.row.length - offset
        await self._media.uploads.append(
            upload, offset, checksum, move, lambda part: self._media.bodies.receive(request, part, most, move)
        )

    def _check_fits(self, request: web.Request, most: int) -> None:
        if most < 0:
            raise Refusal(409, "Upload-Offset: expected no more than the upload's length")
        if request.content_length is not None and request.content_length > most:
            raise Refusal(413, f"expected at most {most} bytes, got {request.content_length}")

    async def _reference(self, upload: Upload) -> web.StreamResponse:
        entry = await self._media.store.entry(upload.row.became) if upload.done else None
        if entry is None or upload.row.partial:
            raise Refusal(409, f"it is not a file yet: {upload.offset} of {upload.row.length} bytes came")
        return web.Response(body=self._media.reference(upload.id, entry).encode(), content_type="application/json")

    def _options(self) -> web.StreamResponse:
        return web.Response(
            status=204,
            headers={
                "Tus-Version": tus.VERSION,
                "Tus-Extension": ",".join(tus.EXTENSIONS),
                "Tus-Max-Size": str(self._media.limits.max_size),
                "Tus-Checksum-Algorithm": ",".join(tus.ALGORITHMS),
            },
        )

    # Files

    async def _link(self, request: web.Request) -> web.StreamResponse:
        if _method(request) != "POST":
            raise Refusal(405, f"expected POST, got {request.method}", {"Allow": "POST"})
        id = _id(request)
        await self._user(request)
        key = _one(request, "Media-Key") or ""
        if not self._media.keys.shared(id, key) or await self._media.store.entry(id) is None:
            raise Refusal(404, "there is no such file, or it was not shared with you")
        until = int(time.time()) + self._media.limits.link_s
        link = f"{BASE}/files/{id}?{self._media.keys.query(id, until)}"
        return web.Response(body=json.dumps({"link": link, "until": until}).encode(), content_type="application/json")

    async def _file(self, request: web.Request) -> web.StreamResponse:
        method = _method(request)
        id = _id(request)
        if method == "DELETE":
            await self._media.delete(id, await self._user(request))
            return web.Response(status=204)
        if method not in ("GET", "HEAD"):
            raise Refusal(405, f"expected GET, HEAD or DELETE, got {method}", {"Allow": "GET, HEAD, DELETE"})
        query = request.query
        self._media.keys.check(id, query.get("until"), query.get("sign"), time.time())
        entry = await self._media.store.entry(id)
        if entry is None:
            raise Refusal(404, "there is no such file any more")
        return await self._send(request, id, entry)

    async def _send(self, request: web.Request, id: str, entry: Entry) -> web.StreamResponse:
        etag = f'"{entry.sha256}"'
        headers = {
            "ETag": etag,
            "Last-Modified": formatdate(entry.created, usegmt=True),
            "Accept-Ranges": "bytes",
            "Cache-Control": "private, max-age=31536000, immutable, no-transform",
        }
        if none_match(request.headers.get("If-None-Match"), etag):
            return web.Response(status=304, headers=headers)
        wanted = None
        if request.method == "GET" and still(request.headers.get("If-Range"), etag, entry.created):
            try:
                wanted = ranges(request.headers.get("Range"), entry.size)
            except Refusal as error:
                error.headers.update(headers)
                raise
        headers |= {
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "sandbox; default-src 'none'; media-src 'self'; style-src 'unsafe-inline'",
            "Content-Disposition": _disposition(entry),
        }
        source = await self._media.store.open(id, entry)
        try:
            response = web.StreamResponse(status=200 if wanted is None else 206, headers=headers)
            pieces = _pieces(response, entry, wanted)
            move = Move(Pace(0), self._media.limits.idle_s)
            await response.prepare(request)
            if request.method == "GET":
                try:
                    for text, start, stop in pieces:
                        if text:
                            await response.write(text)
                        if start < stop:
                            await self._media.bodies.send(request, response, source, start, stop, move)
                except (Refusal, Damaged, OSError, TimeoutError) as error:  # too late for another status
                    _log.info("GET %s ended early: %s", request.path, error)
                    if request.transport is not None:
                        request.transport.abort()
                    return response
            await response.write_eof()
            return response
        finally:
            source.close()

    # Who, and how much.

    async def _user(self, request: web.Request) -> str:
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token.strip():
            raise Refusal(401, "expected Authorization: Bearer and a token", {"WWW-Authenticate": "Bearer"})
        try:
            return await self._media.user(token.strip())
        except Unauthorized as error:
            raise Refusal(401, str(error), {"WWW-Authenticate": 'Bearer error="invalid_token"'}) from None

    @asynccontextmanager
    async def _turn(self, user: str) -> AsyncIterator[Pace]:
        """One of the user's transfers: not too many at once, all within one rate."""
        pace = self._paces.setdefault(user, Pace(self._media.limits.rate))
        if pace.users >= self._media.limits.parallel:
            raise Refusal(429, f"expected at most {self._media.limits.parallel} uploads at once", {"Retry-After": "5"})
        pace.users += 1
        try:
            yield pace
        finally:
            pace.users -= 1
            if not pace.users:
                del self._paces[user]


def _method(request: web.Request) -> str:
    """The method, or the one that a client behind a proxy that knows few methods means."""
    asked = request.headers.get("X-HTTP-Method-Override", "").upper()
    return asked if request.method == "POST" and asked in _OVERRIDES else request.method


def _one(request: web.Request, name: str) -> str | None:
    values = request.headers.getall(name, [])
    if len(values) > 1:
        raise Refusal(400, f"{name}: expected it once")
    return values[0] if values else None


def _id(request: web.Request) -> str:
    id = request.match_info["id"]
    if not _ID.fullmatch(id):
        raise Refusal(404, "expected an id of 32 hexadecimal digits")
    return id


def _check_type(request: web.Request) -> None:
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind != CONTENT_TYPE:
        raise Refusal(415, f"Content-Type: expected {CONTENT_TYPE}, got {quoted(kind)}")


def _state(upload: Upload) -> dict[str, str]:
    """Of an upload, in the headers of tus."""
    row = upload.row
    said = {
        "Upload-Offset": str(upload.offset),
        "Upload-Length": str(row.length),
        "Upload-Expires": formatdate(row.expires, usegmt=True),
    }
    if row.metadata:
        said["Upload-Metadata"] = row.metadata
    if row.partial:
        said["Upload-Concat"] = "partial"
    return said


def _disposition(entry: Entry) -> str:
    kind = "inline" if _SHOWN.fullmatch(entry.type) else "attachment"
    return f"{kind}; filename*=UTF-8''{quote(entry.name, safe='')}" if entry.name else kind


def _pieces(
    response: web.StreamResponse, entry: Entry, wanted: list[tuple[int, int]] | None
) -> list[tuple[bytes, int, int]]:
    """What the body is made of: text, then bytes of the file, each time. Sets the headers that say so."""
    if wanted is None or len(wanted) == 1:
        start, stop = (0, entry.size) if wanted is None else wanted[0]
        if wanted is not None:
            response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{entry.size}"
        response.headers["Content-Type"] = entry.type
        response.content_length = stop - start
        return [(b"", start, stop)]
    edge = f"imcore-{entry.sha256[:24]}"  # RFC 9110, 14.6; the hash of the content can't well be a part of it
    pieces = [
        (
            f"\r\n--{edge}\r\nContent-Type: {entry.type}\r\n"
            f"Content-Range: bytes {start}-{stop - 1}/{entry.size}\r\n\r\n".encode(),
            start,
            stop,
        )
        for start, stop in wanted
    ]
    pieces.append((f"\r\n--{edge}--\r\n".encode(), 0, 0))
    response.headers["Content-Type"] = f"multipart/byteranges; boundary={edge}"
    response.content_length = sum(len(text) + stop - start for text, start, stop in pieces)
    return pieces
