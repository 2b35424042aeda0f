"""Any header of the media service is taken, or refused with a 4xx; what is taken of it is within bounds."""

import sys

import atheris

with atheris.instrument_imports(include=["imcore.media"]):
    from imcore.media import tus
    from imcore.media.ranges import RANGES_MOST, none_match, ranges, still
    from imcore.media.refusal import Refusal

SIZE = 1000
BASE = "/im/media/uploads/"


def read(kind: int, text: str) -> None:
    if kind == 0:
        assert 0 <= tus.number(text, "x") < 1 << 63
    elif kind == 1:
        found = tus.described(tus.metadata(text))
        assert not {"/", "\\"} & set(found.name)
        assert found.name.isprintable()
        assert found.type.isprintable()
    elif kind == 2:
        checksum = tus.checksum(text)
        assert checksum is not None
        assert len(checksum.digest) == tus.ALGORITHMS[checksum.algorithm]
    elif kind == 3:
        concat = tus.concat(text, BASE)
        assert concat is not None
        assert all(len(part) == 32 and part.isalnum() for part in concat.parts)
    elif kind == 4:
        pieces = ranges(text, SIZE)
        if pieces is not None:
            assert 0 < len(pieces) <= RANGES_MOST
            assert sum(stop - start for start, stop in pieces) <= SIZE
            assert all(0 <= start < stop <= SIZE for start, stop in pieces)
    elif kind == 5:
        none_match(text, '"x"')
    elif kind == 6:
        still(text, '"x"', 0)
    else:
        tus.version(text)


def target(data: bytes) -> None:
    if not data:
        return
    try:
        read(data[0] % 8, data[1:].decode("utf-8", "surrogateescape"))
    except Refusal as error:
        if not 400 <= error.status < 500 or len(error.text) > 400:
            raise AssertionError("expected a 4xx with a short sentence") from error


if __name__ == "__main__":
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
