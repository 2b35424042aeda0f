"""The database of the embedded engine: its folder, lock and schema, and the two threads that run SQL.

The writer runs one transaction at a time, the reader has a read-only connection of its own. Both take what the loop
gathered in one piece and hand the results back in one piece, because each step of SQLite gives up the interpreter's
lock and has to win it back from a busy loop. Nothing here knows what a message or a user is.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from ...errors import EngineError

__all__ = ["Reader", "Statement", "Store", "Writer", "add", "chunks", "explain", "in_list", "in_use", "insert"]

VERSION = 2
"""`PRAGMA user_version` of the schema below."""

SCHEMA = """
BEGIN;
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE journal (batch INTEGER PRIMARY KEY, records BLOB NOT NULL);
CREATE TABLE uplink (entry INTEGER PRIMARY KEY, message BLOB NOT NULL);
CREATE TABLE dead (
    number INTEGER PRIMARY KEY AUTOINCREMENT, message BLOB NOT NULL, error TEXT NOT NULL, buried_ms INTEGER NOT NULL
);
CREATE TABLE user (
    name TEXT PRIMARY KEY, head INTEGER NOT NULL, first INTEGER NOT NULL, stored_size INTEGER NOT NULL,
    keys BLOB NOT NULL, expired INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE device (
    user TEXT NOT NULL, name TEXT NOT NULL, accepted INTEGER NOT NULL, taken INTEGER NOT NULL, seen_ms INTEGER NOT NULL,
    PRIMARY KEY (user, name)
) WITHOUT ROWID;
CREATE TABLE inbox (
    user TEXT NOT NULL, seq INTEGER NOT NULL, route TEXT NOT NULL, body BLOB NOT NULL, time_ms INTEGER NOT NULL,
    PRIMARY KEY (user, seq)
) WITHOUT ROWID;
CREATE INDEX inbox_age ON inbox (time_ms);
CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE request (number INTEGER PRIMARY KEY, action TEXT NOT NULL);
INSERT INTO meta VALUES ('epoch', lower(hex(randomblob(8)))), ('entry', 1), ('batch', 0);
PRAGMA user_version = 2;
COMMIT;
"""

FROM_1 = """
BEGIN;
ALTER TABLE user ADD COLUMN expired INTEGER NOT NULL DEFAULT 0;
ALTER TABLE dead RENAME TO dead_1;
CREATE TABLE dead (
    number INTEGER PRIMARY KEY AUTOINCREMENT, message BLOB NOT NULL, error TEXT NOT NULL, buried_ms INTEGER NOT NULL
);
INSERT INTO dead SELECT * FROM dead_1;
DROP TABLE dead_1;
CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE request (number INTEGER PRIMARY KEY, action TEXT NOT NULL);
INSERT INTO meta VALUES ('batch', 0);
PRAGMA user_version = 2;
COMMIT;
"""

Statement = tuple[str, Sequence[Any]]
"""SQL and its parameters."""

SIZES = (256, 32, 4, 1)
"""Rows a statement: few sizes, so that the statement cache hits; 256 rows of 5 stay far below 32,766 variables."""

Result = TypeVar("Result")


def chunks(count: int) -> Iterator[tuple[int, int]]:
    """Cut `count` rows into pieces of the sizes that have prepared statements: (start, size)."""
    start = 0
    for size in SIZES:
        while count - start >= size:
            yield start, size
            start += size


def insert(head: str, width: int, values: list[Any]) -> Iterator[Statement]:
    """`INSERT … INTO t (…)` for rows of `width` values that lie flat in `values`."""
    row = "(" + ",".join("?" * width) + ")"
    for start, size in chunks(len(values) // width):
        yield f"{head} VALUES {','.join([row] * size)}", values[start * width : (start + size) * width]


def in_list(head: str, values: Sequence[Any]) -> Iterator[Statement]:
    """`… WHERE x` followed by ` IN (…)` over any number of values."""
    for start, size in chunks(len(values)):
        yield f"{head} IN ({','.join('?' * size)})", values[start : start + size]


def add(name: str, value: int) -> Statement:
    """Raise a counter."""
    return (
        "INSERT INTO counter VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
        (name, value),
    )


class Store:
    """The folder and the file. Blocking: `open` runs in a thread of its own."""

    def __init__(self, folder: str | os.PathLike[str], node: str) -> None:
        self.folder = Path(folder)
        self.file = self.folder / "imcore.db"
        self._node = node
        self._lock: int | None = None
        self.epoch = ""

    def open(self) -> sqlite3.Connection:
        """Lock the folder and open or make the database; returns the writer's connection. Raises `EngineError`."""
        self._take_lock()
        try:
            return self._open()
        except sqlite3.Error as error:
            self.release()
            raise self.unreadable(error) from error
        except BaseException:
            self.release()
            raise

    def reader(self) -> sqlite3.Connection:
        """A second connection that can't write."""
        connection = self._connect()
        connection.execute("PRAGMA query_only = 1")
        return connection

    def mark(self, batch: int) -> None:
        """Write beside the database how far it has come, so that an older copy of it is recognised. What is lost of the
        mark in a crash does no harm: it only may not be newer than the database."""
        with suppress(OSError):  # a full disk: an older mark recognises less
            fresh = self.folder / "mark.new"
            fresh.write_text(f"{self.epoch} {batch}\n", encoding="ascii")
            fresh.replace(self.folder / "mark")

    def set_back(self, connection: sqlite3.Connection, batch: int) -> bool:
        """Whether somebody put an older copy of the database here, whose newest batch is `batch`. Then what was handed
        out since is lost: the epoch changes, so that no client takes new messages for the ones that it has."""
        try:
            epoch, marked = (self.folder / "mark").read_text(encoding="ascii").split()
            newest = int(marked)
        except (OSError, ValueError):
            epoch, newest = self.epoch, batch + 1  # somebody took the mark away: a copy without it is a copy
        if batch == 0 or epoch != self.epoch or newest <= batch:
            return False
        self.epoch = os.urandom(8).hex()
        connection.execute("UPDATE meta SET value = ? WHERE name = 'epoch'", (self.epoch,))
        return True

    def unreadable(self, error: sqlite3.Error) -> EngineError:
        """The error that says what is wrong with the file and what to do."""
        return EngineError(f"{self.file}: {explain(error)}")

    def release(self) -> None:
        """Let another process have the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take_lock(self) -> None:
        path = self.folder / "lock"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise EngineError(
                f"{self.folder}: expected a folder that this process may write to: {error.strerror}; "
                "name another one as data, or change its owner"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(lock, 256).decode("utf-8", "replace").strip()
            os.close(lock)
            raise EngineError(
                f"{self.folder}: already in use by {holder or 'another process'}; one process owns the folder of the "
                "embedded engine: stop that one, or name another folder as data"
            ) from error
        self._lock = lock
        try:
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"node {self._node}, process {os.getpid()}\n".encode(), 0)
        except OSError as error:
            self.release()
            raise EngineError(f"{path}: {error.strerror}; nothing can be stored here") from error

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.file, isolation_level=None, check_same_thread=False, cached_statements=256)

    def _open(self) -> sqlite3.Connection:
        connection = self._connect()
        try:
            # Pages of 16 KiB: a batch is one large row, and its pages are written twice (log, then file).
            connection.execute("PRAGMA page_size = 16384")
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise EngineError(f"{self.file}: the file system does not allow SQLite's WAL mode (it said {mode!r})")
            connection.execute("PRAGMA synchronous = FULL")  # an answer means that the disk has it
            connection.execute("PRAGMA fullfsync = 1")  # macOS: past the drive's own cache
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                raise EngineError(
                    f"{self.file}: its schema has version {version}, this imcore knows versions up to {VERSION}; "
                    "run the imcore that wrote it, or a newer one"
                )
            if version < VERSION:
                connection.executescript(FROM_1 if version == 1 else SCHEMA)
            (self.epoch,) = connection.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchone()
        except BaseException:
            connection.close()
            raise
        return connection


def in_use(folder: str | os.PathLike[str]) -> bool:
    """Whether a process owns the folder now."""
    try:
        lock = os.open(Path(folder) / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def explain(error: sqlite3.Error) -> str:
    """What SQLite said, and what to do about it."""
    text = str(error)
    if "not a database" in text or "malformed" in text or "no such table" in text:
        return f"{text}; the file is damaged or not ours: move it away (its messages are lost) or bring back a copy"
    if "full" in text:
        return f"{text}; make room, nothing is confirmed until then"
    return text


class Writer:
    """One thread, one connection, one transaction at a time: the next comes when the last has been heard of."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        loop: asyncio.AbstractEventLoop,
        done: Callable[[Exception | None], None],
    ) -> None:
        self._connection = connection
        self._loop = loop
        self._done = done
        self._jobs: SimpleQueue[Sequence[Statement] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="imcore-writer", daemon=True)
        self._thread.start()

    def write(self, statements: Sequence[Statement]) -> None:
        """Run these in one transaction; `done` is called on the loop with what went wrong."""
        self._jobs.put(statements)

    async def close(self) -> None:
        """Finish what was handed over, and end the thread."""
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)
        self._connection.close()

    def _run(self) -> None:
        connection, run = self._connection, self._connection.execute
        while (statements := self._jobs.get()) is not None:
            failed: Exception | None = None
            try:
                if len(statements) == 1:  # commits by itself: one step, so the interpreter's lock changes hands once
                    run(*statements[0])
                else:
                    run("BEGIN IMMEDIATE")
                    for sql, values in statements:
                        run(sql, values)
                    run("COMMIT")
            except Exception as error:  # the loop must hear of whatever it was, or it would wait for ever
                failed = error
                if connection.in_transaction:
                    with suppress(sqlite3.Error):
                        connection.rollback()
            self._loop.call_soon_threadsafe(self._done, failed)


