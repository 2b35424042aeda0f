"""Decoding (wire: "Frames"), against the plain-Python model and by example: no cut changes a result."""

from __future__ import annotations

import pickle
import weakref
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imcore import _codec, errors
from imcore._codec import Frame, FrameDecoder, encode, scan
from tests.models import codec as model
from tests.streams import LIMIT, almost_frames, expected, frames, header, pieces, plain, seen


class TestDecoding:
    @given(st.lists(frames, max_size=5))
    def test_a_stream_of_frames_comes_back_as_it_was(self, sent: list[Frame]) -> None:
        stream = b"".join(frame.encode() for frame in sent)
        decoder = FrameDecoder()
        assert list(decoder.feed(stream)) == sent
        assert (decoder.offset, decoder.buffered) == (len(stream), 0)
        decoder.end()

    @given(st.one_of(st.binary(max_size=100), almost_frames()))
    def test_any_bytes_are_decoded_as_by_the_model(self, stream: bytes) -> None:
        assert seen([stream]) == expected(stream)

    @given(almost_frames())
    @settings(max_examples=60)
    def test_no_cut_changes_the_result(self, stream: bytes) -> None:
        whole = expected(stream)
        assert seen(pieces(stream)) == whole
        for cut in range(len(stream) + 1):
            assert seen([stream[:cut], stream[cut:]]) == whole, f"cut at {cut}"

    @given(almost_frames(), st.data())
    def test_no_chunking_changes_the_result(self, stream: bytes, data: st.DataObject) -> None:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
        chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
        assert seen(chunks) == expected(stream)

    @given(almost_frames(), st.data())
    def test_iteration_left_early_and_taken_up_again_loses_nothing(self, stream: bytes, data: st.DataObject) -> None:
        decoder = FrameDecoder(LIMIT)
        found: list[model.Plain] = []
        error = None
        at = 0
        try:
            while at < len(stream):
                size = data.draw(st.integers(1, 60))
                decoder.feed(stream[at : at + size])
                at += size
                for _, frame in zip(range(data.draw(st.integers(0, 2))), decoder, strict=False):
                    found.append(plain(frame))
            found.extend(map(plain, decoder))
        except errors.FrameError as met:
            error = (type(met), met.code, met.offset)
        assert (found, error) == expected(stream)

    @given(almost_frames())
    def test_offset_and_buffered_account_for_every_byte(self, stream: bytes) -> None:
        decoder = FrameDecoder(LIMIT)
        for at, byte in enumerate(pieces(stream)):
            try:
                list(decoder.feed(byte))
            except errors.FrameError:
                assert decoder.buffered == 0
                return
            assert decoder.offset + decoder.buffered == at + 1

    @given(almost_frames())
    def test_scan_counts_what_the_decoder_would_make(self, stream: bytes) -> None:
        found, size, error = model.decode(stream, LIMIT)
        if error is None:
            assert scan(stream, LIMIT) == (len(found), size)
        else:
            with pytest.raises(type(error)) as met:
                scan(stream, LIMIT)
            assert (met.value.code, met.value.offset) == (error.code, error.offset)

    @pytest.mark.parametrize("type", range(1, 12))
    @pytest.mark.parametrize("flags", range(8))
    def test_every_type_and_flag_is_taken(self, type: int, flags: int) -> None:
        (frame,) = FrameDecoder().feed(header(type=type, flags=flags, id=7))
        assert (frame.type, frame.flags, frame.id, frame.route, frame.body) == (type, flags, 7, "", b"")

    def test_an_empty_read_is_no_news(self) -> None:
        decoder = FrameDecoder()
        assert list(decoder.feed(b"")) == []
        decoder.feed(header(length=1))
        assert list(decoder.feed(b"")) == []
        assert len(list(decoder.feed(b"x"))) == 1

    def test_a_route_of_255_bytes_fits(self) -> None:
        (frame,) = FrameDecoder().feed(header(route=255, length=256) + b"r" * 255 + b"b")
        assert (frame.route, frame.body) == ("r" * 255, b"b")

    def test_an_id_of_all_ones_stays_positive(self) -> None:
        (frame,) = FrameDecoder().feed(header(id=2**64 - 1))
        assert frame.id == 2**64 - 1


