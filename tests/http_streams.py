"""Streams of HTTP messages for the tunnel's tests: good ones, almost good ones, and what a reader makes of them."""

from __future__ import annotations

from hypothesis import strategies as st

from imcore._tunnel import Data, End, RequestHead, RequestReader, ResponseHead, ResponseReader
from imcore.errors import TunnelError
from tests.models.tunnel import Event, Fault, Limits

ANY = Limits()
SMALL = Limits(line=60, fields=6, head=160, body=40, extension=12, extensions=20)

Seen = tuple[list[Event], Fault | None]


def requests(limits: Limits = ANY) -> RequestReader:
    return RequestReader(**options(limits))


def responses(limits: Limits = ANY, asked: bytes = b"POST") -> ResponseReader:
    reader = ResponseReader(**options(limits))
    reader.expect(asked)
    return reader


def options(limits: Limits) -> dict[str, int]:
    return {f"max_{name}": value for name, value in limits._asdict().items()}


def plain(event: RequestHead | ResponseHead | Data | End) -> Event:
    if isinstance(event, RequestHead):
        return "request", event.method, event.target, event.version, event.headers
    if isinstance(event, ResponseHead):
        return "response", event.status, event.reason, event.version, event.headers
    if isinstance(event, Data):
        return "data", event.data
    return "end", event.keep_alive


def merged(events: list[Event]) -> list[Event]:
    """The same, with data that follows data joined to it."""
    found: list[Event] = []
    for event in events:
        if event[0] == "data" and found and found[-1][0] == "data":
            before, more = found[-1][1], event[1]
            assert isinstance(before, bytes)
            assert isinstance(more, bytes)
            found[-1] = ("data", before + more)
        else:
            found.append(event)
    return found


def seen(reader: RequestReader | ResponseReader, chunks: list[bytes], ended: bool = False) -> Seen:
    """What a reader makes of a stream that comes in these pieces."""
    found: list[Event] = []
    try:
        for chunk in chunks:
            reader.feed(chunk)
            found.extend(map(plain, reader))
            if reader.part == "switched":
                return merged(found), None
        if ended:
            reader.end()
            found.extend(map(plain, reader))
    except TunnelError as error:
        return merged(found), (error.offset, error.status)
    return merged(found), None


def pieces(data: bytes, size: int = 1) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def cuts(data: bytes) -> list[list[bytes]]:
    """The stream whole, byte by byte, and cut at each point."""
    return [[data], pieces(data), *([data[:cut], data[cut:]] for cut in range(len(data) + 1))]


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))


# One piece of a message each: mostly right, sometimes what somebody once took for right.
LINES = [
    *[b"POST /im HTTP/1.1"] * 6, b"GET /a?b=c%20d HTTP/1.0", b"GET http://a:80/x HTTP/1.1", b"OPTIONS * HTTP/1.1",
    b"CONNECT a:443 HTTP/1.1", b"GET /a b HTTP/1.1", b"GET /%4 HTTP/1.1", b"GET * HTTP/1.1", b"GET  / HTTP/1.1",
    b"GET /a#b HTTP/1.1", b"GET / HTTP/1.2", b"GET / HTTP/2.0", b"GET / http/1.1", b"GET /", b"G(T / HTTP/1.1",
    b"GET http:///x HTTP/1.1", b"GET ftp://a/ HTTP/1.1", b"CONNECT a HTTP/1.1", b"GET /\xff HTTP/1.1",
    b"GET / HTTP/1.1 ",
    b"GET http://u@h/ HTTP/1.1", b"M" * 61,
]  # fmt: skip
STATUSES = [
    *[b"HTTP/1.1 200 OK"] * 5, b"HTTP/1.0 200 OK", b"HTTP/1.1 100 Continue", b"HTTP/1.1 204 No", b"HTTP/1.1 304 ",
    b"HTTP/1.1 101 Up", b"HTTP/1.1 200", b"HTTP/1.1 099 x", b"HTTP/1.1 600 x", b"HTTP/1.1 20 x", b"HTTP/2 200 x",
    b"HTTP/1.1 302 \xe9", b"HTTP/1.1 200 a\tb", b"HTTP/1.1 200 a\x00b", b"HTTP/1.1  200 OK", b"ICY 200 OK", b"",
]  # fmt: skip
FIELDS = [
    *[b"Host: a.b"] * 6, *[b"Content-Length: 5"] * 3, *[b"Transfer-Encoding: chunked"] * 3, b"Host: [::1]:80", b"Host:",
    b"Host: a b", b"Host: a:70000", b"Content-Length: 00", b"Content-Length: +5", b"Content-Length: 5,5",
    b"Content-Length: 41", b"Content-Length:", b"Transfer-Encoding: xchunked", b"Transfer-Encoding: gzip, chunked",
    b"transfer-ENCODING:\tChunked ", b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding : chunked",
    b"Connection: close", b"Connection: x, CLOSE", b"Connection: a;b", b"Connection: ,", b"X: y", b"X:", b": y",
    b" X: y",
    b"X y", b"X: a\x00", b"X: a\x7f", b"X: \x80\xff", b"X\x0b: y", b"X: a\rb", b"",
]  # fmt: skip
BODIES = [
    b"", b"hello", b"hello!", b"hell", chunked(b"hello"), chunked(b"a", b"bc"), b"0\r\n\r\n",
    b"5;a=b\r\nhello\r\n0\r\n\r\n",
    b"5;a=\"b;\\\"\"\r\nhello\r\n0;z\r\n\r\n", b"005\r\nhello\r\n00\r\nT: u\r\n\r\n", b"5 \r\nhello\r\n0\r\n\r\n",
    b"0x5\r\nhello", b"+5\r\nhello", b"5\nhello\n0\n\n", b"5\r\nhelloX\r\n", b"5\r\nhello\rX", b"29\r\n",
    b"0" * 17 + b"\r\n",
    b"fffffffffffffffff\r\n", b"5;" + b"x" * 12 + b"\r\n", b"1;xxxxxxx\r\na\r\n" * 3, b"5;\r\nhello", b"5;a=\r\n",
    b";\r\n",
    b"5;a b\r\n", b"0\r\n X: y\r\n\r\n", b"0\r\nX: y\n", b"20\r\n" + b"a" * 32 + b"\r\n9\r\n",
]  # fmt: skip
ENDS = [*[b"\r\n"] * 30, b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n ", b"\r\n\r\n"]


@st.composite
def almost_messages(draw: st.DrawFn, lines: list[bytes]) -> bytes:
    """Messages of which each piece is right or nearly, then with a few bytes set, put in or left out."""
    stream = bytearray()
    for _ in range(draw(st.integers(1, 3))):
        stream += draw(st.sampled_from([b"", b"", b"", b"", b"\r\n", b"\r\n\r\n", b"\n"]))
        for line in [draw(st.sampled_from(lines)), *draw(st.lists(st.sampled_from(FIELDS), max_size=7))]:
            stream += line + draw(st.sampled_from(ENDS))
        stream += b"\r\n" + draw(st.sampled_from(BODIES))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(stream)))
        how = draw(st.sampled_from(["set", "put", "cut"]))
        if how == "set" and at < len(stream):
            stream[at] = draw(st.integers(0, 255))
        elif how == "put":
            stream[at:at] = draw(st.binary(max_size=3))
        else:
            del stream[at : at + draw(st.integers(1, 20))]
    return bytes(stream)


almost_requests = almost_messages(LINES)
almost_responses = almost_messages(STATUSES)
