"""The documents tell the truth: their bytes decode to what they say, their programs and commands run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from imcore import _codec
from imcore.errors import FrameError

ROOT = Path(__file__).parent.parent
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()

TYPES = {name: getattr(_codec, name) for name in (
    "HELLO", "WELCOME", "PING", "PONG", "MSG", "ACK", "JOIN", "LEAVE", "GOAWAY", "ERROR", "PAD",
)}  # fmt: skip
FLAGS = {name: getattr(_codec, name) for name in ("DUP", "ROOM", "FAILED")}

EXAMPLES = [
    (bytes.fromhex(found[1]), json.loads(found[2]))
    for found in re.finditer(r"```hex\n(.*?)```\s*```json\n(.*?)```", PROTOCOL, re.DOTALL)
]


def body_of(said: dict[str, Any]) -> bytes:
    if "map" in said:
        return msgspec.msgpack.encode(said["map"])
    return bytes.fromhex(said["hex"]) if "hex" in said else said.get("text", "").encode()


class TestTheProtocol:
    def test_has_an_example_of_each_type_and_each_flag(self) -> None:
        assert {said["type"] for _, said in EXAMPLES if "type" in said} == set(TYPES)
        assert {flag for _, said in EXAMPLES for flag in said.get("flags", ())} == set(FLAGS)

    def test_every_block_of_bytes_is_an_example(self) -> None:
        assert PROTOCOL.count("```hex") == len(EXAMPLES)

    @pytest.mark.parametrize(("data", "said"), EXAMPLES)
    def test_bytes_decode_to_what_it_says_and_back(self, data: bytes, said: dict[str, Any]) -> None:
        decoder = _codec.FrameDecoder()
        if "error" in said:
            with pytest.raises(FrameError) as caught:
                list(decoder.feed(data))
            assert caught.value.code == said["error"]
            return
        [frame] = decoder.feed(data)
        flags = sum(FLAGS[flag] for flag in said.get("flags", ()))
        expected = _codec.Frame(TYPES[said["type"]], said.get("id", 0), said.get("route", ""), body_of(said), flags)
        assert frame == expected
        assert expected.encode() == data
