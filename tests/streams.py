"""Streams of frames for the codec's tests: good ones, almost good ones, and what a decoder makes of them."""

from __future__ import annotations

from hypothesis import strategies as st

from imcore import errors
from imcore._codec import Frame, FrameDecoder
from tests.models import codec as model

Seen = tuple[list[model.Plain], tuple[type, str, int] | None]

LIMIT = 300

routes = st.text(st.characters(codec="utf-8"), max_size=80).filter(lambda text: len(text.encode()) <= 255)
frames = st.builds(
    Frame,
    type=st.integers(1, 11),
    id=st.integers(0, 2**64 - 1),
    route=routes,
    body=st.binary(max_size=200),
    flags=st.integers(0, 7),
)


def plain(frame: Frame) -> model.Plain:
    return model.Plain(frame.type, frame.id, frame.route, frame.body, frame.flags)


def header(type: int = 5, flags: int = 0, route: int = 0, length: int = 0, id: int = 0, magic: int = 0xA1) -> bytes:
    """A header of any values, allowed or not."""
    return model.HEADER.pack(magic, type, flags, route, length, id)


def seen(chunks: list[bytes], limit: int = LIMIT) -> Seen:
    """What a decoder makes of a stream that comes in these pieces."""
    decoder = FrameDecoder(limit)
    found: list[model.Plain] = []
    try:
        for chunk in chunks:
            found.extend(map(plain, decoder.feed(chunk)))
    except errors.FrameError as error:
        return found, (type(error), error.code, error.offset)
    return found, None


def expected(data: bytes, limit: int = LIMIT) -> Seen:
    found, _, error = model.decode(data, limit)
    return found, None if error is None else (type(error), error.code, error.offset)


def pieces(data: bytes, size: int = 1) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@st.composite
def almost_frames(draw: st.DrawFn) -> bytes:
    """Frames with a few bytes set, put in or left out: most faults are one step from a good frame."""
    stream = bytearray(b"".join(frame.encode() for frame in draw(st.lists(frames, max_size=4))))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(stream)))
        how = draw(st.sampled_from(["set", "put", "cut", "header"]))
        if how == "set" and at < len(stream):
            stream[at] = draw(st.integers(0, 255))
        elif how == "put":
            stream[at:at] = draw(st.binary(max_size=3))
        elif how == "cut":
            del stream[at : at + draw(st.integers(1, 20))]
        else:
            stream += header(
                type=draw(st.integers(0, 13)),
                flags=draw(st.integers(0, 9)),
                route=draw(st.integers(0, 255)),
                length=draw(st.sampled_from([0, 1, 30, 255, LIMIT, LIMIT + 1, 2**31, 2**32 - 1])),
                magic=draw(st.sampled_from([0xA0, 0xA1, 0xA2, 0x47, 0x16])),
            )
    return bytes(stream)
