"""Any bytes, whole and in pieces, are read as HTTP as by the model, or refused at the same byte with the same status.

The first bytes choose requests or the response to a method, the limits, whether the stream ends, and the pieces.
"""

import sys

import atheris

with atheris.instrument_imports(include=["tests.models.tunnel"]):
    from imcore._tunnel import Data, End, RequestHead, RequestReader, ResponseReader, scan
    from imcore.errors import TunnelError
    from tests.models import tunnel as model

ASKED = (None, b"POST", b"HEAD", b"CONNECT")
SMALL = model.Limits(line=60, fields=6, head=160, body=40, extension=12, extensions=20)

Seen = tuple[list[model.Event], model.Fault | None]


def read(chunks: list[bytes], limits: model.Limits, asked: bytes | None, ended: bool) -> Seen:
    options = {f"max_{name}": value for name, value in limits._asdict().items()}
    reader: RequestReader | ResponseReader
    if asked is None:
        reader = RequestReader(**options)
    else:
        reader = ResponseReader(**options)
        reader.expect(asked)
    found: list[model.Event] = []
    came = 0
    try:
        for chunk in chunks:
            came += len(chunk)
            take(found, reader.feed(bytearray(chunk)))
            if reader.part == "switched":
                break
            assert reader.offset == came
            assert reader.buffered <= limits.line + limits.head
        else:
            if ended:
                take(found, reader.end())
    except TunnelError as error:
        return found, (error.offset, error.status)
    return found, None


def take(found: list[model.Event], reader: RequestReader | ResponseReader) -> None:
    for event in reader:
        if isinstance(event, Data):
            before = found[-1]
            if before[0] == "data":
                assert isinstance(before[1], bytes)
                found[-1] = "data", before[1] + event.data
            else:
                found.append(("data", event.data))
        elif isinstance(event, End):
            found.append(("end", event.keep_alive))
        elif isinstance(event, RequestHead):
            found.append(("request", event.method, event.target, event.version, event.headers))
        else:
            found.append(("response", event.status, event.reason, event.version, event.headers))


def count(stream: bytes) -> tuple[int, int] | model.Fault:
    try:
        return scan(stream)
    except TunnelError as error:
        return error.offset, error.status


def target(data: bytes) -> None:
    choice, stream = data[:6], data[6:]
    first = choice[0] if choice else 0
    asked, limits, ended = ASKED[first % 4], SMALL if first & 4 else model.ANY, bool(first & 8)
    expected = model.read(stream, limits, asked, ended)

    cuts = sorted({min(byte * 2, len(stream)) for byte in choice[1:]})
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert read([stream], limits, asked, ended) == expected
    assert read(chunks, limits, asked, ended) == expected
    assert read([stream[at : at + 1] for at in range(len(stream))], limits, asked, ended) == expected

    if asked is None and limits is model.ANY and not ended:
        events, fault = expected
        whole = [each for each in events if each[0] == "end"]
        assert count(stream)[0 if fault is None else slice(None)] == (len(whole) if fault is None else fault)


if __name__ == "__main__":
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