class Reader:
    """One thread that reads; what is asked in one turn of the loop, or while a trip is under way, is one trip."""

    def __init__(self, connection: sqlite3.Connection, loop: asyncio.AbstractEventLoop) -> None:
        self._connection = connection
        self._loop = loop
        self._asked: list[tuple[Callable[[sqlite3.Connection], Any], asyncio.Future[Any]]] = []
        self._away = False
        self._closed = False
        self._jobs: SimpleQueue[list[tuple[Callable[[sqlite3.Connection], Any], asyncio.Future[Any]]] | None] = (
            SimpleQueue()
        )
        self._thread = threading.Thread(target=self._run, name="imcore-reader", daemon=True)
        self._thread.start()

    def ask(self, query: Callable[[sqlite3.Connection], Result]) -> asyncio.Future[Result]:
        """Run `query` in the thread. The future raises `EngineError`."""
        future: asyncio.Future[Result] = self._loop.create_future()
        if self._closed:
            future.set_exception(EngineError("the engine is closed"))
            return future
        self._asked.append((query, future))
        if not self._away:
            self._away = True
            self._loop.call_soon(self._leave)
        return future

    async def close(self) -> None:
        """Finish what is under way, and end the thread."""
        self._closed = True
        asked, self._asked = self._asked, []
        for _, future in asked:
            if not future.done():
                future.set_exception(EngineError("the engine is closed"))
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)
        self._connection.close()

    def _leave(self) -> None:
        asked, self._asked = self._asked, []
        self._jobs.put(asked)

    def _back(self, answers: list[tuple[asyncio.Future[Any], Any, Exception | None]]) -> None:
        self._away = False
        if self._asked:
            self._away = True
            self._leave()
        for future, result, error in answers:
            if future.cancelled():
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

    def _run(self) -> None:
        while (asked := self._jobs.get()) is not None:
            self._loop.call_soon_threadsafe(self._back, [self._answer(*each) for each in asked])
            del asked  # or the last trip's results would stay until the next one

    def _answer(
        self, query: Callable[[sqlite3.Connection], Any], future: asyncio.Future[Any]
    ) -> tuple[asyncio.Future[Any], Any, Exception | None]:
        try:
            return future, query(self._connection), None
        except sqlite3.Error as error:
            return future, None, EngineError(explain(error))
        except Exception as error:  # whoever asked must hear of it
            return future, None, error
