"""What the HTTP reader holds, and for how long: bounded by its limits, borrowed no longer than needed, never leaked."""

from __future__ import annotations

import contextlib
import gc
import sys
import weakref
from typing import Any

import pytest

from imcore._tunnel import Data, RequestReader, ResponseReader, scan
from imcore.errors import TunnelError
from tests.http_streams import chunked, pieces, requests, responses, seen
from tests.test_codec_memory import BUFFERS, NOISE, Buffer, Held

HEAD = b"POST /im HTTP/1.1\r\nHost: a\r\n"
WHOLE = HEAD + b"Content-Length: 5\r\n\r\nhello"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
BAD = HEAD + b"X : y\r\n\r\n"


class TestMemory:
    @pytest.mark.parametrize("size", [1, 100, 1000])
    def test_a_head_that_drips_costs_what_came_and_never_more_than_its_limits(self, size: int) -> None:
        most = 8192 + 16384
        stream = b"GET /" + b"a" * 8000 + b" HTTP/1.1\r\nX: " + b"y" * 16000
        parts = pieces(stream, size)
        came = 0
        with Held() as held:
            reader = RequestReader()
            for piece in parts:
                assert list(reader.feed(piece)) == []
                came += len(piece)
                assert reader.buffered == came
                assert held.now < min(2 * came, most) + size + NOISE
            with pytest.raises(TunnelError):
                list(reader.feed(b"y" * most))
            assert held.now < NOISE

    def test_a_body_that_is_announced_costs_nothing_until_it_comes_and_nothing_afterwards(self) -> None:
        size = 2**26
        with Held() as held:
            reader = RequestReader(max_body=size)
            assert len(list(reader.feed(HEAD + b"Content-Length: %d\r\n\r\n" % size))) == 1
            for _ in range(100):
                assert [type(event) for event in reader.feed(bytes(65536))] == [Data]
                assert reader.buffered == 0
                assert held.now < NOISE
            assert held.peak < 3 * 65536

    def test_chunks_extensions_and_trailers_are_not_kept(self) -> None:
        with Held() as held:
            reader = RequestReader()
            list(reader.feed(CHUNKED))
            for piece in [b"5;a=b\r\nhel", b"lo\r\n"] * 16 + [b"0\r\n", *[b"X: yyyyyyyyyyyyyyyyyyyy"[:16]] * 800]:
                list(reader.feed(piece))
                assert reader.buffered == 0
            assert held.now < NOISE

    def test_ten_thousand_messages_leak_nothing(self) -> None:
        stream = (WHOLE + CHUNKED + chunked(b"a" * 700, b"b", b"c" * 300)) * 50
        answers = b"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 5\r\n\r\nhello"
        with Held() as held:
            for _ in range(33):
                assert len(seen(requests(), [stream])[0]) == 300
                assert len(seen(requests(), pieces(stream, 97))[0]) == 300
                assert scan(stream)[0] == 100
                for cut in range(1, 50):
                    assert len(seen(responses(), [answers[:cut], answers[cut:]])[0]) == 3
            gc.collect()
            assert held.now < NOISE

    def test_ten_thousand_refusals_leak_nothing(self) -> None:
        with Held() as held:
            for number in range(10_000):
                reader = RequestReader()
                with contextlib.suppress(TunnelError):
                    for piece in (WHOLE, BAD[: number % len(BAD)], BAD[number % len(BAD) :]):
                        list(reader.feed(piece))
            gc.collect()
            assert held.now < NOISE

    def test_a_reader_that_is_dropped_in_a_message_leaves_nothing_behind(self) -> None:
        with Held() as held:
            for number in range(1000):
                list(RequestReader().feed(b"GET /" + b"a" * number))
                next(RequestReader().feed(WHOLE))
                next(ResponseReader().feed(b""), None)
            gc.collect()
            assert held.now < NOISE


