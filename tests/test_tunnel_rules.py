"""The rules by which HTTP messages are read (RFC 9110, RFC 9112), each by example, from every cut. A caret stands
before the byte that breaks the rule: it is the one that the error names."""

from __future__ import annotations

from typing import Any

import pytest

from imcore._tunnel import RequestReader
from imcore.errors import TunnelError
from tests.http_streams import ANY, Seen, chunked, cuts, requests, responses, seen
from tests.models.tunnel import Event, Limits, read

CARET = "‸"
HOST = "Host: a\r\n"
POST = f"POST /im HTTP/1.1\r\n{HOST}"
CHUNKED = f"{POST}Transfer-Encoding: chunked\r\n\r\n"


def raw(text: str) -> bytes:
    return text.encode("latin-1")


def outcome(stream: bytes, limits: Limits, asked: bytes | None, ended: bool) -> Seen:
    """What the reader makes of it, which is the same from every cut, and what the model says."""
    found = read(stream, limits, asked, ended)
    for chunks in cuts(stream):
        reader = requests(limits) if asked is None else responses(limits, asked)
        assert seen(reader, chunks, ended) == found, chunks
    return found


def taken(text: str | bytes, limits: Limits = ANY, asked: bytes | None = None, ended: bool = False) -> list[Event]:
    """The events of a stream in which nothing is wrong."""
    events, fault = outcome(raw(text) if isinstance(text, str) else text, limits, asked, ended)
    assert fault is None, fault
    return events


def kinds(text: str | bytes, **options: Any) -> list[object]:
    return [event[0] for event in taken(text, **options)]


def refused(
    text: str, status: int = 400, limits: Limits = ANY, asked: bytes | None = None, ended: bool = False
) -> list[Event]:
    """Refused at the caret with this status; the events before. What comes behind is never looked at."""
    assert text.count(CARET) == 1
    at = text.index(CARET)
    stream = raw(text.replace(CARET, ""))
    behind = b"" if ended else raw(POST) + b"\r\n"
    events, fault = outcome(stream + behind, limits, asked, ended)
    assert fault == (at, status)
    return events


def head(fields: str, line: str = "POST /im HTTP/1.1") -> str:
    return f"{line}\r\n{fields}\r\n"


