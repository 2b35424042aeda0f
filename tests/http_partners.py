"""One stream of HTTP messages through our reader, through h11 and through httptools (llhttp): what each makes of it, in
one form, so that the verdicts can be compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import h11
import httptools

from imcore._tunnel import Data, End, RequestHead, RequestReader, ResponseHead, ResponseReader
from imcore.errors import TunnelError

WAITS = "the stream ended early"


class Message(NamedTuple):
    """A whole message. what: method and target, or the status. keep: another one may follow."""

    what: tuple[object, ...]
    version: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    keep: bool


class Verdict(NamedTuple):
    """The whole messages, and why there are no more: "" behind the last byte of a message."""

    messages: list[Message]
    reason: str


Reading = Callable[[bytes, bytes | None], Verdict]
"""Of requests, or of the one response to the method that is given."""


def _field(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """In one form: h11 gives the coding in lower case, httptools leaves the space behind a value."""
    name, value = name.lower(), value.strip(b" \t")
    return name, value.lower() if name == b"transfer-encoding" else value


def ours(stream: bytes, asked: bytes | None) -> Verdict:
    """imcore's."""
    reader: RequestReader | ResponseReader
    if asked is None:
        reader = RequestReader()
    else:
        reader = ResponseReader()
        reader.expect(asked)
    messages: list[Message] = []
    head: RequestHead | ResponseHead | None = None
    body = b""
    try:
        for event in _events(reader, stream):
            if isinstance(event, Data):
                body += event.data
            elif isinstance(event, End):
                assert head is not None
                messages.append(_message(head, body, event.keep_alive))
            else:
                head, body = event, b""
    except TunnelError as error:
        return Verdict(messages, WAITS if "stream ended" in error.text else error.text)
    return Verdict(messages, "")


def _events(reader: RequestReader | ResponseReader, stream: bytes) -> Iterator[RequestHead | ResponseHead | Data | End]:
    yield from reader.feed(stream)
    if reader.part != "switched":
        yield from reader.end()


def _message(head: RequestHead | ResponseHead, body: bytes, keep: bool) -> Message:
    what = (head.method, head.target) if isinstance(head, RequestHead) else (head.status,)
    return Message(what, head.version, [_field(*field) for field in head.headers], body, keep)


def by_h11(stream: bytes, asked: bytes | None) -> Verdict:
    """h11's, with its limit on a head raised to ours."""
    connection = h11.Connection(h11.SERVER if asked is None else h11.CLIENT, max_incomplete_event_size=24576)
    if asked is not None:
        target = b"a:443" if asked == b"CONNECT" else b"/"
        connection.send(h11.Request(method=asked, target=target, headers=[("Host", "a"), ("Content-Length", "0")]))
        connection.send(h11.EndOfMessage())
    messages: list[Message] = []
    head: h11.Request | h11.Response | None = None
    body = b""
    ended = False
    try:
        connection.receive_data(stream)
        while True:
            event = connection.next_event()
            if isinstance(event, (h11.Request, h11.Response)):
                head, body = event, b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                keep = connection.their_state is h11.DONE and not ended
                messages.append(_from_h11(head, body, keep))
                if asked is not None or not keep:
                    break
                connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                connection.send(h11.EndOfMessage())
                connection.start_next_cycle()
            elif event is h11.NEED_DATA and not ended:
                ended = True
                connection.receive_data(b"")
            elif event is h11.PAUSED and head is not None and connection.their_state is h11.SWITCHED_PROTOCOL:
                messages.append(_from_h11(head, b"", False))  # a CONNECT that was granted
                break
            elif not isinstance(event, h11.InformationalResponse):
                break
    except h11.RemoteProtocolError as error:
        text = str(error)
        return Verdict(messages, WAITS if "peer " in text else text.partition(": bytearray")[0])
    return Verdict(messages, "")


def _from_h11(head: h11.Request | h11.Response, body: bytes, keep: bool) -> Message:
    what = (head.method, head.target) if isinstance(head, h11.Request) else (head.status_code,)
    return Message(what, head.http_version, [_field(*field) for field in head.headers], body, keep)


class _Callbacks:
    """httptools tells piece by piece."""

    def __init__(self, asked: bytes | None) -> None:
        self.parser = httptools.HttpRequestParser(self) if asked is None else httptools.HttpResponseParser(self)
        self.messages: list[Message] = []
        self.begun = False

    def on_message_begin(self) -> None:
        self.begun = True
        self.url = self.body = b""
        self.until_close = self.trailers = False
        self.headers: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes | None) -> None:
        if not self.trailers:
            self.headers.append(_field(name, value or b""))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_headers_complete(self) -> None:
        fields = {name for name, _ in self.headers}
        self.until_close = not fields & {b"content-length", b"transfer-encoding"}
        self.trailers = True

    def on_message_complete(self) -> None:
        parser = self.parser
        what: tuple[object, ...]
        if isinstance(parser, httptools.HttpRequestParser):
            what = parser.get_method(), self.url
        else:
            what = (parser.get_status_code(),)
        if isinstance(parser, httptools.HttpResponseParser) and parser.get_status_code() < 200:
            return  # interim
        version = parser.get_http_version().encode()
        self.messages.append(Message(what, version, self.headers, self.body, parser.should_keep_alive()))
        self.begun = False


def by_httptools(stream: bytes, asked: bytes | None) -> Verdict:
    """httptools'. It can be told neither of the stream's end nor of the method that was asked: where only the end would
    end the message, we take it for ended; and it is not asked about responses to HEAD and CONNECT."""
    told = _Callbacks(asked)
    try:
        told.parser.feed_data(stream)
    except httptools.HttpParserUpgrade:
        last = told.messages.pop()
        return Verdict([*told.messages, last._replace(keep=False)], "")
    except httptools.HttpParserError as error:
        return Verdict(told.messages, str(error))
    if told.begun and asked is not None and told.until_close:
        told.on_message_complete()
        return Verdict(told.messages, "")
    return Verdict(told.messages, WAITS if told.begun else "")


def difference(mine: Verdict, theirs: Verdict) -> tuple[str, str] | None:
    """Where two verdicts part first: "we refuse" and our reason, "they refuse" and theirs, or "they read" and what."""
    for one, other in zip(mine.messages, theirs.messages, strict=False):
        for name, left, right in zip(Message._fields, one, other, strict=True):
            if left != right:
                return "they read", f"another {name}"
        if not one.keep:
            return None
    if len(mine.messages) < len(theirs.messages):
        return "we refuse", mine.reason
    if len(mine.messages) > len(theirs.messages):
        return "they refuse", theirs.reason
    return None
