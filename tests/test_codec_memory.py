"""What the codec holds, and for how long: bounded by the limit, borrowed no longer than needed, never leaked."""

from __future__ import annotations

import array
import contextlib
import gc
import sys
import tracemalloc
import weakref
from typing import Any

import pytest

from imcore import _codec, errors
from imcore._codec import Frame, FrameDecoder, encode, encode_into, scan
from tests.streams import header, pieces, seen

NOISE = 8192  # bytes that the interpreter and the measuring itself may take


class Held:
    """How many bytes more are allocated than when it began."""

    def __enter__(self) -> Held:
        gc.collect()
        tracemalloc.start()
        self.base = tracemalloc.get_traced_memory()[0]
        return self

    def __exit__(self, *_: object) -> None:
        tracemalloc.stop()

    @property
    def now(self) -> int:
        return tracemalloc.get_traced_memory()[0] - self.base

    @property
    def peak(self) -> int:
        return tracemalloc.get_traced_memory()[1] - self.base


class TestMemory:
    def test_a_length_alone_costs_nothing(self) -> None:
        with Held() as held:
            decoder = FrameDecoder(_codec.MAX_FRAME)
            assert list(decoder.feed(header(length=_codec.MAX_FRAME))) == []
            assert held.peak < 4096
            assert decoder.buffered == 16

    @pytest.mark.parametrize("size", [1, 100, 1000])
    def test_a_drip_costs_what_came_and_never_more_than_the_limit_and_a_read(self, size: int) -> None:
        limit = 64 * 1024
        chunk = bytes(size)
        came = 16
        with Held() as held:
            decoder = FrameDecoder(limit)
            list(decoder.feed(header(length=limit)))
            while came + size < 16 + limit:
                list(decoder.feed(chunk))
                came += size
                assert held.now < min(2 * came, limit) + size + NOISE
            assert held.peak < limit + size + NOISE

    def test_a_big_frame_leaves_nothing_behind(self) -> None:
        with Held() as held:
            decoder = FrameDecoder(_codec.MAX_FRAME)
            list(decoder.feed(header(length=_codec.MAX_FRAME)))
            assert len(list(decoder.feed(bytes(_codec.MAX_FRAME)))) == 1
            assert held.now < 4096

    def test_an_error_in_a_big_frame_leaves_nothing_behind(self) -> None:
        with Held() as held:
            decoder = FrameDecoder(_codec.MAX_FRAME)
            list(decoder.feed(header(route=1, length=_codec.MAX_FRAME)))
            with pytest.raises(errors.BadFrame, match="UTF-8"):
                list(decoder.feed(b"\xff" * _codec.MAX_FRAME))
            assert held.now < 8192

    def test_a_decoder_that_is_dropped_leaves_nothing_behind(self) -> None:
        with Held() as held:
            for _ in range(100):
                list(FrameDecoder(_codec.MAX_FRAME).feed(header(length=2**20) + bytes(2**16)))
            assert held.now < NOISE

    def test_ten_thousand_frames_leak_nothing(self) -> None:
        stream = encode(_codec.MSG, 2**63, "日本語", b"x" * 700, _codec.ROOM) * 100
        bad = header(route=1, length=1) + b"\xff"
        with Held() as held:
            for _ in range(33):
                assert len(seen([stream], 1000)[0]) == 100
                assert len(seen(pieces(stream, 97), 1000)[0]) == 100
                assert len(seen([stream, bad], 1000)[0]) == 100
            gc.collect()
            assert held.now < NOISE

    def test_ten_thousand_refusals_leak_nothing(self) -> None:
        with Held() as held:
            for number in range(10_000):
                with contextlib.suppress(errors.EncodeError):
                    encode(number + 12, number, "r" * 300, bytes(100))
                with contextlib.suppress(errors.EncodeError):
                    Frame(5, number, "r" * 256, bytearray(100))
            gc.collect()
            assert held.now < NOISE


class Liar(bytearray):
    """Says that it is empty."""

    def __len__(self) -> int:
        return 0


Buffer = bytes | bytearray | memoryview
BUFFERS: list[type[Buffer]] = [bytes, bytearray, memoryview]


