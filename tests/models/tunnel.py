"""The HTTP message reader in plain Python: the oracle of `_tunnel`'s property tests.

Written from RFC 9112 and RFC 3986 as a descent over the whole stream, with their grammars as regular expressions: it
sees everything at once, starts from the first byte each time, and is never in a hurry.
"""

from __future__ import annotations

import re
import string
from typing import NamedTuple

ALNUM = (string.ascii_letters + string.digits).encode()
TOKEN = frozenset(ALNUM + b"!#$%&'*+-.^_`|~")
DIGITS = frozenset(string.digits.encode())
HEX = frozenset(string.hexdigits.encode())
URI = frozenset(ALNUM + b"-._~:/?[]@!$&'()*+,;=%")
TEXT = frozenset({0x09, 0x20, *range(0x21, 0x7F), *range(0x80, 0x100)})
QUOTED = TEXT - frozenset(b'"\\')

REG_NAME = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*")
PATH = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*")
IN_BRACKETS = re.compile(rb"\[[0-9A-Fa-f:.]*")
ORIGIN = re.compile(rb"https?://", re.IGNORECASE)
WORD = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]*")


class Limits(NamedTuple):
    line: int = 8192
    fields: int = 64
    head: int = 16384
    body: int = 1 << 20
    extension: int = 256
    extensions: int = 4096


Fault = tuple[int, int]  # offset, status
Event = tuple[
    object, ...
]  # ("request", method, target, version, headers), ("response", ...), ("data", bytes), ("end", keep)


class Short(Exception):
    """The stream's bytes are used up."""


class Bad(Exception):
    def __init__(self, at: int, status: int = 400) -> None:
        super().__init__(at, status)
        self.fault: Fault = at, status


