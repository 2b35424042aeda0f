"""Where the verdicts of h11 and httptools on a stream part from ours: each difference with a stream that shows it.

docs/http.md says why. `side`: "we refuse" what they take, or "they refuse" what we take; `reason` is how the text of
whoever refuses begins.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.http_streams import chunked

__all__ = ["DIFFERENCES", "Difference"]


class Difference(NamedTuple):
    what: str
    partner: str
    side: str
    reason: str
    stream: bytes
    asked: bytes | None = None


WE, THEY = "we refuse", "they refuse"
H11, HTTPTOOLS = "h11", "httptools"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CODED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
NO = b"HTTP/1.1 204 \r\n"
ONE = b"1\r\nx\r\n0\r\n\r\n"
LENGTH = b"Content-Length: 1\r\n"

OTHER_VERSION = "expected HTTP/1.1 or HTTP/1.0, got another"
BAD_VERSION = "expected HTTP/1.1 or HTTP/1.0"
BARE_LF = "expected a carriage return before"
BARE_CR = "expected a line feed behind"
FOLDED = "expected a field or the empty line"
BAD_VALUE = "expected a field's value"
BAD_HOST = "expected a host"
BAD_CONNECTION = "expected a list of tokens"
BAD_TARGET = "expected a target"
BAD_METHOD = "expected a method"
BAD_LENGTH = "expected digits"
TWO_LENGTHS = "expected one Content-Length"
BOTH = "expected Content-Length or"
IN_1_0 = "expected no Transfer-Encoding"
BAD_CODING = "expected Transfer-Encoding to be chunked"
TWO_CODINGS = "expected one Transfer-Encoding"
BAD_SIZE = "expected a chunk size"
BAD_STATUS = "expected a space, a status"
BAD_REASON = "expected a reason"

DIFFERENCES = [
    Difference("a version that is neither 1.0 nor 1.1", H11, WE, OTHER_VERSION, b"GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
    Difference(
        "a version that is neither 1.0 nor 1.1", HTTPTOOLS, WE, OTHER_VERSION, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"
    ),
    Difference("HTTP/0.9", HTTPTOOLS, WE, BAD_TARGET, b"GET /\r\n\r\n"),
    Difference("a line that ends with LF alone", H11, WE, BARE_LF, b"GET / HTTP/1.1\nHost: a\n\n"),
    Difference("LF, or more than one empty line, before a message", HTTPTOOLS, WE, BAD_METHOD, b"\n" + GET + b"\r\n"),
    Difference(
        "LF, or more than one empty line, before a message", HTTPTOOLS, WE, BAD_VERSION, b"\r\n" + NO + b"\r\n", b"GET"
    ),
    Difference("CR alone before a message", HTTPTOOLS, WE, BARE_CR, b"\r" + GET + b"\r\n"),
    Difference("one empty line before a request", H11, THEY, "no request line", b"\r\n" + GET + b"\r\n"),
    Difference("a method of its own", HTTPTOOLS, THEY, "Invalid method", b"LOOK / HTTP/1.1\r\nHost: a\r\n\r\n"),
    Difference(
        "a method of its own", HTTPTOOLS, THEY, "Expected space after method", b"GETX / HTTP/1.1\r\nHost: a\r\n\r\n"
    ),
    Difference("a target that its method may not have", H11, WE, BAD_TARGET, b"GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
    Difference(
        "a target that its method may not have", HTTPTOOLS, WE, BAD_TARGET, b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"
    ),
    Difference("no Host in HTTP/1.1", HTTPTOOLS, WE, "expected a Host field", b"GET / HTTP/1.1\r\n\r\n"),
    Difference("more than one Host", HTTPTOOLS, WE, "expected one Host field", GET + b"Host: a\r\n\r\n"),
    Difference("a Host that is none", H11, WE, BAD_HOST, b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    Difference("a Host that is none", HTTPTOOLS, WE, BAD_HOST, b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    Difference("a folded field", H11, WE, FOLDED, GET + b"X: y\r\n z\r\n\r\n"),
    Difference("a control character in a value", H11, WE, BAD_VALUE, GET + b"X: a\x7fb\r\n\r\n"),
    Difference("a Connection that is no list of tokens", H11, WE, BAD_CONNECTION, GET + b"Connection: a;b\r\n\r\n"),
    Difference(
        "a Connection that is no list of tokens", HTTPTOOLS, WE, BAD_CONNECTION, GET + b"Connection: a;b\r\n\r\n"
    ),
    Difference("the same Content-Length twice", H11, WE, TWO_LENGTHS, POST + LENGTH + LENGTH + b"\r\nx"),
    Difference("the same Content-Length twice", H11, WE, BAD_LENGTH, POST + b"Content-Length: 1, 1\r\n\r\nx"),
    Difference("Content-Length beside Transfer-Encoding", H11, WE, BOTH, CODED[:-2] + LENGTH + b"\r\n" + ONE),
    Difference(
        "Transfer-Encoding in HTTP/1.0", H11, WE, IN_1_0, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + ONE
    ),
    Difference(
        "Transfer-Encoding in HTTP/1.0",
        HTTPTOOLS,
        WE,
        IN_1_0,
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + ONE,
    ),
    Difference(
        "a coding beside chunked", HTTPTOOLS, WE, BAD_CODING, POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + ONE
    ),
    Difference(
        "a second Transfer-Encoding",
        HTTPTOOLS,
        WE,
        TWO_CODINGS,
        NO + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n",
        b"GET",
    ),
    Difference("a space behind a chunk's size", H11, WE, BAD_SIZE, CODED + b"1 \r\nx\r\n0\r\n\r\n"),
    Difference(
        "a chunk extension that is none", H11, WE, "expected a chunk extension", CODED + b"1;=\r\nx\r\n0\r\n\r\n"
    ),
    Difference("a body behind CONNECT", HTTPTOOLS, WE, BAD_SIZE, CODED.replace(b"POST /", b"CONNECT a:1") + b"?"),
    Difference(
        "a status line without its second space", H11, WE, BAD_STATUS, b"HTTP/1.1 200\r\n" + LENGTH + b"\r\nx", b"GET"
    ),
    Difference(
        "a status line without its second space",
        HTTPTOOLS,
        WE,
        BAD_STATUS,
        b"HTTP/1.1 200\r\n" + LENGTH + b"\r\nx",
        b"GET",
    ),
    Difference(
        "a control character in a reason", H11, WE, BAD_REASON, b"HTTP/1.1 200 a\x0fb\r\n" + LENGTH + b"\r\nx", b"GET"
    ),
    Difference(
        "a control character in a reason",
        HTTPTOOLS,
        WE,
        BAD_REASON,
        b"HTTP/1.1 200 a\x00b\r\n" + LENGTH + b"\r\nx",
        b"GET",
    ),
    Difference("a response that nobody asked for", HTTPTOOLS, WE, "expected no response", (NO + b"\r\n") * 2, b"GET"),
    Difference(
        "Connection: close in an interim response",
        HTTPTOOLS,
        THEY,
        "Data after `Connection: close`",
        b"HTTP/1.1 100 \r\nConnection: close\r\n\r\n" + NO + b"\r\n",
        b"GET",
    ),
]

assert chunked(b"x") == ONE
