"""How many bytes one message of 64 bytes costs on the wire, up and down: `python -m benchmarks.overhead`.

Measured: a real client and server talk through a relay that counts, one message at a time, on connections that stand;
the mean of many. That is imcore over raw frames and over the tunnel, and engine.io's long polling (python-engineio,
both sides). Built: the least that a protocol's text asks for, with no field in a head but Host, Content-Type and
Content-Length: engine.io 4 again, and BOSH (XEP-0124, XEP-0206). TCP's and IP's own bytes are in none of them.

Only imcore's figures hold a confirmation that the message is durable (up) and that it was taken in (down).
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import engineio
from aiohttp import web
from rich.console import Console
from rich.table import Table

import imcore
from imcore.messages import Hello, Resume, Welcome, pack, unpack
from imcore.notation import make

SIZE = 64
COUNT = 50
BODY = b"x" * SIZE
PATIENCE_S = 60

Cost = tuple[float, float]
"""Bytes from the client and from the server, for one message."""


class Relay:
    """Passes bytes on, and counts them."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.counts = [0, 0]
        self.first = b""
        """What the client said first on the last connection."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(self.host, self.port)
        self.first = b""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pump(reader, there[1], 0))
            tasks.create_task(self._pump(there[0], writer, 1))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: int) -> None:
        try:
            while data := await reader.read(65536):
                self.counts[way] += len(data)
                if way == 0 and not self.first:
                    self.first = data
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def relayed(address: str) -> AsyncIterator[tuple[Relay, str]]:
    """A relay in front of an address, and its own."""
    host, _, port = address.rpartition(":")
    relay = Relay(host, int(port))
    async with await asyncio.start_server(relay.serve, "127.0.0.1", 0) as server:
        yield relay, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


def per_message(relay: Relay, before: list[int]) -> Cost:
    up, down = (now - then for now, then in zip(relay.counts, before, strict=True))
    return up / COUNT, down / COUNT


@asynccontextmanager
async def a_node() -> AsyncIterator[imcore.Node]:
    with tempfile.TemporaryDirectory() as data:
        node = imcore.Node(listen=["127.0.0.1:0"], data=data)

        @node.service.on("note")
        async def note(message: imcore.Uplink) -> None:
            """Takes it, and that is all."""

        async with node:
            yield node


async def by_client(scheme: str) -> tuple[Cost, Cost, bytes]:
    """imcore's own client: up, down, and its first request."""
    async with a_node() as node:
        async with (
            relayed(node.addresses[0]) as (relay, point),
            imcore.Client([scheme + point], "alice", "phone", receive=False) as im,
        ):
            await im.send("note", BODY)
            before = [*relay.counts]
            for _ in range(COUNT):
                await im.send("note", BODY)
            up, first = per_message(relay, before), relay.first
        async with relayed(node.addresses[0]) as (relay, point), imcore.Client([scheme + point], "bob", "phone") as im:
            coming = aiter(im)
            for number in range(COUNT + 1):
                if number == 1:
                    await asyncio.sleep(2)  # the way is known to stream
                    before = [*relay.counts]
                await node.service.push("bob", "note", BODY, key=str(number))
                await anext(coming)
            await asyncio.sleep(0.5)  # for the last acknowledgement
            down = per_message(relay, before)
    return up, down, first


async def by_poll(head: bytes) -> Cost:
    """The tunnel where the way holds streams back: an exchange for each message."""
    async with a_node() as node:
        host, _, port = node.addresses[0].rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        resume = None
        said = heard = 0
        for number in range(COUNT):
            await node.service.push("carol", "note", BODY, key=str(number))
            client = f"imcore/{imcore.__version__}"
            hello = Hello("carol", "phone", "down", client, resume, poll_ms=25_000, nonce="12345678")
            frame = make("HELLO", body=pack(hello))
            request = head + b"%d\r\n\r\n" % len(frame) + frame
            writer.write(request)
            answer = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
            welcome, message = imcore.FrameDecoder().feed(body)
            resume = Resume(unpack(welcome.body, Welcome).epoch, message.id)
            said += len(request)
            heard += len(answer) + len(body)
        writer.close()
    return said / COUNT, heard / COUNT


