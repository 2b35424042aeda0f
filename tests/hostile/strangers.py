"""Who answers in the gateway's place: a portal, a name server that lies, proxies that rewrite, replay and hold back,
wires that cut everything into bytes, or gather it.

Programs: `python -m tests.hostile.strangers portal PORT page|redirect`, `… dns ADDRESS ANSWER [DELAY_S]`,
`… relay PORT TARGET WAY`, `… splitter PORT HOST PORT`, `… merger PORT HOST PORT`. Each prints `READY` when it listens.
"""

from __future__ import annotations

import asyncio
import gzip
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, cast

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from tests.client import http_relays

__all__ = ["dns_server", "merger", "portal", "relay", "splitter"]

PAGE = b"<html><head><title>Welcome</title></head><body>Please accept our terms.</body></html>"
ANSWERS = {
    "page": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%b" % (len(PAGE), PAGE),
    "redirect": b"HTTP/1.1 302 Found\r\nLocation: http://login.carrier.test/\r\nContent-Length: 0\r\n\r\n",
}
GATHER_S = 0.05


async def portal(port: str, how: str) -> None:
    """Answers everything, on any connection, in the same way."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while await reader.read(65536):
                writer.write(ANSWERS[how])
        writer.close()

    await asyncio.start_server(talk, "0.0.0.0", int(port))


async def relay(port: str, target: str, way: str) -> None:
    """A proxy that treats what comes back in this way (`http_relays`, and those below)."""
    ways: dict[str, http_relays.Way] = {"appends": _appends, "gzips": _gzips, "replays": http_relays.replays(3)}
    box = http_relays.Relay(target, ways.get(way) or getattr(http_relays, way))
    await asyncio.start_server(box.came, "0.0.0.0", int(port))


async def _appends(proxy: http_relays.Relay, asked: http_relays.Asked, writer: asyncio.StreamWriter) -> bool:
    """It has something to sell."""
    head, body = await http_relays.whole(proxy, asked)
    writer.write(http_relays.response(head, body + b"<script src=//ads.carrier.test></script>"))
    return True


async def _gzips(proxy: http_relays.Relay, asked: http_relays.Asked, writer: asyncio.StreamWriter) -> bool:
    """It saves bytes, whoever asked for it or forbade it."""
    head, body = await http_relays.whole(proxy, asked)
    writer.write(http_relays.response(head + b"\r\nContent-Encoding: gzip", gzip.compress(body)))
    return True


async def dns_server(address: str, answer: str, delay_s: str = "0") -> None:
    """Says `answer` to whatever is asked for, A only, after a while; with no answer, that there is no such name."""

    class Server(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast(asyncio.DatagramTransport, transport)

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            query = dns.message.from_wire(data)
            response = dns.message.make_response(query)
            question = query.question[0]
            if not answer:
                response.set_rcode(dns.rcode.NXDOMAIN)
            elif question.rdtype == dns.rdatatype.A:
                response.answer.append(dns.rrset.from_text(question.name, 60, "IN", "A", *answer.split(",")))
            asyncio.get_running_loop().call_later(float(delay_s), self.transport.sendto, response.to_wire(), addr)

    await asyncio.get_running_loop().create_datagram_endpoint(Server, local_addr=(address, 53))


Pump = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def splitter(port: str, host: str, to: str) -> None:
    """Passes everything on, one byte at a time, both ways."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(256):
            for at in range(len(data)):
                writer.write(data[at : at + 1])
                await asyncio.sleep(0)

    await _wire(int(port), host, int(to), pump)


async def merger(port: str, host: str, to: str) -> None:
    """Passes everything on, gathered."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await asyncio.sleep(GATHER_S)

    await _wire(int(port), host, int(to), pump)


async def _wire(port: int, host: str, to: int, pump: Pump) -> None:
    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await pump(reader, writer)
        writer.close()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            up_reader, up_writer = await asyncio.open_connection(host, to)
            for each in (writer, up_writer):
                each.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.gather(pass_on(reader, up_writer), pass_on(up_reader, writer))

    await asyncio.start_server(talk, "0.0.0.0", port)


async def main(kind: str, *words: str) -> None:
    """Until killed."""
    kinds: dict[str, Callable[..., Awaitable[Any]]] = {
        "portal": portal, "dns": dns_server, "relay": relay, "splitter": splitter, "merger": merger,
    }  # fmt: skip
    await kinds[kind](*words)
    print("READY", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
