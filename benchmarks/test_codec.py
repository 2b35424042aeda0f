"""The codec on frames of 64 bytes, beside a decoder in plain Python and beside picows.

A round is one read of 1,000 frames, each of 16 bytes of header, a route of 4 and a body of 44. What is compared:

- `scan`: every check that there is, at C level, and nothing built: what a link pays before it looks at a frame.
- `feed`: a `Frame` for each, with its route as str and its body as bytes, in a Python loop that takes the body.
- `struct`: the same checks and the same work as `feed` in Python, as fast as we know how to write it.
- `picows`: the client side of a real connection over loopback, whose protocol is then handed the read as an event loop
  would do it, through `get_buffer` and `buffer_updated`: one copy into its buffer, its parser, and its listener's
  Python method for each message, which takes the payload as bytes. Unmasked messages of 48 bytes, as much as route and
  body together; 50 bytes with the header. No socket is read in the measured part.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Iterator

import picows
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from imcore._codec import MSG, FrameDecoder, encode, encode_into, scan

COUNT = 1000
ROUTE = "chat"
BODY = bytes(range(44))
ONE = encode(MSG, 1, ROUTE, BODY)
READ = ONE * COUNT

assert len(ONE) == 64


def decode_plainly(data: bytes, limit: int) -> Iterator[tuple[int, int, int, str, bytes]]:
    """The whole frames at the beginning of `data`: type, flags, id, route, body."""
    unpack = struct.Struct(">BBBBIQ").unpack_from
    at, end = 0, len(data) - 16
    while at <= end:
        magic, kind, flags, route_size, length, number = unpack(data, at)
        if magic != 0xA1 or not 1 <= kind <= 11 or flags > 7 or length > limit or route_size > length:
            raise ValueError("not a frame")
        body = at + 16 + route_size
        at += 16 + length
        if at > end + 16:
            return
        yield kind, flags, number, data[body - route_size : body].decode(), data[body:at]


@pytest.mark.benchmark(group="decode 1,000 frames of 64 bytes")
class TestDecode:
    def test_scan(self, benchmark: BenchmarkFixture) -> None:
        assert benchmark(scan, READ) == (COUNT, len(READ))

    def test_feed(self, benchmark: BenchmarkFixture) -> None:
        decoder = FrameDecoder()

        def feed() -> int:
            size = 0
            for frame in decoder.feed(READ):
                size += len(frame.body)
            return size

        assert benchmark(feed) == COUNT * len(BODY)

    def test_struct(self, benchmark: BenchmarkFixture) -> None:
        def decode() -> int:
            size = 0
            for _, _, _, _, body in decode_plainly(READ, 65536):
                size += len(body)
            return size

        assert benchmark(decode) == COUNT * len(BODY)

    def test_picows(self, benchmark: BenchmarkFixture, picows_reads: Callable[[bytes], int]) -> None:
        message = bytes([0x82, 48]) + bytes(48)
        assert benchmark(picows_reads, message * COUNT) == COUNT * 48


@pytest.mark.benchmark(group="decode 1,000 frames of 64 bytes in reads of 100 bytes")
class TestDecodeCut:
    """Six frames of ten are cut: what holding on to their beginnings costs."""

    def test_feed(self, benchmark: BenchmarkFixture) -> None:
        decoder = FrameDecoder()
        reads = [READ[at : at + 100] for at in range(0, len(READ), 100)]

        def feed() -> int:
            return sum(1 for read in reads for _ in decoder.feed(read))

        assert benchmark(feed) == COUNT


@pytest.mark.benchmark(group="encode 1,000 frames of 64 bytes")
class TestEncode:
    def test_encode(self, benchmark: BenchmarkFixture) -> None:
        def work() -> bytes:
            whole = b""
            for number in range(COUNT):
                whole = encode(MSG, number, ROUTE, BODY)
            return whole

        assert benchmark(work) == encode(MSG, COUNT - 1, ROUTE, BODY)

    def test_encode_into(self, benchmark: BenchmarkFixture) -> None:
        room = bytearray(len(READ))

        def work() -> int:
            at = 0
            for number in range(COUNT):
                at = encode_into(room, at, MSG, number, ROUTE, BODY)
            return at

        assert benchmark(work) == len(READ)

    def test_struct(self, benchmark: BenchmarkFixture) -> None:
        """The least that Python can do: one compiled struct, and no check but struct's own."""
        pack = struct.Struct(">BBBBIQ").pack

        def work() -> bytes:
            whole = b""
            for number in range(COUNT):
                route = ROUTE.encode()
                whole = pack(0xA1, MSG, 0, len(route), len(route) + len(BODY), number) + route + BODY
            return whole

        assert benchmark(work) == encode(MSG, COUNT - 1, ROUTE, BODY)


class Counter(picows.WSListener):
    size = 0

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        self.size += len(frame.get_payload_as_bytes())


@pytest.fixture
def picows_reads() -> Iterator[Callable[[bytes], int]]:
    """Hands a read to the protocol of a picows client that is connected over loopback; returns the payload's bytes."""

    async def connect() -> tuple[asyncio.Server, picows.WSTransport, picows.WSListener]:
        server = await picows.ws_create_server(lambda _: picows.WSListener(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        transport, listener = await picows.ws_connect(Counter, f"ws://127.0.0.1:{port}/")
        return server, transport, listener

    async def leave(server: asyncio.Server, transport: picows.WSTransport) -> None:
        transport.disconnect()
        await transport.wait_disconnected()
        server.close()
        await server.wait_closed()

    with asyncio.Runner() as runner:
        server, transport, listener = runner.run(connect())
        assert isinstance(listener, Counter)
        protocol = transport.underlying_transport.get_protocol()
        assert isinstance(protocol, asyncio.BufferedProtocol)

        def read(data: bytes) -> int:
            listener.size = 0
            rest = memoryview(data)
            while rest:
                buffer = memoryview(protocol.get_buffer(-1))
                size = min(len(buffer), len(rest))
                buffer[:size] = rest[:size]
                protocol.buffer_updated(size)
                rest = rest[size:]
            return listener.size

        yield read
        runner.run(leave(server, transport))