class TestTheRequestLine:
    """RFC 9112, 3."""

    @pytest.mark.parametrize(
        "line",
        ["POST /im HTTP/1.1", "GET /a?b=c%20d HTTP/1.1", "G!#$%&'*+-.^_`|~9 / HTTP/1.0", "get / HTTP/1.1",
         "GET http://a:80/x?y HTTP/1.1", "GET HTTPS://[::1] HTTP/1.1", "OPTIONS * HTTP/1.1",
         "CONNECT a.b:443 HTTP/1.1", "CONNECT [::1]:80 HTTP/1.1", "GET /?/:@!$&'()*+,;= HTTP/1.1"],
    )  # fmt: skip
    def test_is_a_method_a_target_and_a_version(self, line: str) -> None:
        method, target, version = line.encode().split(b" ")
        [(kind, *found, _), _] = taken(head(HOST, line))
        assert (kind, found) == ("request", [method, target, version.removeprefix(b"HTTP/")])

    @pytest.mark.parametrize(
        "line",
        ["GET ‸ / HTTP/1.1", "GET /‸\tHTTP/1.1", "GET / ‸ HTTP/1.1", "GET / HTTP/1.1‸ ", "GET / HTTP/1.1‸\t",
         "GET‸\t/ HTTP/1.1", "GET /a ‸b HTTP/1.1"],
    )  # fmt: skip
    def test_has_single_spaces_and_no_other(self, line: str) -> None:
        refused(head(HOST, line))

    @pytest.mark.parametrize("line", ["‸", "‸ GET /", "G‸(T /", "G‸\x00T /", "G‸\x7fT /", "G‸\xe9T /", "‸\x00", "‸:"])
    def test_has_a_method_of_token_characters(self, line: str) -> None:
        refused(f"{line} HTTP/1.1\r\n{HOST}\r\n")

    @pytest.mark.parametrize(
        "target",
        ["/a‸#b", "/a‸\\b", "/a‸\"", "/a‸<b>", "/a‸{b}", "/a‸|b", "/a‸^b", "/a‸`b", "/‸\xe9", "/‸\x00", "/‸\x7f",
         "/‸%4", "/‸%zz", "/a‸[b]"],
    )  # fmt: skip
    def test_has_a_target_of_a_uris_characters_without_a_fragment(self, target: str) -> None:
        refused(head(HOST, f"GET {target} HTTP/1.1"))

    @pytest.mark.parametrize(
        ("method", "target"),
        [("GET", "‸*"), ("OPTIONS", "*‸/"), ("GET", "‸a"), ("GET", "‸a:80"), ("GET", "‸ftp://a/"),
         ("GET", "http://‸/x"), ("GET", "http://‸:80/"), ("GET", "http://u‸@a/"), ("GET", "http://u:‸p@a/"),
         ("GET", "http://a:‸x/"), ("GET", "http://a:8000‸0/"), ("CONNECT", "a‸"), ("CONNECT", "a:‸"),
         ("CONNECT", "a:‸0"), ("CONNECT", "‸/"), ("CONNECT", "a:443‸/"), ("CONNECT", "http:‸//a:80"),
         ("GET", "http://[::1‸/"), ("GET", "http://[‸]/")],
    )  # fmt: skip
    def test_has_a_target_in_the_form_that_the_method_allows(self, method: str, target: str) -> None:
        refused(head(HOST, f"{method} {target} HTTP/1.1"))

    @pytest.mark.parametrize(
        "version", ["‸http/1.1", "HTTP/1‸,1", "HTTP/‸x.1", "HTTP/1.‸x", "HTTP/1.1‸1", "HTTP‸ 1.1", "‸", "HTTP/1‸"]
    )
    def test_names_the_version_as_it_is_written(self, version: str) -> None:
        refused(head(HOST, f"GET / {version}"))

    @pytest.mark.parametrize("version", ["0.9", "1.2", "1.9", "2.0", "3.0"])
    def test_of_another_version_is_505(self, version: str) -> None:
        refused(head(HOST, f"GET / ‸HTTP/{version}"), 505)

    def test_may_follow_one_empty_line_and_not_two(self) -> None:
        assert kinds(f"\r\n{POST}\r\n\r\n{POST}\r\n") == ["request", "end"] * 2
        refused(f"\r\n‸\r\n{POST}\r\n")

    def test_ends_in_time(self) -> None:
        limits = ANY._replace(line=len("POST /im HTTP/1.1\r\n"))
        assert kinds(f"{POST}\r\n", limits=limits) == ["request", "end"]
        refused(f"POST /imm HTTP/1.1\r‸\n{HOST}\r\n", 414, limits)
        refused(f"POST /{'a' * 13}‸a", 414, limits)
        refused(f"{'M' * 19}‸M / HTTP/1.1\r\n", 501, limits)


class TestLineEnds:
    """RFC 9112, 2.2: CRLF, and nothing that somebody may take for it."""

    @pytest.mark.parametrize(
        "text",
        ["GET / HTTP/1.1‸\nHost: a\r\n\r\n", "GET / HTTP/1.1\r‸Host: a\r\n\r\n", "GET / HTTP/1.1\r‸\r\nHost: a\r\n\r\n",
         "GET / HTTP/1.1\r\nHost: a‸\n\r\n", "GET / HTTP/1.1\r\nHost: a\r‸\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n‸\n",
         "GET / HTTP/1.1\r\nHost: a\r\n\r‸X", "GET / HTTP/1.1\r\nHost: a\r\nX: a\r‸b\r\n\r\n", "‸\nGET / HTTP/1.1\r\n",
         "\r‸G", f"{CHUNKED}1‸\nx", f"{CHUNKED}1\r‸x", f"{CHUNKED}1;a‸\nx", f"{CHUNKED}1\r\nx‸\n0\r\n\r\n",
         f"{CHUNKED}1\r\nx\r‸0", f"{CHUNKED}0\r\n‸\n", f"{CHUNKED}0\r\nX: y‸\n\r\n", f"{CHUNKED}0\r\n\r‸X"],
    )  # fmt: skip
    def test_are_whole(self, text: str) -> None:
        refused(text)


