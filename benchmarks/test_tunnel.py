"""The tunnel's HTTP reader beside httptools (llhttp, in C, called from Cython) and h11 (Python).

A round is a stream that lies in memory: 1,000 requests as our client sends them, with a body of 64 bytes each; or one
request whose body of 512 KiB comes in chunks of 512 bytes, in reads of 64 KiB or a chunk a read. What is compared:

- `scan`: every check that there is, at C level, and nothing built: what a caller in C pays.
- `reader`, `httptools`, `h11`: for each message its method, target and version, its fields as a list of pairs of bytes,
  its body as bytes, and whether another message may follow. Each as fast as we know how to drive it: httptools calls
  methods of one Python object, ours and h11 are iterated over.

Of a body, each hands over its bytes in `bytes` (h11: bytearray), cut as it likes: httptools and h11 at each chunk, ours
joins the chunks that lie in one read. What is counted is the body's bytes, all of them.
"""

from __future__ import annotations

from collections.abc import Callable

import h11
import httptools
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from imcore._tunnel import Data, RequestHead, RequestReader, scan

COUNT = 1000
BODY = bytes(range(64))
HEAD = b"POST /im HTTP/1.1\r\nHost: im.example.com\r\nContent-Type: application/octet-stream\r\n"
MESSAGE = HEAD + b"Content-Length: 64\r\n\r\n" + BODY

CHUNK = b"200\r\n%b\r\n" % bytes(range(256)).ljust(512, b"x")
CHUNKS = 1024
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"
READ = 65536

Told = tuple[int, int]
"""How many messages, and bytes in their bodies."""


def by_reader(reads: list[bytes]) -> Told:
    reader = RequestReader()
    messages = size = 0
    for read in reads:
        for event in reader.feed(read):
            kind = type(event)
            if kind is Data:
                size += len(event.data)  # type: ignore[union-attr]  # as its kind says
            elif kind is RequestHead:
                _ = event.method, event.target, event.version, event.headers  # type: ignore[union-attr]  # as its kind says
            else:
                messages += event.keep_alive  # type: ignore[union-attr]  # as its kind says
    return messages, size


class Callbacks:
    def __init__(self) -> None:
        self.messages = self.size = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.parser = httptools.HttpRequestParser(self)

    def on_url(self, url: bytes) -> None:
        self.target = url
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        self.size += len(body)

    def on_message_complete(self) -> None:
        parser = self.parser
        _ = parser.get_method(), self.target, parser.get_http_version(), self.headers
        self.messages += parser.should_keep_alive()


def by_httptools(reads: list[bytes]) -> Told:
    told = Callbacks()
    feed = told.parser.feed_data
    for read in reads:
        feed(read)
    return told.messages, told.size


def by_h11(reads: list[bytes]) -> Told:
    connection = h11.Connection(h11.SERVER)
    answer = h11.Response(status_code=200, headers=[("Content-Length", "0")])
    messages = size = 0
    for read in reads:
        connection.receive_data(read)
        while (event := connection.next_event()) is not h11.NEED_DATA:
            kind = type(event)
            if kind is h11.Data:
                size += len(event.data)  # type: ignore[union-attr]  # as its kind says
            elif kind is h11.Request:
                _ = event.method, event.target, event.http_version, event.headers  # type: ignore[union-attr]  # as its kind says
            elif kind is h11.EndOfMessage:
                messages += connection.their_state is h11.DONE
                connection.send(answer)
                connection.send(h11.EndOfMessage())
                connection.start_next_cycle()
    return messages, size


READERS = [by_reader, by_httptools, by_h11]


def reads_of(stream: bytes) -> list[bytes]:
    return [stream[at : at + READ] for at in range(0, len(stream), READ)]


@pytest.mark.benchmark(group="read 1,000 requests with a body of 64 bytes")
class TestMessages:
    def test_scan(self, benchmark: BenchmarkFixture) -> None:
        assert benchmark(scan, MESSAGE * COUNT) == (COUNT, COUNT * 64)

    @pytest.mark.parametrize("read", READERS)
    def test_read(self, benchmark: BenchmarkFixture, read: Callable[[list[bytes]], Told]) -> None:
        assert benchmark(read, reads_of(MESSAGE * COUNT)) == (COUNT, COUNT * 64)


@pytest.mark.benchmark(group="read a body of 1,024 chunks of 512 bytes, 64 KiB at a time")
class TestChunks:
    STREAM = CHUNKED + CHUNK * CHUNKS + LAST

    def test_scan(self, benchmark: BenchmarkFixture) -> None:
        assert benchmark(scan, self.STREAM) == (1, CHUNKS * 512)

    @pytest.mark.parametrize("read", READERS)
    def test_read(self, benchmark: BenchmarkFixture, read: Callable[[list[bytes]], Told]) -> None:
        assert benchmark(read, reads_of(self.STREAM)) == (1, CHUNKS * 512)


@pytest.mark.benchmark(group="read a body of 1,024 chunks of 512 bytes, one at a time")
class TestAlone:
    @pytest.mark.parametrize("read", READERS)
    def test_read(self, benchmark: BenchmarkFixture, read: Callable[[list[bytes]], Told]) -> None:
        assert benchmark(read, [CHUNKED, *[CHUNK] * CHUNKS, LAST]) == (1, CHUNKS * 512)
