"""Whatever answers a request of our own, for a probe, a silence or a list, is what the model reads, or an outcome.

Whole, byte by byte, and cut where the first byte says; the other bytes also stand in the middle of a good answer.
"""

import asyncio
import sys

import atheris

with atheris.instrument_imports(include=["imcore.ways.fetch", "tests.models.tunnel"]):
    from tests.http_streams import pieces
    from tests.ways.test_fetch import STILL, expected, met

loop = asyncio.new_event_loop()


def target(data: bytes) -> None:
    at, data = data[0] if data else 0, data[1:]
    for stream in (data, STILL[:at] + data + STILL[at + len(data) :]):
        want = expected(stream)
        for chunks in ([stream], [stream[:at], stream[at:]], pieces(stream)):
            assert loop.run_until_complete(met(chunks)) == want


if __name__ == "__main__":
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