class TestFields:
    """RFC 9112, 5; RFC 9110, 5."""

    def test_come_in_their_order_in_lower_case_without_the_space_around_their_values(self) -> None:
        text = f"{POST}X-One:\t a b \t\r\nX-Two:\r\nx-one:c\r\nX!#$%&'*+-.^_`|~9: \x80\xff\r\n\r\n"
        fields = [
            (b"host", b"a"),
            (b"x-one", b"a b"),
            (b"x-two", b""),
            (b"x-one", b"c"),
            (b"x!#$%&'*+-.^_`|~9", b"\x80\xff"),
        ]
        assert taken(text)[0][4] == fields

    @pytest.mark.parametrize("field", ["X‸ : y", "X‸\t: y", "Content-Length‸ : 5"])
    def test_have_no_space_before_the_colon(self, field: str) -> None:
        refused(f"{POST}{field}\r\n\r\n")

    @pytest.mark.parametrize("field", ["‸: y", "‸:"])
    def test_have_a_name(self, field: str) -> None:
        refused(f"{POST}{field}\r\n\r\n")

    @pytest.mark.parametrize(
        "field", ["X‸\r\n", "X‸(: y", "X‸\x00: y", "X‸\x0b: y", "X‸\xe9: y", "‸\x00", "‸@: y", "X‸/Y: z", 'X‸": y']
    )
    def test_have_names_of_token_characters_and_a_colon(self, field: str) -> None:
        refused(f"{POST}{field}\r\n\r\n")

    @pytest.mark.parametrize("fold", [" ", "\t"])
    def test_are_not_folded(self, fold: str) -> None:
        refused(f"{POST}X: y\r\n‸{fold}z\r\n\r\n")
        refused(f"POST / HTTP/1.1\r\n‸{fold}Host: a\r\n\r\n")
        refused(f"{CHUNKED}0\r\nX: y\r\n‸{fold}z\r\n\r\n")

    @pytest.mark.parametrize("byte", [*(chr(n) for n in range(0x20) if chr(n) not in "\t\r"), "\x7f"])
    def test_have_no_control_character_in_their_values(self, byte: str) -> None:
        refused(f"{POST}X: y‸{byte}z\r\n\r\n")
        refused(f"{CHUNKED}0\r\nX: y‸{byte}z\r\n\r\n")

    def test_are_limited_in_number(self) -> None:
        limits = ANY._replace(fields=3)
        assert kinds(f"{POST}X: y\r\nX: y\r\n\r\n", limits=limits) == ["request", "end"]
        refused(f"{POST}X: y\r\nX: y\r\n‸X: y\r\n\r\n", 431, limits)

    def test_are_limited_in_bytes_with_the_empty_line(self) -> None:
        fields = f"{HOST}X: y\r\n\r\n"
        limits = ANY._replace(head=len(fields))
        assert kinds(f"POST / HTTP/1.1\r\n{fields}", limits=limits) == ["request", "end"]
        refused(f"POST / HTTP/1.1\r\n{HOST}X: yy\r\n\r‸\n", 431, limits)
        refused(f"POST / HTTP/1.1\r\n{HOST}X: {'y' * 5}‸y", 431, limits)


