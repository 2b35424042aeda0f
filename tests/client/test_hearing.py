"""Whatever a connection says, the client ends with a name for it, and no cut of the bytes changes which."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imcore._codec import ACK, ERROR, GOAWAY, MSG, PAD, PING, WELCOME, encode
from imcore.messages import Error, GoAway, Welcome, pack
from imcore.ways.outcomes import Outcome
from tests.client.hearing import Heard, hear
from tests.http_streams import cuts

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
GREETING = encode(WELCOME, body=pack(Welcome("s", "alice", "n", "e", 9, 1, True, 4, (30, 600), 120, 4096, 0)))
FRAMES = [
    encode(PING, 1, body=b"\0\x1e"),
    encode(PING, 2, body=b"\0\x1e"),
    encode(MSG, 1, "news", b"one"),
    encode(MSG, 2, "news", bytes(4000)),
    encode(MSG, 0, "lobby", b"psst", 2),
    encode(ACK, 7, body=(9).to_bytes(8)),
    encode(PAD, body=bytes(4096)),
    encode(GOAWAY, body=pack(GoAway("draining", 1, 1))),
    encode(ERROR, body=pack(Error("slow", "later", 5))),
]

paths = st.sampled_from(["up", "down"])
bodies = st.lists(st.sampled_from(FRAMES), max_size=4).map(lambda frames: GREETING + b"".join(frames))


def counted(body: bytes) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def chunked(body: bytes) -> bytes:
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


def until_the_close(body: bytes) -> bytes:
    return HEAD.replace(b"1.1", b"1.0") + b"\r\n" + body


def form_of(form: Callable[[bytes], bytes], body: bytes) -> bytes:
    return form(body)


answers = st.builds(form_of, st.sampled_from([counted, chunked, until_the_close]), bodies)


@st.composite
def almost(draw: st.DrawFn) -> bytes:
    """An answer with something changed in it."""
    answer = draw(answers)
    at = draw(st.integers(0, len(answer)))
    to = draw(st.integers(at, min(len(answer), at + 20)))
    return answer[:at] + draw(st.binary(max_size=20)) + answer[to:]


NAMES = {outcome.name for outcome in Outcome} - {"OK"}
CODES = {"served", "slow", "bad_frame", "bad_hello"}


def heard(path: str, chunks: list[bytes]) -> Heard:
    return asyncio.run(hear("up" if path == "up" else "down", chunks))


@given(paths, answers)
def test_an_answer_of_a_gateway_is_taken_whole(path: str, answer: bytes) -> None:
    got = heard(path, [answer])
    assert got.end in ("served", "slow")
    assert got.told[0][0] == "welcome"


@given(paths, st.binary(max_size=200) | almost())
@settings(max_examples=300)
def test_whatever_comes_has_a_name(path: str, answer: bytes) -> None:
    got = heard(path, [answer])
    assert got.end in NAMES | CODES
    if got.end in NAMES - {"TRUNCATED", "REWRITTEN", "CLOSED"}:
        assert not got.told, "it was taken for frames"


@given(paths, almost())
@settings(max_examples=20)
def test_no_cut_changes_the_name_or_what_was_taken(path: str, answer: bytes) -> None:
    whole = heard(path, [answer])
    for chunks in cuts(answer)[1:][:: max(1, len(answer) // 60)]:
        assert heard(path, chunks) == whole


@pytest.mark.parametrize("form", [counted, chunked, until_the_close])
def test_a_ping_that_promises_too_much_is_not_believed(form: Callable[[bytes], bytes]) -> None:
    got = heard("down", [form(GREETING + encode(PING, 2, body=bytes([255]) * 3000))])
    assert got.end == "REWRITTEN"


@pytest.mark.parametrize("form", [counted, chunked, until_the_close])
def test_an_answer_that_ends_within_a_frame_is_named_though_its_http_is_whole(
    form: Callable[[bytes], bytes],
) -> None:
    for cut in range(1, 16 + len(b"newsone")):
        got = heard("down", [form(GREETING + FRAMES[2][:-cut])])
        assert got.end == "TRUNCATED"
        assert [told[0] for told in got.told] == ["welcome"]


@pytest.mark.parametrize("form", [counted, chunked])
def test_an_answer_that_is_cut_off_anywhere_brings_what_was_whole_and_is_named(
    form: Callable[[bytes], bytes],
) -> None:
    answer = form(GREETING + FRAMES[2] + FRAMES[3])
    for cut in range(0, len(answer), 7):
        got = heard("down", [answer[:cut]])
        assert got.end in ("CLOSED", "TRUNCATED"), cut
        assert got.told in ([], *([heard("down", [answer]).told[:count] for count in (1, 2, 3)]))
