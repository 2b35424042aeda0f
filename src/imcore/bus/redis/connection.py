"""Connections to Redis, each for one task, and what their errors mean."""

from __future__ import annotations

import asyncio

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as Broken
from redis.exceptions import TimeoutError as Late

from ...errors import EngineError

__all__ = ["ANSWER_S", "AWAY", "MOVING", "Broken", "Place", "check_version", "connect", "connect_pool", "explain"]

MOVING = AskError, TryAgainError
"""A cluster moves the slot, or has moved it (`MovedError` is an `AskError`)."""
AWAY = (
    Broken, Late, OSError, BusyLoadingError, ClusterDownError, MasterDownError, ReadOnlyError, NoScriptError, *MOVING,
)  # fmt: skip
"""What means that Redis is away for now, or elsewhere: try again."""
ANSWER_S = 5.0
"""How long a pipeline may take until Redis counts as away."""

Place = tuple[str, int]
"""Host and port of a node of a cluster."""


def connect_pool(url: str) -> ConnectionPool:
    """Makes connections, each for one task; what is lost is not tried again below us. Raises `ValueError`."""
    return ConnectionPool.from_url(
        url, protocol=2, socket_timeout=None, socket_connect_timeout=3.0, retry=Retry(NoBackoff(), 0)
    )


async def connect(pool: ConnectionPool, place: Place | None = None) -> AbstractConnection:
    """A connection that nobody else uses, to where the url says or to a place. Raises `TimeoutError`, and `AWAY`."""
    connection: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call]  # theirs has no types
    if place is not None:
        connection.host, connection.port = place  # type: ignore[attr-defined]  # a cluster is reached over TCP
    try:
        async with asyncio.timeout(ANSWER_S):
            await connection.connect()  # type: ignore[no-untyped-call]  # theirs has no types
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return connection


def explain(error: BaseException) -> str:
    """What happened, in a line, and what to do where that is known."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OutOfMemoryError):
        return "Redis has no memory left (maxmemory): give it more"
    if text.startswith("MISCONF"):
        return "Redis can't write to its disk: make room, nothing is confirmed until then"
    return text


def check_version(info: bytes) -> None:
    """Raises `EngineError` if INFO says that it is too old."""
    for line in info.decode().splitlines():
        if line.startswith("redis_version:"):
            version = line.partition(":")[2]
            if int(version.partition(".")[0]) < 7:
                raise EngineError(f"Redis {version}: expected 7.0 or newer, or Valkey")
