"""Who answers in the gateway's place: a portal, a name server that lies, a wire-tap that cuts everything into bytes.

Programs: `python -m tests.hostile.strangers portal PORT`, `… dns ADDRESS ANSWER [DELAY_S]`, `… splitter PORT TARGET`.
Each prints `READY` when it listens.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, cast

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

__all__ = ["dns_server", "portal", "splitter"]

PAGE = b"<html><head><title>Welcome</title></head><body>Please accept our terms.</body></html>"


async def portal(port: str) -> None:
    """Answers everything, on any connection, with its page."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while await reader.read(65536):
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%b" % (len(PAGE), PAGE)
                )
        writer.close()

    await asyncio.start_server(talk, "0.0.0.0", int(port))


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


async def splitter(port: str, target: str) -> None:
    """Passes everything on to the same port of `target`, one byte at a time, both ways."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(256):
                for at in range(len(data)):
                    writer.write(data[at : at + 1])
                    await asyncio.sleep(0)
        writer.close()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            up_reader, up_writer = await asyncio.open_connection(target, int(port))
            for each in (writer, up_writer):
                each.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.gather(pump(reader, up_writer), pump(up_reader, writer))

    await asyncio.start_server(talk, "0.0.0.0", int(port))


async def main(kind: str, *words: str) -> None:
    """Until killed."""
    kinds: dict[str, Callable[..., Awaitable[Any]]] = {"portal": portal, "dns": dns_server, "splitter": splitter}
    await kinds[kind](*words)
    print("READY", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
