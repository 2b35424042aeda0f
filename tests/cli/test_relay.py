"""The demo's network: passes bytes both ways and their end, and breaks when told to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from imcore.cli.relay import Relay


def through(story: Callable[[Relay], Awaitable[None]]) -> None:
    """A relay before a server that sends back what it gets."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            return
        finally:
            writer.close()

    async def main() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server, Relay() as relay:
            host, port = server.sockets[0].getsockname()
            relay.target = f"{host}:{port}"
            async with asyncio.timeout(20):
                await story(relay)

    asyncio.run(main())


async def dial(relay: Relay) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = relay.point.rpartition(":")
    return await asyncio.open_connection(host, int(port))


def test_bytes_pass_both_ways_and_so_does_the_end() -> None:
    async def story(relay: Relay) -> None:
        reader, writer = await dial(relay)
        data = bytes(range(256)) * 8192  # more than any buffer on the way
        sending = asyncio.ensure_future(asyncio.wait_for(_send(writer, data), 20))
        assert await reader.read(-1) == data
        await sending
        writer.close()

    through(story)


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()
    writer.write_eof()


def test_a_cut_breaks_every_connection_and_the_next_one_is_whole() -> None:
    async def story(relay: Relay) -> None:
        ends = [await dial(relay) for _ in range(3)]
        for reader, writer in ends:
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
        assert relay.cut() == 3
        for reader, writer in ends:
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
            writer.close()
        reader, writer = await dial(relay)
        writer.write(b"y")
        assert await reader.readexactly(1) == b"y"
        writer.close()

    through(story)


def test_without_a_target_whoever_connects_is_cut() -> None:
    async def story(relay: Relay) -> None:
        relay.target = None
        reader, writer = await dial(relay)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()

    through(story)
