"""Standard input as lines: only a newline ends one, and one that is too long is not kept."""

from __future__ import annotations

import asyncio
import os
import threading

from hypothesis import given
from hypothesis import strategies as st

from imcore.cli.terminal import TooLong, lines

LIMIT = 20


def read(pieces: list[bytes]) -> list[bytes | None]:
    """What comes from a pipe into which the pieces are written; None for a line that is too long."""
    out, into = os.pipe()

    def write() -> None:
        for piece in pieces:
            os.write(into, piece)
        os.close(into)

    async def collect() -> list[bytes | None]:
        return [None if isinstance(line, TooLong) else line async for line in lines(LIMIT, out)]

    writer = threading.Thread(target=write)
    writer.start()
    try:
        return asyncio.run(collect())
    finally:
        writer.join()
        os.close(out)


@given(st.lists(st.binary(max_size=30).map(lambda data: data.replace(b"x", b"\n")), max_size=8))
def test_lines_are_those_of_the_text_however_it_is_cut(pieces: list[bytes]) -> None:
    text = b"".join(pieces)
    expected = text.split(b"\n")
    if not expected[-1]:
        expected.pop()
    assert read(pieces) == [line if len(line) <= LIMIT else None for line in expected]


def test_the_longest_line_is_kept_and_one_byte_more_is_not() -> None:
    assert read([b"a" * LIMIT + b"\n", b"b" * (LIMIT + 1) + b"\nc"]) == [b"a" * LIMIT, None, b"c"]


def test_more_lines_than_are_read_ahead_all_come() -> None:
    assert read([b"%d\n" % number for number in range(5000)]) == [b"%d" % number for number in range(5000)]
