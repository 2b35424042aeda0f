"""Any bytes, whole and in pieces, are decoded as by the model, or answered by the same `FrameError`; nothing else.

The first bytes choose the limit and the pieces, so that the fuzzer can look for a cut that matters.
"""

import sys

import atheris

with atheris.instrument_imports(include=["tests.models.codec"]):
    from imcore._codec import Frame, FrameDecoder, encode, encode_into, scan
    from imcore.errors import FrameError
    from tests.models import codec as model

Seen = tuple[list[model.Plain], tuple[type, str, int] | None]


def named(error: FrameError) -> tuple[type, str, int]:
    return type(error), error.code, error.offset


def plain(frame: Frame) -> model.Plain:
    return model.Plain(frame.type, frame.id, frame.route, frame.body, frame.flags)


def decode(chunks: list[bytes], limit: int) -> Seen:
    decoder = FrameDecoder(limit)
    found: list[model.Plain] = []
    came = 0
    try:
        for chunk in chunks:
            came += len(chunk)
            found.extend(map(plain, decoder.feed(bytearray(chunk))))
            assert decoder.offset + decoder.buffered == came
    except FrameError as error:
        return found, named(error)
    return found, None


def count(stream: bytes, limit: int) -> tuple[int, int] | tuple[type, str, int]:
    try:
        return scan(stream, limit)
    except FrameError as error:
        return named(error)


def target(data: bytes) -> None:
    choice, stream = data[:6], data[6:]
    limit = 1 + int.from_bytes(choice[:2])
    whole = model.decode(stream, limit)
    expected: Seen = whole.frames, None if whole.error is None else named(whole.error)

    cuts = sorted({min(byte * 3, len(stream)) for byte in choice[2:]})
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert decode([stream], limit) == expected
    assert decode(chunks, limit) == expected
    assert decode([stream[at : at + 1] for at in range(len(stream))], limit) == expected
    assert count(stream, limit) == ((len(whole.frames), whole.size) if whole.error is None else named(whole.error))

    again = b"".join(encode(*frame) for frame in whole.frames)
    room = bytearray(whole.size)
    at = 0
    for frame in whole.frames:
        at = encode_into(room, at, *frame)
    assert again == room == stream[: whole.size]


if __name__ == "__main__":
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
