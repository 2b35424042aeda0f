"""HTTP's sets of characters, byte by byte, each where a message shows it, against their definitions in the RFCs."""

from __future__ import annotations

import string
from collections.abc import Callable

import pytest

from imcore.errors import TunnelError
from tests.http_streams import requests

LETTERS, DIGITS = string.ascii_letters, string.digits
UNRESERVED = LETTERS + DIGITS + "-._~"  # RFC 3986, 2.3
SUB_DELIMS = "!$&'()*+,;="  # RFC 3986, 2.2
PCHAR = UNRESERVED + SUB_DELIMS + ":@"  # RFC 3986, 3.3, but for "%"
TCHAR = LETTERS + DIGITS + "!#$%&'*+-.^_`|~"  # RFC 9110, 5.6.2
TEXT = "\t " + "".join(map(chr, [*range(0x21, 0x7F), *range(0x80, 0x100)]))  # RFC 9110, 5.5, with the space around it

HOST = b"Host: a\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HOST + b"\r\n"


def taken(stream: bytes) -> bool:
    try:
        list(requests().feed(stream))
    except TunnelError:
        return False
    return True


@pytest.mark.parametrize(
    ("stream", "allowed"),
    [
        pytest.param(lambda c: b"G" + c + b" / HTTP/1.1\r\n", TCHAR, id="method"),
        pytest.param(lambda c: b"GET / HTTP/1.1\r\nX" + c + b": y\r\n", TCHAR + ":", id="name"),
        pytest.param(lambda c: b"GET / HTTP/1.1\r\nConnection: x" + c + b"y\r\n", TCHAR + ",", id="connection"),
        pytest.param(lambda c: b"GET /" + c + b"x HTTP/1.1\r\n", PCHAR + "/?", id="path"),
        pytest.param(
            lambda c: b"GET http://a" + c + b"x/ HTTP/1.1\r\n", UNRESERVED + SUB_DELIMS + "/?", id="authority"
        ),
        pytest.param(lambda c: b"GET / HTTP/1.1\r\nHost: a" + c + b"b\r\n", UNRESERVED + SUB_DELIMS, id="host"),
        pytest.param(lambda c: b"GET / HTTP/1.1\r\nHost: [:" + c + b"]\r\n", string.hexdigits + ".:", id="address"),
        pytest.param(lambda c: b"GET / HTTP/1.1\r\nHost: a:" + c + b"\r\n", DIGITS + "\t ", id="port"),
        pytest.param(lambda c: b"GET /%4" + c + b" HTTP/1.1\r\n", string.hexdigits, id="escape"),
        pytest.param(lambda c: b"GET / HTTP/1.1\r\nX: y" + c + b"z\r\n", TEXT, id="value"),
        pytest.param(lambda c: b"GET / HTTP/1.1\r\nContent-Length: 1" + c + b"1\r\n", DIGITS, id="length"),
        pytest.param(lambda c: CHUNKED + c + b"\r\n", string.hexdigits, id="size"),
        pytest.param(lambda c: CHUNKED + b"1;a" + c + b"b\r\n", TCHAR + "=;", id="extension"),
        pytest.param(lambda c: CHUNKED + b'1;a="' + c + b'"\r\n', set(TEXT) - set('"\\'), id="quoted"),
        pytest.param(lambda c: CHUNKED + b'1;a="\\' + c + b'"\r\n', TEXT, id="escaped"),
    ],
)
def test_a_byte_is_taken_where_the_grammar_has_it_and_nowhere_else(
    stream: Callable[[bytes], bytes], allowed: str | set[str]
) -> None:
    assert {chr(n) for n in range(256) if taken(stream(bytes([n])))} == set(allowed)