class TestBuffers:
    @pytest.mark.parametrize("kind", BUFFERS)
    def test_any_contiguous_one_is_fed(self, kind: type[Buffer]) -> None:
        stream = encode(_codec.MSG, 1, "chat", b"hello") * 2
        for size in (1, 20, len(stream)):
            decoder = FrameDecoder()
            found = [frame for chunk in pieces(stream, size) for frame in decoder.feed(kind(chunk))]
            assert [frame.body for frame in found] == [b"hello"] * 2
        assert scan(kind(stream)) == (2, len(stream))

    @pytest.mark.parametrize(
        "kind", [*BUFFERS, lambda raw: array.array("I", raw), lambda raw: memoryview(raw).cast("I")]
    )
    def test_any_contiguous_one_is_a_body(self, kind: Any) -> None:
        body = bytes(range(8))
        whole = encode(_codec.MSG, 1, "chat", body)
        assert encode(_codec.MSG, 1, "chat", kind(body)) == whole
        frame = Frame(_codec.MSG, 1, "chat", kind(body))
        assert type(frame.body) is bytes
        assert frame.encode() == whole
        room = bytearray(len(whole))
        assert encode_into(room, 0, _codec.MSG, 1, "chat", kind(body)) == len(whole)
        assert room == whole

    def test_one_with_gaps_is_refused(self) -> None:
        gaps: Any = memoryview(bytes(64))[::2]
        for use in (
            lambda: FrameDecoder().feed(gaps),
            lambda: scan(gaps),
            lambda: encode(5, body=gaps),
            lambda: Frame(5, body=gaps),
            lambda: encode_into(memoryview(bytearray(64))[::2], 0, 5),
        ):
            with pytest.raises(BufferError, match="contiguous"):
                use()

    @pytest.mark.parametrize("wrong", ["text", None, 5, [1, 2], object()])
    def test_what_is_none_is_refused(self, wrong: Any) -> None:
        for use in (
            lambda: FrameDecoder().feed(wrong),
            lambda: scan(wrong),
            lambda: encode(5, body=wrong),
            lambda: Frame(5, body=wrong),
            lambda: encode_into(wrong, 0, 5),
        ):
            with pytest.raises(TypeError, match="bytes-like"):
                use()

    def test_one_that_lies_about_its_length_is_measured(self) -> None:
        assert encode(5, body=Liar(b"abc")) == encode(5, body=b"abc")
        assert Frame(5, body=Liar(b"abc")).body == b"abc"
        with pytest.raises(ValueError, match="room for 19 bytes"):
            encode_into(bytearray(16), 0, 5, body=Liar(b"abc"))
        with pytest.raises(errors.EncodeError):
            encode(5, body=Liar(_codec.MAX_FRAME + 1))
        assert encode_into(Liar(16), 0, 5) == 16
        assert len(list(FrameDecoder().feed(Liar(encode(5))))) == 1

    def test_it_is_given_back_when_the_iteration_has_ended(self) -> None:
        decoder = FrameDecoder()
        for stream in (encode(5), encode(5)[:9], encode(5)[9:] + encode(5)[:1], encode(5)[1:], b""):
            data = bytearray(stream)
            list(decoder.feed(data))
            data.append(0)
        assert decoder.buffered == 0

    def test_it_is_given_back_with_the_last_frame_and_not_before(self) -> None:
        data = bytearray(encode(5) * 2)
        decoder = FrameDecoder().feed(data)
        next(decoder)
        with pytest.raises(BufferError):
            data.append(0)
        next(decoder)
        data.append(0)

    def test_it_is_given_back_when_the_decoder_fails_is_fed_again_or_goes(self) -> None:
        data = bytearray(encode(5) * 2 + b"?")
        decoder = FrameDecoder().feed(data)
        with pytest.raises(errors.BadFrame):
            list(decoder)
        data.append(0)
        with pytest.raises(errors.BadFrame):
            decoder.feed(data)
        data.append(0)
        decoder = FrameDecoder().feed(data)
        decoder.feed(b"")
        data.append(0)
        decoder = FrameDecoder().feed(data)
        del decoder
        data.append(0)

    def test_references_to_it_return(self) -> None:
        data = b"".join(encode(5, number) for number in range(3))
        before = sys.getrefcount(data)
        decoder = FrameDecoder()
        for _ in range(10_000):
            assert len(list(decoder.feed(data))) == 3
            scan(data)
            encode(5, body=data)
        assert sys.getrefcount(data) == before
        decoder.feed(data)
        assert sys.getrefcount(data) == before + 1
        decoder.feed(b"")
        assert sys.getrefcount(data) == before

    def test_a_refused_one_is_given_back(self) -> None:
        data = bytearray(10)
        with pytest.raises(errors.EncodeError):
            encode(0, body=data)
        with pytest.raises(errors.EncodeError):
            Frame(0, body=data)
        with pytest.raises(errors.EncodeError):
            encode_into(data, 0, 0)
        with pytest.raises(ValueError, match="room"):
            encode_into(data, 0, 5, body=data)
        with pytest.raises(errors.BadFrame):
            scan(data)
        data.append(0)

    def test_a_cycle_through_it_is_collected(self) -> None:
        class Owner(bytearray):
            decoder: FrameDecoder

        data = Owner(encode(5) * 2)
        data.decoder = FrameDecoder().feed(data)
        gone = weakref.ref(data)
        del data
        gc.collect()
        assert gone() is None

    def test_fed_within_its_own_iteration_the_rest_comes_first(self) -> None:
        decoder = FrameDecoder()
        numbers = []
        for frame in decoder.feed(encode(5, 1) + encode(5, 2)):
            numbers.append(frame.id)
            if frame.id == 1:
                decoder.feed(encode(5, 3)[:5])
            if frame.id == 2:
                decoder.feed(encode(5, 3)[5:])
        assert numbers == [1, 2, 3]