FAULTS: list[tuple[str, bytes, type[errors.FrameError], str, int]] = [
    ("HTTP", b"GET /im", errors.BadFrame, "bad_frame", 0),
    ("TLS", b"\x16\x03\x01", errors.BadFrame, "bad_frame", 0),
    ("wrong magic", header(magic=0xB1), errors.BadFrame, "bad_frame", 0),
    ("future version", header(magic=0xA2), errors.UnsupportedVersion, "version", 0),
    ("version zero", header(magic=0xA0), errors.UnsupportedVersion, "version", 0),
    ("type zero", header(type=0), errors.BadFrame, "bad_frame", 1),
    ("unknown type", header(type=12), errors.BadFrame, "bad_frame", 1),
    ("unknown flag", header(flags=8), errors.BadFrame, "bad_frame", 2),
    ("unknown flag beside a known one", header(flags=0x81), errors.BadFrame, "bad_frame", 2),
    ("route without a length", header(route=1), errors.BadFrame, "bad_frame", 3),
    ("route one over the length", header(route=255, length=254), errors.BadFrame, "bad_frame", 3),
    ("length one over the limit", header(length=LIMIT + 1), errors.TooLarge, "too_large", 4),
    ("top bit of the length", header(length=2**31), errors.TooLarge, "too_large", 4),
    ("all bits of the length", header(length=2**32 - 1), errors.TooLarge, "too_large", 4),
    ("length that wraps with the header", header(length=2**32 - 16), errors.TooLarge, "too_large", 4),
    ("both lengths wrong", header(route=255, length=2**31), errors.TooLarge, "too_large", 4),
    ("everything wrong", b"\xff" * 16, errors.BadFrame, "bad_frame", 0),
]

BAD_UTF8: list[tuple[str, bytes]] = [
    ("a continuation alone", b"\x80"),
    ("a lead alone", b"\xc3"),
    ("over-long, two bytes", b"\xc0\xaf"),
    ("over-long, two bytes, the last", b"\xc1\xbf"),
    ("over-long, three bytes", b"\xe0\x9f\xbf"),
    ("over-long, four bytes", b"\xf0\x8f\xbf\xbf"),
    ("the first surrogate", b"\xed\xa0\x80"),
    ("the last surrogate", b"\xed\xbf\xbf"),
    ("a pair of surrogates", b"\xed\xa0\xbd\xed\xb8\x80"),
    ("behind U+10FFFF", b"\xf4\x90\x80\x80"),
    ("a lead of five bytes", b"\xf8\x88\x80\x80\x80"),
    ("never a byte of UTF-8", b"\xfe"),
    ("two of three bytes", b"\xe2\x82"),
    ("three of four bytes", b"\xf0\x9f\x98"),
    ("no continuation in third place", b"\xe2\x82\x41"),
    ("no continuation in fourth place", b"\xf0\x9f\x98\x41"),
]


class TestFaults:
    @pytest.mark.parametrize(("data", "kind", "code", "at"), [pytest.param(*row[1:], id=row[0]) for row in FAULTS])
    def test_each_has_its_error_with_its_code_and_its_offset(
        self, data: bytes, kind: type[errors.FrameError], code: str, at: int
    ) -> None:
        good = encode(_codec.MSG, 1, "chat", b"hi")
        for before in (b"", good, good * 3):
            assert seen([before + data]) == expected(before + data)
            _, error = seen(pieces(before + data))
            assert error == (kind, code, len(before) + at)

    @pytest.mark.parametrize("bad", [pytest.param(raw, id=name) for name, raw in BAD_UTF8])
    @pytest.mark.parametrize("before", ["", "a", "日本", "😀"])
    def test_a_route_that_is_not_utf8_names_the_byte(self, bad: bytes, before: str) -> None:
        route = before.encode() + bad
        with pytest.raises(UnicodeDecodeError) as python:
            route.decode()
        assert python.value.start == len(before.encode())
        with pytest.raises(errors.BadFrame, match="UTF-8") as met:
            next(FrameDecoder().feed(header(route=len(route), length=len(route) + 3) + route + b"\x80\xff."))
        assert met.value.offset == 16 + python.value.start

    @given(st.binary(max_size=255))
    def test_a_route_is_utf8_where_python_says_so(self, route: bytes) -> None:
        data = header(route=len(route), length=len(route)) + route
        assert seen([data]) == expected(data)

    def test_every_lead_and_second_byte_is_judged_as_by_python(self) -> None:
        for lead in range(0x80, 0x100):
            for second in range(0x100):
                for rest in (b"", b"\x80", b"\x80\x80"):
                    route = bytes([lead, second]) + rest
                    data = header(route=len(route), length=len(route)) + route
                    assert seen([data]) == expected(data), route

    def test_bytes_of_the_body_are_nobodys_business(self) -> None:
        (frame,) = FrameDecoder().feed(header(route=1, length=3) + b"r\xff\xfe")
        assert frame.body == b"\xff\xfe"

    def test_what_came_before_the_fault_is_handed_over(self) -> None:
        decoder = FrameDecoder()
        decoder.feed(encode(_codec.PING, 1) + encode(_codec.PING, 2) + b"?")
        assert [next(decoder).id, next(decoder).id] == [1, 2]
        with pytest.raises(errors.BadFrame):
            next(decoder)

    def test_an_error_is_met_again_at_every_further_use(self) -> None:
        decoder = FrameDecoder()
        assert next(decoder.feed(encode(_codec.PING) + b"\xa7")).type == _codec.PING
        with pytest.raises(errors.UnsupportedVersion) as first:
            next(decoder)
        for use in (
            lambda: next(decoder),
            lambda: list(decoder),
            lambda: decoder.feed(encode(_codec.PING)),
            decoder.end,
        ):
            with pytest.raises(errors.UnsupportedVersion) as again:
                use()
            assert str(again.value) == str(first.value)
            assert again.value.offset == 16
        assert (decoder.buffered, decoder.offset) == (0, 16)

    def test_an_error_met_often_does_not_grow(self) -> None:
        decoder = FrameDecoder().feed(b"?")
        depths = []
        for _ in range(3):
            with pytest.raises(errors.BadFrame) as met:
                next(decoder)
            depths.append(len(met.traceback))
        assert len(set(depths)) == 1

    def test_an_error_keeps_nothing_alive(self) -> None:
        class Owner(bytearray):
            pass

        data = Owner(b"?")
        gone = weakref.ref(data)
        decoder = FrameDecoder()
        with pytest.raises(errors.BadFrame):
            next(decoder.feed(data))
        del data
        assert gone() is None

    def test_the_end_inside_a_frame_is_an_error(self) -> None:
        decoder = FrameDecoder()
        list(decoder.feed(encode(_codec.PING) + header(length=4) + b"abc"))
        with pytest.raises(errors.BadFrame, match="19 bytes into it") as met:
            decoder.end()
        assert met.value.offset == 16 + 19

    def test_errors_can_be_pickled(self) -> None:
        with pytest.raises(errors.TooLarge) as met:
            scan(header(length=2**31))
        twin = pickle.loads(pickle.dumps(met.value))
        assert (str(twin), twin.offset) == (str(met.value), 4)


