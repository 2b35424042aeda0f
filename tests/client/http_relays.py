"""HTTP proxies that no one would want, in plain asyncio: each passes whole requests on to a gateway, and treats what
comes back in its own way. They know HTTP and no frame."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

__all__ = ["Asked", "Relay", "Way", "relay"]


class Asked(NamedTuple):
    """One request."""

    head: bytes
    body: bytes

    @property
    def whole(self) -> bytes:
        return self.head + self.body


class Relay:
    """Listens at `address`. way: what is done with each request; True = the connection goes on."""

    def __init__(self, target: str, way: Way) -> None:
        self.host, _, port = target.rpartition(":")
        self.port = int(port)
        self.way = way
        self.asked: list[Asked] = []
        self.connections = 0
        self.open = 0
        self.most_open = 0
        self.served: set[asyncio.Task[None]] = set()

    async def upstream(self, asked: Asked, version: str = "1.1") -> AsyncIterator[bytes]:
        """What the gateway answers, piece by piece as it comes: first the head, then the body without chunks."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            head = asked.head.replace(b" HTTP/1.1\r\n", f" HTTP/{version}\r\nConnection: close\r\n".encode(), 1)
            writer.write(head + asked.body)
            head = await reader.readuntil(b"\r\n\r\n")
            lines = [line for line in head[:-4].split(b"\r\n") if not line.lower().startswith(b"connection:")]
            chunked = b"Transfer-Encoding: chunked" in lines
            yield b"\r\n".join(line for line in lines if not line.startswith((b"Transfer-", b"Content-Length")))
            while chunked and (size := int((await reader.readuntil(b"\r\n"))[:-2], 16)):
                yield (await reader.readexactly(size + 2))[:-2]
            while not chunked and (data := await reader.read(65536)):
                yield data
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.served.add(task)
        self.connections += 1
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        try:
            while (asked := await read(reader)) is not None:
                self.asked.append(asked)
                answering = asyncio.ensure_future(self.way(self, asked, writer))
                gone = asyncio.ensure_future(reader.read(1))  # no client sends before it was answered
                try:
                    await asyncio.wait([answering, gone], return_when=asyncio.FIRST_COMPLETED)
                    if not answering.done() or not answering.result():
                        return
                finally:
                    gone.cancel()
                    answering.cancel()
                    await asyncio.wait([answering, gone])
        except (OSError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            pass  # the test is over; asyncio's server would complain
        finally:
            self.open -= 1
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()
            self.served.discard(task)


Way = Callable[[Relay, Asked, asyncio.StreamWriter], Awaitable[bool]]


async def read(reader: asyncio.StreamReader) -> Asked | None:
    """A whole request."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    lengths = [int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length: ")]
    return Asked(head, await reader.readexactly(sum(lengths)))  # a GET has none


@asynccontextmanager
async def relay(target: str, way: Way) -> AsyncIterator[tuple[str, Relay]]:
    """One between the test and a gateway: its point, and itself."""
    proxy = Relay(target, way)
    server = await asyncio.start_server(proxy.came, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"http://{host}:{port}", proxy
    finally:
        server.close()
        for task in list(proxy.served):
            task.cancel()
        if proxy.served:
            await asyncio.wait(list(proxy.served))


async def pieces(proxy: Relay, asked: Asked, version: str = "1.1") -> tuple[bytes, AsyncIterator[bytes]]:
    """The gateway's head, and its body as it comes."""
    answer = proxy.upstream(asked, version)
    return await anext(answer), answer


async def whole(proxy: Relay, asked: Asked) -> tuple[bytes, bytes]:
    """Head and body, when all of it is there."""
    head, answer = await pieces(proxy, asked)
    return head, b"".join([piece async for piece in answer])


def response(head: bytes, body: bytes) -> bytes:
    return b"%b\r\nContent-Length: %d\r\n\r\n%b" % (head, len(body), body)


async def streams(proxy: Relay, asked: Asked, writer: asyncio.StreamWriter, delay: float = 0) -> bool:
    """Each piece at once, or later by so many seconds."""
    head, answer = await pieces(proxy, asked)
    writer.write(head + b"\r\nTransfer-Encoding: chunked\r\n\r\n")
    async for piece in answer:
        await asyncio.sleep(delay)
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await writer.drain()
    writer.write(b"0\r\n\r\n")
    return True


async def a_fifth_of_a_second_a_piece(proxy: Relay, asked: Asked, writer: asyncio.StreamWriter) -> bool:
    return await streams(proxy, asked, writer, 0.2)


async def holds_everything(proxy: Relay, asked: Asked, writer: asyncio.StreamWriter) -> bool:
    writer.write(response(*await whole(proxy, asked)))
    return True


async def first_bytes_then_stalls(proxy: Relay, asked: Asked, writer: asyncio.StreamWriter) -> bool:
    """What has no length is let through up to a point."""
    head, answer = await pieces(proxy, asked)
    first = await anext(answer)
    if b"poll_ms\x00" in asked.body:
        writer.write(head + b"\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(first), first))
        async for _ in answer:
            pass
    else:
        writer.write(response(head, first + b"".join([piece async for piece in answer])))
    return True


async def fills_buffers(proxy: Relay, asked: Asked, writer: asyncio.StreamWriter) -> bool:
    """Passes on what has gathered when it is 4 KiB, or at the end."""
    head, answer = await pieces(proxy, asked)
    held = head + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
    async for piece in answer:
        held += b"%x\r\n%b\r\n" % (len(piece), piece)
        if len(held) >= 4096:
            writer.write(held[: len(held) // 4096 * 4096])
            held = held[len(held) // 4096 * 4096 :]
    writer.write(held + b"0\r\n\r\n")
    return True


async def closes_silently(proxy: Relay, asked: Asked, writer: asyncio.StreamWriter) -> bool:
    """It says that the connection goes on, and closes it."""
    await streams(proxy, asked, writer)
    await writer.drain()
    return False


async def http_1_0(proxy: Relay, asked: Asked, writer: asyncio.StreamWriter) -> bool:
    head, answer = await pieces(proxy, asked, "1.0")
    writer.write(head.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n\r\n")
    async for piece in answer:
        writer.write(piece)
        await writer.drain()
    return False


async def eight_kib_at_most(proxy: Relay, asked: Asked, writer: asyncio.StreamWriter) -> bool:
    if len(asked.body) <= 8192:
        return await streams(proxy, asked, writer)
    writer.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()
    return False


def replays(every: int) -> Way:
    """Every so many requests it gives an old answer."""
    last: dict[bytes, bytes] = {}
    count = 0

    async def way(proxy: Relay, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        nonlocal count
        count += 1
        kind = b"up" if b"role\xa2up" in asked.body else b"down"
        if count % every == 0 and kind in last:
            writer.write(last[kind])
            return True
        if kind == b"down" and b"poll_ms\x00" in asked.body:
            return await streams(proxy, asked, writer)
        last[kind] = response(*await whole(proxy, asked))
        writer.write(last[kind])
        return True

    return way
