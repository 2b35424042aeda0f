"""Encoding (wire: "Frames"), and the frame as a value."""

from __future__ import annotations

import copy
import gc
import pickle
from enum import IntEnum, StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imcore import _codec, errors
from imcore._codec import Frame, FrameDecoder, encode, encode_into
from tests.models import codec as model
from tests.streams import frames, plain


class Count(int):
    pass


class Kind(IntEnum):
    MESSAGE = 5


class Name(StrEnum):
    CHAT = "chat"


class Loud(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


class TestEncoding:
    @given(frames)
    def test_the_bytes_are_the_models(self, frame: Frame) -> None:
        whole = model.encode(*plain(frame))
        assert frame.encode() == whole
        assert encode(*plain(frame)) == whole
        assert len(whole) == _codec.HEADER_SIZE + len(frame.route.encode()) + len(frame.body)

    @given(frames, st.integers(0, 40), st.integers(0, 40))
    def test_into_a_buffer_only_the_frames_place_is_written(self, frame: Frame, before: int, behind: int) -> None:
        whole = frame.encode()
        room = bytearray(b"?" * (before + len(whole) + behind))
        assert encode_into(room, before, *plain(frame)) == before + len(whole)
        assert room == b"?" * before + whole + b"?" * behind

    @given(
        st.integers(-2, 14),
        st.one_of(st.integers(-2, 2), st.integers(2**64 - 2, 2**64 + 2)),
        st.text(max_size=100).map(lambda text: text * 3),
        st.binary(max_size=5),
        st.integers(-2, 300),
    )
    def test_it_refuses_what_the_model_refuses(self, type: int, id: int, route: str, body: bytes, flags: int) -> None:
        try:
            whole = model.encode(type, id, route, body, flags)
        except errors.EncodeError:
            with pytest.raises(errors.EncodeError):
                encode(type, id, route, body, flags)
            with pytest.raises(errors.EncodeError):
                Frame(type, id, route, body, flags)
            room = bytearray(b"?" * 1000)
            with pytest.raises(errors.EncodeError):
                encode_into(room, 0, type, id, route, body, flags)
            assert room == b"?" * 1000
        else:
            assert encode(type, id, route, body, flags) == whole
            assert Frame(type, id, route, body, flags).encode() == whole

    @pytest.mark.parametrize("offset", [1, 20, 21, 2**31, 2**63, 2**64, 2**200, -1, -21])
    def test_what_does_not_fit_is_not_written(self, offset: int) -> None:
        room = bytearray(b"?" * 20)
        with pytest.raises(ValueError, match=r"buffer|offset") as met:
            encode_into(room, offset, _codec.MSG, 1, "abc", b"d")
        assert not isinstance(met.value, errors.EncodeError)
        assert room == b"?" * 20

    def test_what_just_fits_is_written(self) -> None:
        room = bytearray(20)
        assert encode_into(room, 0, _codec.MSG, 1, "abc", b"d") == 20

    def test_a_buffer_that_is_read_only_is_refused(self) -> None:
        frozen: Any = bytes(16)
        with pytest.raises(BufferError, match="not writable"):
            encode_into(frozen, 0, 5)

    @pytest.mark.parametrize("start", range(40))
    def test_the_body_may_lie_in_the_buffer_that_is_written(self, start: int) -> None:
        room = bytearray(range(64))
        body = bytes(room[start : start + 20])
        encode_into(room, 4, _codec.MSG, 1, "abc", memoryview(room)[start : start + 20])
        assert room[4:43] == encode(_codec.MSG, 1, "abc", body)

    def test_a_route_is_measured_in_bytes(self) -> None:
        assert encode(5, route="é" * 127 + "x")[3] == 255
        with pytest.raises(errors.EncodeError, match="at most 255 bytes of UTF-8, got 256"):
            encode(5, route="é" * 128)

    @pytest.mark.parametrize(("route", "room"), [("", 0), ("r", 1), ("é", 2)])
    def test_a_frame_of_16_mib_is_the_largest(self, route: str, room: int) -> None:
        body = bytes(_codec.MAX_FRAME - room)
        assert len(encode(5, route=route, body=body)) == 16 + _codec.MAX_FRAME
        with pytest.raises(errors.EncodeError, match=f"at most {_codec.MAX_FRAME - room} bytes"):
            encode(5, route=route, body=body + b"!")

    @pytest.mark.parametrize("field", ["type", "id", "flags"])
    @pytest.mark.parametrize("wrong", [5.0, "5", None, b"5"])
    def test_only_integers_are_numbers(self, field: str, wrong: Any) -> None:
        arguments: dict[str, Any] = {"type": 5, field: wrong}
        with pytest.raises(TypeError):
            encode(**arguments)
        with pytest.raises(TypeError):
            Frame(**arguments)

    @pytest.mark.parametrize("wrong", [None, b"chat", 5])
    def test_only_text_is_a_route(self, wrong: Any) -> None:
        with pytest.raises(TypeError):
            encode(5, 1, wrong)
        with pytest.raises(TypeError):
            Frame(5, 1, wrong)

    def test_errors_say_what_was_expected_and_what_came(self) -> None:
        with pytest.raises(errors.EncodeError, match="type: expected 1 to 11, got 12"):
            encode(12)
        with pytest.raises(errors.EncodeError, match="id: expected 0 to 18446744073709551615, got -1"):
            encode(5, -1)
        with pytest.raises(errors.EncodeError, match=r"flags.*expected 0 to 7, got 8"):
            encode(5, flags=8)
        with pytest.raises(errors.EncodeError, match="route: expected text that UTF-8 can hold"):
            encode(5, route="\udfff")


class TestFrame:
    @given(frames)
    def test_it_survives_pickle_and_copy(self, frame: Frame) -> None:
        for twin in (pickle.loads(pickle.dumps(frame)), copy.copy(frame), copy.deepcopy(frame)):
            assert twin == frame
            assert hash(twin) == hash(frame)

    @given(frames, frames)
    def test_it_equals_what_has_the_same_fields(self, one: Frame, other: Frame) -> None:
        assert (one == other) is (plain(one) == plain(other))
        assert (one != other) is (plain(one) != plain(other))
        assert one != plain(one)
        assert one == Frame(*plain(one))

    @pytest.mark.parametrize("change", [{"type": 6}, {"id": 2}, {"route": "b"}, {"body": b"x"}, {"flags": 1}])
    def test_every_field_counts(self, change: dict[str, Any]) -> None:
        fields: dict[str, Any] = {"type": 5, "id": 1, "route": "a", "body": b"", "flags": 0}
        assert Frame(**fields) != Frame(**{**fields, **change})

    @pytest.mark.parametrize("field", ["type", "id", "route", "body", "flags", "other"])
    def test_it_can_not_be_changed(self, field: str) -> None:
        frame = Frame(5, 1, "chat", b"hi")
        with pytest.raises(AttributeError):
            setattr(frame, field, 1)
        with pytest.raises(AttributeError):
            delattr(frame, field)
        with pytest.raises(TypeError, match="immutable"):
            Frame.__init__(frame, 6)
        (frame,) = FrameDecoder().feed(frame.encode())
        with pytest.raises(TypeError, match="immutable"):
            Frame.__init__(frame, 6)
        assert frame == Frame(5, 1, "chat", b"hi")

    def test_it_has_no_subclasses(self) -> None:
        with pytest.raises(TypeError):
            type("Sub", (Frame,), {})

    def test_what_it_was_made_from_may_change_afterwards(self) -> None:
        body = bytearray(b"hi")
        frame = Frame(5, body=body)
        body[:] = b"ho, and longer"
        assert frame.body == b"hi"

    def test_bytes_are_not_copied(self) -> None:
        body = bytes(1000)
        assert Frame(5, body=body).body is body

    def test_subclasses_of_numbers_and_text_become_plain(self) -> None:
        frame = Frame(Kind.MESSAGE, Count(7), Name.CHAT, b"", Count(2))
        assert frame == Frame(5, 7, "chat", b"", 2)
        assert [type(field) for field in plain(frame)] == [int, int, str, bytes, int]
        assert Frame(5, route=Loud("chat")).route == "chat"
        assert encode(Kind.MESSAGE, Count(7), Name.CHAT, b"", Count(2)) == frame.encode()
        assert Frame(True).type == 1

    def test_it_shows_itself(self) -> None:
        assert repr(Frame(_codec.MSG, 7, "chat", b"hi")) == "Frame(MSG, id=7, route='chat', body=b'hi')"
        assert (
            repr(Frame(_codec.ACK, 7, flags=_codec.DUP | _codec.ROOM | _codec.FAILED))
            == "Frame(ACK, id=7, route='', body=b'', flags=DUP|ROOM|FAILED)"
        )

    def test_one_that_was_never_made_is_harmless(self) -> None:
        blank = Frame.__new__(Frame)
        assert "None" in repr(blank)
        assert blank == Frame.__new__(Frame)
        assert blank != Frame(5)
        hash(blank)
        with pytest.raises(TypeError):
            pickle.loads(pickle.dumps(blank))
        with pytest.raises(TypeError):
            blank.encode()

    def test_it_costs_the_collector_nothing(self) -> None:
        assert not gc.is_tracked(Frame(5))

    def test_a_decoder_can_be_neither_copied_nor_pickled(self) -> None:
        with pytest.raises(TypeError):
            copy.copy(FrameDecoder())
        with pytest.raises(TypeError):
            pickle.dumps(FrameDecoder())
