"""A websockets server for the bench: `python -m benchmarks.peers.serve_websockets PORT fanout|echo`."""

from __future__ import annotations

import sys

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

members: set[ServerConnection] = set()


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def talk(connection: ServerConnection) -> None:
    if connection.request is not None and connection.request.path == "/member":
        members.add(connection)
    try:
        async for message in connection:
            broadcast(members, message)
    finally:
        members.discard(connection)


async def main(port: int, mode: str) -> None:
    handler = echo if mode == "echo" else talk
    async with serve(handler, "127.0.0.1", port, compression=None, ping_interval=None, backlog=4096) as server:
        await server.serve_forever()


uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