async def by_engineio() -> tuple[Cost, Cost]:
    """python-engineio's own client and server, long polling."""
    server = engineio.AsyncServer(async_mode="aiohttp", transports=["polling"], monitor_clients=False)
    came: asyncio.Queue[None] = asyncio.Queue()
    sids: asyncio.Queue[str] = asyncio.Queue()

    async def connected(sid: str, _: object) -> None:
        await sids.put(sid)

    async def arrived(*_: object) -> None:
        await came.put(None)

    server.on("connect", connected)
    server.on("message", arrived)
    application = web.Application()
    server.attach(application)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    client = engineio.AsyncClient()
    client.on("message", arrived)
    try:
        async with relayed(f"127.0.0.1:{runner.addresses[0][1]}") as (relay, point):
            await client.connect(f"http://{point}", transports=["polling"])
            sid = await sids.get()
            found: list[Cost] = []
            for send in (client.send, lambda text: server.send(sid, text)):
                await asyncio.sleep(0.5)
                before = [*relay.counts]
                for _ in range(COUNT):
                    await send(BODY.decode())
                    await came.get()
                await asyncio.sleep(0.5)  # for the answer, or the next poll
                found.append(per_message(relay, before))
            await client.disconnect()
    finally:
        await runner.cleanup()
    return found[0], found[1]


def exchange(target: str, kind: str, request: str, response: str, answer_kind: str | None = None) -> Cost:
    """The least HTTP around two bodies. A request without a body is a GET."""
    framed = f"Content-Type: {kind}\r\nContent-Length: {len(request)}\r\n" if request else ""
    asked = f"{'POST' if request else 'GET'} {target} HTTP/1.1\r\nHost: im.example.com\r\n{framed}\r\n{request}"
    answered = (
        f"HTTP/1.1 200 OK\r\nContent-Type: {answer_kind or kind}\r\nContent-Length: {len(response)}\r\n\r\n{response}"
    )
    return len(asked), len(answered)


def least_engineio() -> tuple[Cost, Cost]:
    target = f"/engine.io/?EIO=4&transport=polling&sid={'s' * 20}"
    kind = "text/plain;charset=UTF-8"
    text = BODY.decode()
    return exchange(target, kind, "4" + text, "ok", "text/html"), exchange(target, kind, "", "4" + text)


def least_bosh() -> tuple[Cost, Cost]:
    names = "xmlns='http://jabber.org/protocol/httpbind'"
    rest = f"='bob@im.example.com/phone' xmlns='jabber:client'><body>{BODY.decode()}</body></message>"
    asking = f"<body rid='1573741820' sid='{'s' * 32}' {names}"
    up = exchange("/http-bind", "text/xml; charset=utf-8", f"{asking}><message to{rest}</body>", f"<body {names}/>")
    down = exchange("/http-bind", "text/xml; charset=utf-8", f"{asking}/>", f"<body {names}><message from{rest}</body>")
    return up, down


async def main() -> None:
    table = Table(title=f"bytes for one message of {SIZE} bytes, from the client + from the server")
    for title in ("", "up", "down", "both"):
        table.add_column(title, justify="right" if title else "left")

    def row(name: str, up: Cost, down: Cost) -> None:
        cells = [f"{cost[0]:.0f} + {cost[1]:.0f} = {sum(cost):.0f}" for cost in (up, down)]
        table.add_row(name, *cells, f"{sum(up) + sum(down):.0f}")

    async with asyncio.timeout(PATIENCE_S):
        raw_up, raw_down, _ = await by_client("")
        up, down, first = await by_client("http://")
        head, _, _ = first.partition(b"Content-Length: ")
        row("imcore, raw frames (measured)", raw_up, raw_down)
        row("imcore, tunnel, streaming (measured)", up, down)
        row("imcore, tunnel, polling (measured)", up, await by_poll(head + b"Content-Length: "))
        row("engine.io, polling, python-engineio (measured)", *await by_engineio())
        row("engine.io, polling, the least (built)", *least_engineio())
        row("BOSH, the least (built)", *least_bosh())
    console = Console(width=120)
    console.print(table)
    size = len(first.partition(b"\r\n\r\n")[0]) + 4
    console.print(f"The head of a request through the tunnel to 127.0.0.1: {size} bytes.")


if __name__ == "__main__":
    asyncio.run(main())