class Cursor:
    """A place in the stream, and the limit on what is being read there."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.stop = 0
        self.over = 0

    def limit(self, size: int, status: int) -> None:
        self.stop = self.at + size
        self.over = status

    def peek(self) -> int:
        if self.at == len(self.data):
            raise Short
        if self.at >= self.stop:
            raise Bad(self.at, self.over)
        return self.data[self.at]

    def one(self, allowed: frozenset[int] | bytes) -> int:
        byte = self.peek()
        if byte not in allowed:
            raise Bad(self.at)
        self.at += 1
        return byte

    def run(self, allowed: frozenset[int]) -> bytes:
        begin = self.at
        while self.peek() in allowed:
            self.at += 1
        return self.data[begin : self.at]

    def word(self, allowed: frozenset[int]) -> bytes:
        return bytes([self.one(allowed)]) + self.run(allowed)

    def each(self, text: bytes) -> None:
        for byte in text:
            self.one(bytes([byte]))


class Head:
    """A head, and what it says of the body."""

    def __init__(self) -> None:
        self.start = 0
        self.method = b""
        self.target = b""
        self.version = b""
        self.status = 0
        self.reason = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.length: int | None = None
        self.length_at = 0
        self.chunked = False
        self.hosts = 0
        self.close = False


def bad_authority(text: bytes, with_port: bool) -> int | None:
    """Where `text` stops being host [":" port]."""
    if text.startswith(b"["):
        found = IN_BRACKETS.match(text)
        assert found
        end = found.end()
        if end < 3 or text[end : end + 1] != b"]":
            return end
        end += 1
    else:
        found = REG_NAME.match(text)
        assert found
        end = found.end()
        if not end:
            return 0
    if end == len(text):
        return end if with_port else None
    if text[end : end + 1] != b":":
        return end
    port = text[end + 1 :]
    for size in range(1, len(port) + 1):
        if port[size - 1] not in DIGITS or int(port[:size]) > 65535:
            return end + size
    return end + 1 if with_port and not int(port or b"0") else None


def bad_target(method: bytes, target: bytes) -> int | None:
    """Where `target` stops being one that the method may have."""
    if method == b"CONNECT":
        return bad_authority(target, True)
    if target.startswith(b"*"):
        return 1 if len(target) > 1 else None if method == b"OPTIONS" else 0
    begin = 0
    if not target.startswith(b"/"):
        origin = ORIGIN.match(target)
        if origin is None:
            return 0
        authority = re.split(rb"[/?]", target[origin.end() :])[0]
        bad = bad_authority(authority, False)
        if bad is not None:
            return origin.end() + bad
        begin = origin.end() + len(authority)
    path = PATH.match(target, begin)
    assert path
    return path.end() if path.end() < len(target) else None


def elements(value: bytes) -> list[bytes]:
    return [element.strip(b" \t") for element in value.split(b",")]


def crlf(cursor: Cursor) -> None:
    cursor.each(b"\r\n")


def version(cursor: Cursor) -> bytes:
    begin = cursor.at
    cursor.each(b"HTTP/")
    major = cursor.one(DIGITS)
    cursor.each(b".")
    minor = cursor.one(DIGITS)
    if (major, minor) not in ((0x31, 0x30), (0x31, 0x31)):
        raise Bad(begin, 505)
    return bytes([major, 0x2E, minor])


def request_line(cursor: Cursor, head: Head, limits: Limits) -> None:
    cursor.limit(limits.line, 501)
    head.method = cursor.word(TOKEN)
    cursor.one(b" ")
    cursor.over = 414
    begin = cursor.at
    head.target = cursor.run(URI)
    if cursor.peek() != 0x20:
        raise Bad(cursor.at)
    bad = bad_target(head.method, head.target)
    if bad is not None:
        raise Bad(begin + bad)
    cursor.one(b" ")
    head.version = version(cursor)
    crlf(cursor)


def status_line(cursor: Cursor, head: Head, limits: Limits) -> None:
    cursor.limit(limits.line, 414)
    head.version = version(cursor)
    cursor.one(b" ")
    head.status = int(bytes([cursor.one(b"12345"), cursor.one(DIGITS), cursor.one(DIGITS)]))
    cursor.one(b" ")
    head.reason = cursor.run(TEXT)
    crlf(cursor)


def frame(head: Head, request: bool, name: bytes, value: bytes, name_at: int, value_at: int) -> None:
    """What one field says of the body."""
    if name == b"host" and request:
        if head.hosts:
            raise Bad(name_at)
        bad = bad_authority(value, False)
        if bad is not None:
            raise Bad(value_at + bad)
        head.hosts += 1
    elif name == b"connection":
        at = 0
        for element in value.split(b","):
            stripped = element.strip(b" \t")
            word = WORD.match(stripped)
            assert word
            if word.end() < len(stripped):
                raise Bad(value_at + at + len(element) - len(element.lstrip(b" \t")) + word.end())
            head.close |= stripped.lower() == b"close"
            at += len(element) + 1
    elif name == b"content-length":
        if head.length is not None or head.chunked:
            raise Bad(name_at)
        good = re.match(rb"[0-9]*", value)
        assert good
        if not value or good.end() < len(value):
            raise Bad(value_at + good.end())
        head.length, head.length_at = int(value), value_at
    elif name == b"transfer-encoding":
        if head.chunked or head.length is not None or head.version == b"1.0":
            raise Bad(name_at)
        codings = [coding.lower() for coding in elements(value)]
        if codings[-1] != b"chunked" or b"chunked" in codings[:-1] or not all(map(WORD.fullmatch, codings)):
            raise Bad(value_at)
        if b"" in codings:
            raise Bad(value_at)
        if len(codings) > 1:
            raise Bad(value_at, 501)
        head.chunked = True


def fields(cursor: Cursor, limits: Limits, head: Head | None, request: bool = False) -> None:
    """Fields and the empty line; trailers without a head."""
    cursor.limit(limits.head, 431)
    count = 0
    while cursor.peek() != 0x0D:
        if count == limits.fields:
            raise Bad(cursor.at, 431)
        count += 1
        name_at = cursor.at
        name = cursor.word(TOKEN).lower()
        cursor.one(b":")
        begin = cursor.at
        raw = cursor.run(TEXT)
        crlf(cursor)
        if head is not None:
            value_at = begin + len(raw) - len(raw.lstrip(b" \t"))
            value = raw.strip(b" \t")
            frame(head, request, name, value, name_at, value_at)
            head.headers.append((name, value))
    crlf(cursor)


class Reading:
    """One stream, read from its first byte."""

    def __init__(self, data: bytes, limits: Limits, asked: bytes | None, ended: bool) -> None:
        self.cursor = Cursor(data)
        self.data = data
        self.limits = limits
        self.asked = asked
        self.request = asked is None
        self.ended = ended
        self.events: list[Event] = []
        self.begun = not self.request  # something is owed

    def run(self) -> Fault | None:
        try:
            while self.message():
                pass
            if self.cursor.at < len(self.data):
                return self.cursor.at, 400
        except Bad as bad:
            return bad.fault
        except Short:
            if self.ended and self.begun:
                return len(self.data), 400
        return None

    def some(self, size: int) -> None:
        """So many bytes of the body, or what there is of them."""
        piece = self.data[self.cursor.at : self.cursor.at + size]
        if piece:
            last = self.events[-1]
            if last[0] == "data":
                assert isinstance(last[1], bytes)
                self.events[-1] = ("data", last[1] + piece)
            else:
                self.events.append(("data", piece))
        self.cursor.at += len(piece)
        if len(piece) < size:
            raise Short

    def head(self) -> Head:
        cursor = self.cursor
        head = Head()
        cursor.limit(2, 400)
        if self.request and cursor.peek() == 0x0D:
            self.begun = True
            crlf(cursor)
            self.begun = False
            cursor.limit(1, 400)
        if cursor.peek():
            self.begun = True
        head.start = cursor.at
        (request_line if self.request else status_line)(cursor, head, self.limits)
        head.close = head.version == b"1.0"
        fields(cursor, self.limits, head, self.request)
        if self.request and head.version == b"1.1" and not head.hosts:
            raise Bad(cursor.at - 1)
        return head

    def message(self) -> bool:
        """Read one message; whether another may follow."""
        if self.request:
            head = self.head()
            bodyless = head.length is None and not head.chunked
            self.announced(head, bodyless)
            self.events.append(("request", head.method, head.target, head.version, head.headers))
            head.close |= head.method == b"CONNECT"
        else:
            interim = 0
            while (head := self.head()).status < 200:
                interim += 1
                if head.status == 101 or interim > 8:
                    raise Bad(head.start + 9)
            granted = self.asked == b"CONNECT" and head.status < 300
            bodyless = self.asked == b"HEAD" or head.status in (204, 304) or granted
            self.announced(head, bodyless)
            self.events.append(("response", head.status, head.reason, head.version, head.headers))
            if granted:
                self.events.append(("end", False))
                self.begun = False
                raise Short
        if not bodyless:
            self.body(head)
        self.events.append(("end", not head.close))
        self.begun = False
        return self.request and not head.close

    def announced(self, head: Head, bodyless: bool) -> None:
        """A body that says that it is too large is none to begin with."""
        if not bodyless and not head.chunked and head.length is not None and head.length > self.limits.body:
            raise Bad(head.length_at, 413)

    def body(self, head: Head) -> None:
        if head.chunked:
            self.chunks()
        elif head.length is not None:
            self.some(head.length)
        else:
            head.close = True
            self.some(min(self.limits.body, len(self.data) - self.cursor.at))
            if self.cursor.at < len(self.data):
                raise Bad(self.cursor.at, 413)
            if not self.ended:
                raise Short

    def chunks(self) -> None:
        cursor = self.cursor
        total = spent = 0
        while True:
            cursor.limit(1 << 62, 0)
            digits = b""
            while len(digits) < 16 and cursor.peek() in HEX:
                digits += bytes([cursor.one(HEX)])
                if total + int(digits, 16) > self.limits.body:
                    raise Bad(cursor.at - 1, 413)
            if not digits:
                raise Bad(cursor.at)
            begin = cursor.at
            cursor.limit(min(self.limits.extension, self.limits.extensions - spent), 413)
            if cursor.at < len(self.data) and cursor.data[cursor.at] not in b";\r":
                raise Bad(cursor.at)
            self.extensions()
            spent += cursor.at - begin
            cursor.limit(2, 0)
            crlf(cursor)
            size = int(digits, 16)
            if not size:
                break
            self.some(size)
            total += size
            cursor.limit(2, 0)
            crlf(cursor)
        fields(cursor, self.limits, None)

    def line_ends(self) -> bool:
        """Whether the next byte is the CR that ends the extensions; that one is not counted among them."""
        if self.cursor.at == len(self.data):
            raise Short
        return self.data[self.cursor.at] == 0x0D

    def extensions(self) -> None:
        cursor = self.cursor
        while not self.line_ends():
            cursor.one(b";")
            self.extension_word()
            if not self.line_ends() and cursor.peek() == ord("="):
                cursor.one(b"=")
                if cursor.peek() != ord('"'):
                    self.extension_word()
                    continue
                cursor.one(b'"')
                while cursor.peek() != ord('"'):
                    if cursor.one(QUOTED | frozenset(b"\\")) == ord("\\"):
                        cursor.one(TEXT)
                cursor.one(b'"')

    def extension_word(self) -> None:
        self.cursor.one(TOKEN)
        while not self.line_ends() and self.cursor.peek() in TOKEN:
            self.cursor.at += 1


ANY = Limits()


def read(
    data: bytes, limits: Limits = ANY, asked: bytes | None = None, ended: bool = False
) -> tuple[list[Event], Fault | None]:
    """What a stream's bytes hold: requests, or the one response to the method that was `asked`; and what is wrong."""
    reading = Reading(data, limits, asked, ended)
    fault = reading.run()
    return reading.events, fault
