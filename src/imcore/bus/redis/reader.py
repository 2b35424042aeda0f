"""A connection of its own for who waits on streams, and a new one whenever it breaks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from .connection import ANSWER_S, explain

__all__ = ["ask", "read_forever"]

log = logging.getLogger("imcore.bus")


async def ask(connection: AbstractConnection, *words: Any) -> Any:
    """One command, one answer. Raises `RedisError`, or `TimeoutError` if nothing comes."""
    async with asyncio.timeout(ANSWER_S):
        await connection.send_packed_command(connection.pack_command(*words))
        return await connection.read_response()


async def read_forever(
    connect: Callable[[], Awaitable[AbstractConnection]], work: Callable[[AbstractConnection], Awaitable[None]]
) -> None:
    """Run `work` on a connection, and again on another one when that has failed."""
    while True:
        try:
            connection = await connect()
            try:
                await work(connection)
            finally:
                await connection.disconnect(nowait=True)
        except (RedisError, OSError, TimeoutError) as error:
            log.info("a reader of Redis begins again: %s", explain(error))
        await asyncio.sleep(0.2)
