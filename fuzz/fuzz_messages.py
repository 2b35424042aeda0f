"""Any bytes are one of the control maps, which then comes back as it was, or `BadHello`; nothing else.

The fuzzer can't see into the MessagePack decoder, so its bytes are also put into the middle of good maps: the first two
choose the place, and how much of the good map they stand for.
"""

import sys
from typing import Any

import atheris

with atheris.instrument_imports(include=["imcore.messages"]):
    from imcore.errors import BadHello
    from imcore.messages import Error, GoAway, Hello, Refusal, Resume, Welcome, pack, unpack

GOOD: list[Any] = [
    Hello("t", "phone", "both", "c", Resume("e", 7), ["zstd"], "head", 100, "http", 4096),
    Welcome("s", "alice", "gw-1", "e", 9, 3, True, 4, (30, 270), 120, 65536, 1),
    Refusal("slow", "later", 5),
    GoAway("draining", 1, 2, ["a:80"]),
    Error("kicked", "why", None),
]


def attempt(body: bytes, kind: type[Any]) -> None:
    try:
        value = unpack(body, kind)
    except BadHello as error:
        if len(str(error)) > 300:
            raise AssertionError("the text quotes too much") from error
        return
    assert unpack(pack(value), kind) == value


def target(data: bytes) -> None:
    for good in GOOD:
        kind = type(good)
        attempt(data, kind)
        whole = pack(good)
        at = data[0] % len(whole) if data else 0
        for behind in (at, at + (data[1] % 16 if data[1:] else 0)):
            attempt(whole[:at] + data[2:] + whole[behind:], kind)


if __name__ == "__main__":
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
