"""Whatever a connection says to a client's exchange, it ends with a name for it, and without an undocumented error.

The first byte chooses the path and the second how the rest is cut; the fuzzer's bytes are also put into good answers.
"""

from __future__ import annotations

import asyncio
import sys

import atheris

with atheris.instrument_imports(include=["imcore.ways.tunnel", "imcore.ways.outcomes", "imcore.client.exchange"]):
    from tests.client.hearing import hear
    from tests.client.test_hearing import CODES, FRAMES, GREETING, NAMES, chunked, counted, until_the_close

GOOD = [b"", *(form(GREETING + b"".join(FRAMES)) for form in (counted, chunked, until_the_close))]

loop = asyncio.new_event_loop()


def attempt(path: int, answer: bytes, size: int) -> None:
    chunks = [answer[at : at + size] for at in range(0, len(answer), size)]
    got = loop.run_until_complete(hear("down" if path & 1 else "up", chunks))
    assert got.end in NAMES | CODES, got.end


def target(data: bytes) -> None:
    path, size, data = (data + b"\0\0")[0], 8192 >> ((data + b"\0\0")[1] & 7), data[2:]
    for good in GOOD:
        at = int.from_bytes(data[:2]) % (len(good) + 1)
        attempt(path, good[:at] + data[2:] + good[at + len(data[2:]) :], size)


if __name__ == "__main__":
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