class TestHost:
    """RFC 9112, 3.2."""

    def test_is_there_in_1_1_and_may_be_missing_in_1_0(self) -> None:
        assert kinds("GET / HTTP/1.0\r\n\r\n") == ["request", "end"]
        refused("GET / HTTP/1.1\r\nX: y\r\n\r‸\n")

    @pytest.mark.parametrize("version", ["1.0", "1.1"])
    def test_is_there_once(self, version: str) -> None:
        refused(f"GET / HTTP/{version}\r\nHost: a\r\n‸Host: a\r\n\r\n")
        refused(f"GET / HTTP/{version}\r\nHost: a\r\nX: y\r\n‸hOST: b\r\n\r\n")

    @pytest.mark.parametrize(
        "host", ["a", "a.b-c_d~", "a:80", "a:", "127.0.0.1:8080", "[::1]", "[fe80::1]:443", "a%20b", "!$&'()*+,;="]
    )
    def test_is_a_host_and_perhaps_a_port(self, host: str) -> None:
        assert kinds(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n") == ["request", "end"]

    @pytest.mark.parametrize(
        "host",
        ["‸", "a‸ b", "a‸/b", "a‸?b", "a‸@b", "u‸@a", "a:‸x", "a:6553‸6", "a:80‸:80", "‸:80", "[::1‸", "[::1]‸x",
         "[‸x]", "[‸]", "a‸%2", "a‸%zz", "a‸\xe9", "http:‸//a"],
    )  # fmt: skip
    def test_is_nothing_else(self, host: str) -> None:
        refused(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")


class TestContentLength:
    """RFC 9112, 6.2 and 6.3."""

    @pytest.mark.parametrize(("length", "size"), [("5", 5), ("0", 0), ("0000005", 5), ("00", 0), ("\t5 ", 5)])
    def test_is_digits(self, length: str, size: int) -> None:
        events = taken(f"{POST}Content-Length: {length}\r\n\r\n{'x' * size}")
        assert events[1:] == [*([("data", b"x" * size)] if size else []), ("end", True)]

    @pytest.mark.parametrize(
        "length",
        ["‸", "‸+5", "‸-5", "5‸,5", "5‸, 5", "5‸ 5", "0‸x5", "5‸.0", "5‸e1", "‸five", "5‸_0", "‸\xb2", "‸\"5\"", "5‸;"],
    )  # fmt: skip
    def test_is_nothing_else(self, length: str) -> None:
        refused(f"{POST}Content-Length: {length}\r\n\r\nhello")

    @pytest.mark.parametrize("second", ["5", "6"])
    def test_is_there_once_even_if_it_says_the_same(self, second: str) -> None:
        refused(f"{POST}Content-Length: 5\r\n‸Content-Length: {second}\r\n\r\nhello")
        refused(f"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n‸content-length: {second}\r\n\r\nhello", asked=b"GET")

    @pytest.mark.parametrize("length", [str(2**n) for n in (20, 31, 32, 48, 63, 64, 128)] + ["9" * 400, "1" + "0" * 60])
    def test_is_checked_against_the_limit_without_overflow(self, length: str) -> None:
        limits = ANY._replace(body=2**20 - 1)
        refused(f"{POST}Content-Length: ‸{length}\r\n\r\n", 413, limits)
        refused(f"HTTP/1.1 200 OK\r\nContent-Length: ‸{length}\r\n\r\n", 413, limits, b"GET")

    def test_of_the_limit_itself_is_taken(self) -> None:
        stream = raw(f"{POST}Content-Length: 40\r\n\r\n{'x' * 40}")
        assert kinds(stream, limits=ANY._replace(body=40)) == ["request", "data", "end"]
        assert kinds(stream[:-40], limits=ANY._replace(body=2**48)) == ["request"]

    def test_with_transfer_encoding_is_refused_in_either_order(self) -> None:
        length, coding = "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"
        for line, asked in ((POST, None), ("HTTP/1.1 200 OK\r\n", b"GET")):
            refused(f"{line}{length}‸{coding}\r\n", asked=asked)
            refused(f"{line}{coding}‸{length}\r\n", asked=asked)
            refused(f"{line}{coding}‸Content-Length: 0\r\n\r\n", asked=asked)


class TestTransferEncoding:
    """RFC 9112, 6.1."""

    @pytest.mark.parametrize("coding", ["chunked", "Chunked", "CHUNKED", "\tchunked "])
    def test_is_chunked_in_any_case(self, coding: str) -> None:
        stream = raw(f"{POST}Transfer-Encoding: {coding}\r\n\r\n") + chunked(b"hello")
        assert taken(stream)[1:] == [("data", b"hello"), ("end", True)]

    @pytest.mark.parametrize(
        "coding",
        ["", "identity", "gzip", "xchunked", "chunkedx", "chunked;a=b", "\x0bchunked", "chunked\xa0",
         "chunked, identity", "chunked, chunked", "chunked, gzip", "chunked,", ",chunked", "gzip,,chunked",
         "chun ked", "\"chunked\"", "gzip chunked"],
    )  # fmt: skip
    def test_is_nothing_else(self, coding: str) -> None:
        refused(f"{POST}Transfer-Encoding: ‸{coding}\r\n\r\n")

    def test_that_is_right_but_more_than_chunked_is_501(self) -> None:
        refused(f"{POST}Transfer-Encoding: ‸gzip, chunked\r\n\r\n", 501)

    def test_is_there_once(self) -> None:
        refused(f"{POST}Transfer-Encoding: chunked\r\n‸Transfer-Encoding: chunked\r\n\r\n")
        refused(f"{POST}Transfer-Encoding: chunked\r\n‸Transfer-Encoding: identity\r\n\r\n")

    def test_does_not_come_from_1_0(self) -> None:
        refused(f"POST / HTTP/1.0\r\n{HOST}‸Transfer-Encoding: chunked\r\n\r\n")
        refused("HTTP/1.0 200 OK\r\n‸Transfer-Encoding: chunked\r\n\r\n", asked=b"GET")


class TestChunks:
    """RFC 9112, 7.1."""

    @pytest.mark.parametrize("size", ["5", "05", "0000000000000005"])
    def test_begin_with_a_size_of_1_to_16_hexadecimal_digits(self, size: str) -> None:
        assert taken(f"{CHUNKED}{size}\r\nhello\r\n000\r\n\r\n")[1:] == [("data", b"hello"), ("end", True)]

    def test_count_in_hexadecimal_of_either_case(self) -> None:
        for size in ("1A", "1a"):
            assert taken(f"{CHUNKED}{size}\r\n{'x' * 26}\r\n0\r\n\r\n")[1] == ("data", b"x" * 26)

    @pytest.mark.parametrize(
        "size",
        ["‸", "‸;a", "‸+5", "‸-5", "0‸x5", "‸ 5", "5‸ ", "5‸\t", "‸g", "5‸g", "5‸,", "‸\x00", "5‸\x00",
         "0000000000000000‸5"],
    )  # fmt: skip
    def test_begin_with_nothing_else(self, size: str) -> None:
        refused(f"{CHUNKED}{size}\r\nhello\r\n0\r\n\r\n")

    @pytest.mark.parametrize("size", ["2‸9", "0002‸9", "f‸f", "7‸fffffffffffffff", "00000000000000f‸f"])
    def test_are_checked_against_the_limit_digit_by_digit(self, size: str) -> None:
        refused(f"{CHUNKED}{size}\r\n", 413, ANY._replace(body=0x28))

    @pytest.mark.parametrize("size", ["1000000000000‸1", "ffffffffffff‸f", "ffffffffffff‸ffff"])
    def test_do_not_overflow(self, size: str) -> None:
        refused(f"{CHUNKED}{size}\r\n", 413, ANY._replace(body=2**48))

    def test_are_checked_against_the_limit_together(self) -> None:
        limits = ANY._replace(body=40)
        assert kinds(f"{CHUNKED}20\r\n{'x' * 32}\r\n8\r\n{'x' * 8}\r\n0\r\n\r\n", limits=limits) == [
            "request",
            "data",
            "end",
        ]
        refused(f"{CHUNKED}20\r\n{'x' * 32}\r\n‸9\r\n", 413, limits)

    @pytest.mark.parametrize("behind", ["‸x\r\n", "‸0\r\n\r\n", "‸;\r\n", "‸\n", "\r‸\r\n", "‸ \r\n"])
    def test_end_with_a_line_end(self, behind: str) -> None:
        assert refused(f"{CHUNKED}5\r\nhello{behind}")[1:] == [("data", b"hello")]


class TestChunkExtensions:
    """RFC 9112, 7.1.1."""

    @pytest.mark.parametrize("extension", [";a", ";a=b", ";a;b=c;d", ';a="b;\\"\\\\ \t\xe9"', ';a=""', ";!=~"])
    def test_are_ignored(self, extension: str) -> None:
        text = f"{CHUNKED}5{extension}\r\nhello\r\n0{extension}\r\n\r\n"
        assert taken(text)[1:] == [("data", b"hello"), ("end", True)]

    @pytest.mark.parametrize(
        "extension",
        [";‸\r\n", ";a=‸\r\n", ";‸;a", ";‸=b", ";a‸ ", ";‸ a", "‸ ;a", ";a‸ =b", ";a=‸ b", ";a=b‸=c", ';a="b"‸c',
         ';a="‸\x00"', ';a="‸\r\n"', ';a="\\‸\r\n"', ';a="‸\x7f"', ";a‸\x00", ";a‸,b", ";a=b‸\"", ';a‸"b"'],
    )  # fmt: skip
    def test_are_well_formed(self, extension: str) -> None:
        refused(f"{CHUNKED}5{extension}\r\nhello\r\n0\r\n\r\n")

    def test_are_limited_for_each_chunk(self) -> None:
        limits = ANY._replace(extension=12)
        assert kinds(f"{CHUNKED}1;{'x' * 11}\r\nx\r\n0\r\n\r\n", limits=limits) == ["request", "data", "end"]
        refused(f"{CHUNKED}1;{'x' * 11}‸x\r\nx\r\n0\r\n\r\n", 413, limits)

    def test_are_limited_for_a_message(self) -> None:
        limits = ANY._replace(extension=12, extensions=20)
        one = "1;xxxxxxx\r\na\r\n"
        assert kinds(f"{CHUNKED}{one * 2}0;xxx\r\n\r\n" * 3, limits=limits) == ["request", "data", "end"] * 3
        refused(f"{CHUNKED}{one * 2}0;xxx‸x\r\n\r\n", 413, limits)


class TestTrailers:
    """RFC 9112, 7.1.2."""

    def test_are_read_and_dropped(self) -> None:
        text = f"{CHUNKED}5\r\nhello\r\n0\r\nX: y\r\nContent-Length: 7\r\nHost: b\r\nTransfer-Encoding: x\r\n\r\n"
        [request, data, end] = taken(text)
        assert request[4] == [(b"host", b"a"), (b"transfer-encoding", b"chunked")]
        assert (data, end) == (("data", b"hello"), ("end", True))

    def test_do_not_say_whether_the_connection_goes_on(self) -> None:
        assert kinds(f"{CHUNKED}0\r\nConnection: close\r\n\r\n{POST}\r\n") == ["request", "end"] * 2

    @pytest.mark.parametrize("trailer", ["‸: y", "X‸ : y", "X‸\r\n", "X: ‸\x00", "‸ X: y"])
    def test_are_read_as_strictly_as_fields(self, trailer: str) -> None:
        refused(f"{CHUNKED}0\r\n{trailer}\r\n\r\n")

    def test_have_the_limits_of_the_head(self) -> None:
        limits = ANY._replace(fields=3)
        refused(f"{CHUNKED}0\r\nX: y\r\nX: y\r\nX: y\r\n‸X: y\r\n\r\n", 431, limits)
        limits = ANY._replace(head=45)
        room = 45 - len("X: \r\n\r\n")
        assert kinds(f"{CHUNKED}0\r\nX: {'y' * room}\r\n\r\n", limits=limits) == ["request", "end"]
        refused(f"{CHUNKED}0\r\nX: y{'y' * room}\r\n\r‸\n", 431, limits)


class TestConnection:
    """RFC 9112, 9.3 and 9.6."""

    @pytest.mark.parametrize("value", ["close", "Close", "x, close", "close,x", " , CLOSE ,"])
    def test_close_makes_the_message_the_last(self, value: str) -> None:
        events = refused(f"{POST}Connection: {value}\r\n\r\n‸POST")
        assert events[-1] == ("end", False)

    @pytest.mark.parametrize("value", ["keep-alive", "", ",", "closed", "x-close", "not-close, upgrade"])
    def test_without_close_goes_on(self, value: str) -> None:
        assert kinds(f"{POST}Connection: {value}\r\n\r\n" * 2) == ["request", "end"] * 2

    def test_of_1_0_always_ends(self) -> None:
        events = refused("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n‸G")
        assert events[-1] == ("end", False)

    @pytest.mark.parametrize("value", ["a‸;b", "close‸ x", '‸"close"', "a,‸(b)", "a, b‸\xe9"])
    def test_is_a_list_of_tokens(self, value: str) -> None:
        refused(f"{POST}Connection: {value}\r\n\r\n")

    def test_a_connect_ends_it_for_this_reader(self) -> None:
        events = refused(f"CONNECT a:443 HTTP/1.1\r\n{HOST}\r\n‸\x16\x03")
        assert events[-1] == ("end", False)


class TestResponses:
    """RFC 9112, 4 and 6.3."""

    @pytest.mark.parametrize(
        ("line", "status", "reason"),
        [("HTTP/1.1 200 OK", 200, b"OK"), ("HTTP/1.0 599 ", 599, b""), ("HTTP/1.1 302 a b\t\xe9", 302, b"a b\t\xe9")],
    )
    def test_begin_with_a_version_a_status_and_a_reason(self, line: str, status: int, reason: bytes) -> None:
        [response, _] = taken(f"{line}\r\nContent-Length: 0\r\n\r\n", asked=b"GET")
        assert response[1:3] == (status, reason)

    @pytest.mark.parametrize(
        "line",
        ["HTTP/1.1 200‸", "HTTP/1.1 ‸ 200 OK", "HTTP/1.1 20‸ OK", "HTTP/1.1 200‸0 OK", "HTTP/1.1 ‸099 x",
         "HTTP/1.1 ‸600 x", "HTTP/1.1 2‸x0 x", "HTTP/1.1‸\t200 OK", "‸ICY 200 OK", "‸http/1.1 200 OK",
         "HTTP/1.1 200 a‸\x00", "HTTP/1.1 200 a‸\x7f", "HTTP/1.1 ‸-20 x", "‸<html>", "‸\r\nHTTP/1.1 200 OK",
         "‸ HTTP/1.1 200 OK"],
    )  # fmt: skip
    def test_begin_with_nothing_else(self, line: str) -> None:
        refused(f"{line}\r\n\r\n", asked=b"GET")

    def test_of_another_version_are_refused(self) -> None:
        refused("‸HTTP/2.0 200 OK\r\n\r\n", 505, asked=b"GET")

    @pytest.mark.parametrize(("asked", "status"), [(b"POST", 204), (b"POST", 304), (b"HEAD", 200), (b"HEAD", 404)])
    @pytest.mark.parametrize("frame", ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", ""])
    def test_to_head_and_204_and_304_have_no_body_whatever_they_say(
        self, asked: bytes, status: int, frame: str
    ) -> None:
        assert kinds(f"HTTP/1.1 {status} x\r\n{frame}\r\n", asked=asked) == ["response", "end"]
        refused(f"HTTP/1.1 {status} x\r\n{frame}\r\n‸hello", asked=asked)

    def test_1xx_come_before_and_are_not_told(self) -> None:
        interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\nContent-Length: 5\r\n\r\n"
        events = taken(f"{interim}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", asked=b"POST")
        assert events == [("response", 200, b"OK", b"1.1", [(b"content-length", b"2")]), ("data", b"hi"), ("end", True)]

    def test_1xx_alone_are_no_answer(self) -> None:
        refused("HTTP/1.1 100 Continue\r\n\r\n‸", asked=b"POST", ended=True)

    def test_1xx_are_limited(self) -> None:
        interim = "HTTP/1.1 100 \r\n\r\n"
        assert kinds(f"{interim * 8}HTTP/1.1 204 \r\n\r\n", asked=b"POST") == ["response", "end"]
        refused(f"{interim * 8}HTTP/1.1 ‸100 \r\n\r\n", asked=b"POST")

    def test_101_is_refused(self) -> None:
        refused("HTTP/1.1 ‸101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", asked=b"GET")

    def test_without_a_length_end_with_the_connection(self) -> None:
        assert taken("HTTP/1.1 200 OK\r\n\r\nhello", asked=b"GET", ended=True)[1:] == [
            ("data", b"hello"),
            ("end", False),
        ]
        refused(f"HTTP/1.1 200 OK\r\n\r\n{'x' * 40}‸x", 413, ANY._replace(body=40), b"GET")

    def test_to_a_connect_that_is_granted_end_with_their_head(self) -> None:
        text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
        reader = responses(asked=b"CONNECT")
        assert seen(reader, [raw(text) + b"\x16\x03"]) == (
            [("response", 200, b"OK", b"1.1", [(b"content-length", b"5")]), ("end", False)],
            None,
        )
        assert reader.rest() == b"\x16\x03"
        assert kinds("HTTP/1.1 407 x\r\nContent-Length: 2\r\n\r\nno", asked=b"CONNECT") == ["response", "data", "end"]

    def test_come_only_where_one_was_asked_for(self) -> None:
        reader = responses()
        whole = b"HTTP/1.1 204 \r\n\r\n"
        assert seen(reader, [whole])[1] is None
        reader.expect(b"POST")
        assert seen(reader, [whole])[1] is None
        assert seen(reader, [whole])[1] == (2 * len(whole), 400)


class TestAnEarlyEnd:
    """RFC 9112, 8."""

    WHOLE = raw(f"{POST}Content-Length: 5\r\n\r\nhello") + raw(f"{CHUNKED}5;a\r\nhello\r\n0\r\nX: y\r\n\r\n")

    def test_is_an_error_at_every_byte_but_a_messages_end(self) -> None:
        good = {0, self.WHOLE.index(b"helloPOST") + 5, len(self.WHOLE)}
        for cut in range(len(self.WHOLE) + 1):
            _, fault = seen(requests(), [self.WHOLE[:cut]], ended=True)
            assert fault == (None if cut in good else (cut, 400)), cut

    def test_of_a_response_is_one_too_before_its_first_byte(self) -> None:
        whole = b"HTTP/1.1 100 \r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"hello")
        for cut in range(len(whole) + 1):
            events, fault = seen(responses(), [whole[:cut]], ended=True)
            assert fault == (None if cut == len(whole) else (cut, 400)), cut
            assert (("end", True) in events) is (cut == len(whole))


class TestAnError:
    def test_is_final_and_says_what_was_expected_and_where(self) -> None:
        reader = requests()
        with pytest.raises(
            TunnelError, match=r"expected one Host field, got another \(at byte 25 of the stream\)"
        ) as first:
            list(reader.feed(b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"))
        for again in (lambda: next(reader), lambda: reader.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), reader.end):
            with pytest.raises(TunnelError) as caught:
                again()
            assert (caught.value.offset, caught.value.status) == (first.value.offset, first.value.status)
        assert reader.buffered == 0

    def test_of_a_limit_says_the_limit(self) -> None:
        for limits, told in (
            ({"max_line": 5}, "5 bytes"), ({"max_head": 6}, "6 bytes"), ({"max_fields": 0}, "at most 0 fields"),
            ({"max_body": 7}, "7 bytes"),
        ):  # fmt: skip
            with pytest.raises(TunnelError, match=told):
                list(RequestReader(**limits).feed(raw(f"{POST}Content-Length: 8\r\n\r\n")))


class TestTheLimits:
    @pytest.mark.parametrize(
        "name", ["max_line", "max_fields", "max_head", "max_body", "max_extension", "max_extensions"]
    )  # fmt: skip
    def test_are_counts(self, name: str) -> None:
        for wrong in (-1, 2**60):
            with pytest.raises(ValueError, match=f"{name}.*expected 0 to"):
                RequestReader(**{name: wrong})
        with pytest.raises(TypeError):
            RequestReader(**{name: "8"})  # type: ignore[arg-type]  # it is wrong

    def test_of_a_body_may_change_between_messages(self) -> None:
        reader = requests(ANY._replace(body=4))
        five = raw(f"{POST}Content-Length: 5\r\n\r\nhello")
        reader.max_body = 5
        assert seen(reader, [five])[1] is None
        reader.max_body = 4
        assert seen(reader, [five])[1] == (len(five) + five.index(b"5\r\n\r\n"), 413)
