"""A person's files in a chat: sent and fetched with a progress bar, numbered as they come, never written over."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from ..client import Client
from ..errors import ImcoreError
from ..reference import Reference
from .terminal import note

__all__ = ["Files"]


class Files:
    """folder: where they are saved. state: beside this file the transfers under way are remembered."""

    def __init__(self, im: Client, folder: Path, state: Path) -> None:
        self._im = im
        self._folder = folder
        self._state = state
        self._known: list[Reference] = []
        self._saving: set[Path] = set()
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
            auto_refresh=True,
        )
        self._running = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def came(self, reference: Reference) -> str:
        """One more; returns what the person is told."""
        self._known.append(reference)
        name = reference.name or "a file"
        number = len(self._known)
        return f"[{name}, {decimal(reference.size)}, {reference.type}] /get {number} fetches it"

    async def send(self, text: str) -> Reference | None:
        """Upload the file of this path; None if that did not work, and the person was told why."""
        path, state = self._places(text)
        try:
            with self._bar(path.name) as progress:
                return await self._im.upload(path, progress=progress, state=state)
        except ImcoreError as error:
            note(f"not sent: {text}: {error}")
            return None

    def _places(self, text: str) -> tuple[Path, Path]:
        """The file that is meant, and where it is remembered that it is under way."""
        path = Path(os.path.abspath(os.path.expanduser(text)))
        mark = hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
        return path, self._state.with_name(f"{self._state.stem}-{mark}.upload")

    async def get(self, number: int) -> None:
        """Fetch one that came."""
        if not 0 < number <= len(self._known):
            note(f"/get: expected a number from 1 to {len(self._known)}" if self._known else "/get: no file came yet")
            return
        reference = self._known[number - 1]
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            note(f"not fetched: {self._folder}: expected a folder, or a place for one: {error.strerror}")
            return
        path = self._free(reference.name or f"file-{reference.id[:8]}")
        self._saving.add(path)
        try:
            with self._bar(path.name) as progress:
                await self._im.download(reference, path, progress=progress)
        except ImcoreError as error:
            note(f"not fetched: {error}")
        else:
            note(f"saved as {path}")
        finally:
            self._saving.discard(path)

    def _free(self, name: str) -> Path:
        """A name in our folder, and of no file that is there. The sender's word is taken for no more than that."""
        name = "".join(char for char in name if char.isprintable() and char not in "/\\").lstrip(".") or "file"
        stem, dot, suffix = name[:200].rpartition(".")
        if not stem:
            stem, dot, suffix = name[:200], "", ""
        path, count = self._folder / f"{stem}{dot}{suffix}", 0
        while path.exists() or path in self._saving:
            count += 1
            path = self._folder / f"{stem} ({count}){dot}{suffix}"
        return path

    @contextmanager
    def _bar(self, name: str) -> Iterator[Callable[[int, int], None]]:
        if not self._running:
            self._bars.start()
        self._running += 1
        bar = self._bars.add_task(escape(name), total=None)
        try:
            yield lambda over, size: self._bars.update(bar, completed=over, total=size)
        finally:
            self._bars.remove_task(bar)
            self._running -= 1
            if not self._running:
                self._bars.stop()
