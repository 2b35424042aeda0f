"""A store of objects that speaks S3's interface, by obstore. Uploads under way are in the folder, and go there whole.

Two objects for each file, as the folder has two files: its bytes, and its entry, which is written last. The entry holds
the bytes' ETag: what was written over or cut short since is never served.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from ..errors import ConfigError
from .store import Damaged, Entry, Source, Store

__all__ = ["objects"]

PIECE = 256 * 1024


class _Kept(Entry, frozen=True):
    """An entry, and what the store calls the bytes that it is about."""

    etag: str = ""


def objects(bucket: str, *, prefix: str, endpoint: str, region: str, access_key: str, secret_key: str) -> Store:
    """The store in a bucket. endpoint: "" = AWS's. Without keys the environment's are used. Raises `ConfigError`."""
    try:
        import obstore
        from obstore.store import S3Store
    except ImportError:
        raise ConfigError('media.store: "s3" needs the package obstore: pip install "imcore[s3]"') from None
    said: dict[str, Any] = {"region": region, "checksum_algorithm": "SHA256"}
    if endpoint:
        said |= {"endpoint": endpoint, "virtual_hosted_style_request": False}
    if access_key:
        said |= {"access_key_id": access_key, "secret_access_key": secret_key}
    try:
        store = S3Store(
            bucket, prefix=prefix or None, client_options={"allow_http": endpoint.startswith("http:")}, **said
        )
    except (obstore.exceptions.BaseError, ValueError) as error:
        raise ConfigError(f"media.s3: {error}") from None
    return Objects(obstore, store)


class Objects:
    """obstore: the package, which is there only where it was asked for. store: one of its stores."""

    def __init__(self, obstore: Any, store: Any) -> None:
        self._obstore = obstore
        self._store = store
        self._error = obstore.exceptions.BaseError

    async def put(self, id: str, path: Path, entry: Entry) -> None:
        try:
            said = await self._obstore.put_async(self._store, id, path)
            found = await self._obstore.head_async(self._store, id)
            if found["size"] != entry.size:
                raise OSError(f"{id}: {entry.size} bytes were stored, and {found['size']} are there")
            kept = _Kept(**msgspec.structs.asdict(entry), etag=said["e_tag"] or found["e_tag"] or "")
            await self._obstore.put_async(self._store, f"{id}.json", msgspec.json.encode(kept))
        except self._error as error:
            raise OSError(f"the store of objects: {error}") from None

    async def entry(self, id: str) -> Entry | None:
        try:
            found = await self._obstore.get_async(self._store, f"{id}.json")
            return msgspec.json.decode(bytes(await found.bytes_async()), type=_Kept)
        except FileNotFoundError:
            return None
        except self._error as error:
            raise OSError(f"the store of objects: {error}") from None
        except msgspec.DecodeError as error:
            raise Damaged(f"the entry of {id}: {error}") from None

    async def open(self, id: str, entry: Entry) -> Source:
        try:
            found = await self._obstore.head_async(self._store, id)
        except FileNotFoundError:
            raise Damaged(f"{id}: the entry is there, and its bytes are not") from None
        except self._error as error:
            raise OSError(f"the store of objects: {error}") from None
        etag = entry.etag if isinstance(entry, _Kept) else ""
        if found["size"] != entry.size or (etag and found["e_tag"] != etag):
            raise Damaged(f"{id}: the bytes are not those that were stored")
        return _Object(self, id, etag)

    async def delete(self, id: str) -> None:
        for name in (f"{id}.json", id):
            try:
                await self._obstore.delete_async(self._store, name)
            except FileNotFoundError:
                pass
            except self._error as error:
                raise OSError(f"the store of objects: {error}") from None

    async def pieces(self, id: str, etag: str, start: int, stop: int) -> AsyncIterator[bytes]:
        """Bytes of the object that has this ETag still."""
        options: dict[str, Any] = {"range": (start, stop)}
        if etag:
            options["if_match"] = etag
        try:
            found = await self._obstore.get_async(self._store, id, options=options)
            async for data in found.stream(min_chunk_size=PIECE):
                yield bytes(data)
        except self._error as error:
            raise OSError(f"the store of objects: {error}") from None


class _Object:
    """One that is read."""

    fd: int | None = None

    def __init__(self, objects: Objects, id: str, etag: str) -> None:
        self._objects = objects
        self._id = id
        self._etag = etag

    async def read(self, start: int, stop: int) -> AsyncIterator[bytes]:
        left = stop - start
        async for data in self._objects.pieces(self._id, self._etag, start, stop):
            left -= len(data)
            yield data
        if left:
            raise Damaged(f"{self._id}: {left} bytes are missing")

    def close(self) -> None:
        """Nothing is held."""