class TestBuffers:
    @pytest.mark.parametrize("kind", BUFFERS)
    def test_any_contiguous_one_is_fed(self, kind: type[Buffer]) -> None:
        for size in (1, 20, len(WHOLE)):
            reader = requests()
            found = [event for piece in pieces(WHOLE, size) for event in reader.feed(kind(piece))]
            assert b"".join(event.data for event in found if isinstance(event, Data)) == b"hello"
        assert scan(kind(WHOLE)) == (1, 5)

    @pytest.mark.parametrize("wrong", ["text", None, 5, memoryview(bytes(64))[::2]])
    def test_what_is_none_is_refused(self, wrong: Any) -> None:
        for use in (lambda: RequestReader().feed(wrong), lambda: scan(wrong)):
            with pytest.raises((TypeError, BufferError)):
                use()

    def test_it_is_given_back_with_the_last_event_that_needs_it(self) -> None:
        reader = requests()
        for stream in (WHOLE, WHOLE[:9], WHOLE[9:] + CHUNKED, chunked(b"a", b"b"), b""):
            data = bytearray(stream)
            list(reader.feed(data))
            data.append(0)

    def test_it_is_held_until_then(self) -> None:
        data = bytearray(WHOLE)
        reader = requests().feed(data)
        next(reader)
        with pytest.raises(BufferError):
            data.append(0)
        assert isinstance(next(reader), Data)
        data.append(0)

    def test_it_is_given_back_when_the_reader_fails_is_fed_again_or_goes(self) -> None:
        data = bytearray(WHOLE + BAD)
        reader = requests().feed(data)
        with pytest.raises(TunnelError):
            list(reader)
        data.append(0)
        with pytest.raises(TunnelError):
            reader.feed(data)
        data.append(0)
        reader = requests().feed(data)
        reader.feed(b"")
        data.append(0)
        reader = requests().feed(data)
        del reader
        data.append(0)

    def test_references_to_it_return(self) -> None:
        data = WHOLE + CHUNKED + chunked(b"a", b"b")
        before = sys.getrefcount(data)
        reader = requests()
        for _ in range(1000):
            assert len(list(reader.feed(data))) == 6
            scan(data)
        assert sys.getrefcount(data) == before
        reader.feed(data)
        assert sys.getrefcount(data) == before + 1
        reader.feed(b"")
        assert sys.getrefcount(data) == before

    def test_a_cycle_through_it_is_collected(self) -> None:
        class Owner(bytearray):
            reader: RequestReader

        data = Owner(WHOLE)
        data.reader = requests().feed(data)
        gone = weakref.ref(data)
        del data
        gc.collect()
        assert gone() is None

    def test_fed_within_its_own_iteration_the_rest_comes_first(self) -> None:
        reader = requests()
        found = b""
        for event in reader.feed(WHOLE[:-2]):
            if isinstance(event, Data):
                if not found:
                    reader.feed(WHOLE[-2:] + CHUNKED + chunked(b"a", b"b"))
                found += event.data
        assert found == b"helloab"


class TestJoinedChunks:
    """Chunks that lie in one piece come in one `Data`, so that an object is made for each read, not for each chunk."""

    def test_come_as_one(self) -> None:
        parts = [bytes([n]) * (n + 1) for n in range(40)]
        [_, data, _] = list(requests().feed(CHUNKED + chunked(*parts)))
        assert data == Data(b"".join(parts))

    def test_come_as_few_where_they_are_many(self) -> None:
        events = [event for event in requests().feed(CHUNKED + chunked(*[b"x"] * 1000)) if isinstance(event, Data)]
        assert [len(event.data) for event in events] == [64] * 15 + [40]

    @pytest.mark.parametrize("behind", [b"zz\r\n", b"1;=\r\n", b"3\r\nabcX", b"\n", b"0\r\n : y\r\n"])
    def test_come_before_the_error_that_stands_behind_them(self, behind: bytes) -> None:
        events, fault = seen(requests(), [CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n" + behind])
        assert events[1:] in ([("data", b"abcde")], [("data", b"abcdeabc")])
        assert fault is not None

    def test_leave_the_end_to_come_alone(self) -> None:
        reader = requests().feed(CHUNKED + chunked(b"a", b"b") + WHOLE)
        assert [type(next(reader)).__name__ for _ in range(3)] == ["RequestHead", "Data", "End"]
        assert reader.part == "idle"
        assert reader.buffered == len(WHOLE)