class TestLimit:
    @pytest.mark.parametrize("limit", [1, 16, 4096, 65536, _codec.MAX_FRAME])
    def test_a_frame_of_just_the_limit_passes_and_one_byte_more_does_not(self, limit: int) -> None:
        (frame,) = FrameDecoder(limit).feed(header(length=limit) + bytes(limit))
        assert len(frame.body) == limit
        with pytest.raises(errors.TooLarge, match=f"at most {limit} bytes.*length of {limit + 1}"):
            next(FrameDecoder(limit).feed(header(length=limit + 1)))

    def test_the_route_counts(self) -> None:
        assert len(list(FrameDecoder(4).feed(encode(_codec.MSG, 1, "ab", b"cd")))) == 1
        with pytest.raises(errors.TooLarge):
            next(FrameDecoder(3).feed(encode(_codec.MSG, 1, "ab", b"cd")))

    def test_it_changes_between_two_frames_of_one_read(self) -> None:
        small, large = encode(_codec.HELLO, body=bytes(10)), encode(_codec.MSG, 1, body=bytes(1000))
        decoder = FrameDecoder(10)
        sizes = []
        for frame in decoder.feed(small + large):
            sizes.append(len(frame.body))
            decoder.max_frame = 1000
        assert sizes == [10, 1000]
        decoder.max_frame = 10
        assert decoder.max_frame == 10
        with pytest.raises(errors.TooLarge):
            next(decoder.feed(large))

    def test_raised_in_time_it_holds_for_a_frame_that_has_begun(self) -> None:
        decoder = FrameDecoder(10)
        assert list(decoder.feed(header(length=11)[:7])) == []
        decoder.max_frame = 11
        assert len(list(decoder.feed(header(length=11)[7:] + bytes(11)))) == 1

    @pytest.mark.parametrize("wrong", [0, -1, _codec.MAX_FRAME + 1, 2**32, 2**64, -(2**64)])
    def test_only_1_to_16_mib_are_limits(self, wrong: int) -> None:
        decoder = FrameDecoder(5)
        for use in (
            lambda: FrameDecoder(wrong),
            lambda: scan(b"", wrong),
            lambda: setattr(decoder, "max_frame", wrong),
        ):
            with pytest.raises(ValueError, match="max_frame"):
                use()
        assert decoder.max_frame == 5

    @pytest.mark.parametrize("wrong", [1.0, "1", None, b"1"])
    def test_only_integers_are_limits(self, wrong: Any) -> None:
        with pytest.raises(TypeError):
            FrameDecoder(wrong)
