"""`imcore frame`: what it makes the other end takes, what it reads it shows, and curl speaks the tunnel with both."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from imcore import Frame, FrameDecoder, _codec
from imcore.messages import Hello, Refusal, Resume, unpack
from imcore.notation import FLAGS, TYPES, as_json, as_line, body_of_fields, make, read
from tests.cli.running import COMMAND, Place, one_line
from tests.others import ours, theirs

ROOT = Path(__file__).parent.parent.parent


def one(data: bytes) -> Frame:
    [frame] = FrameDecoder().feed(data)
    return frame


class TestMaking:
    def test_a_hello_has_the_keys_in_their_own_types(self, tmp_path: Path) -> None:
        done = Place(tmp_path).run(
            "frame", "make", "hello", "token=123", "device=phone", "role=down", "poll_ms=2000",
            'resume={"epoch": "e", "seq": 7}', 'accepts=["zstd"]', "fresh=head",
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b"")
        hello = unpack(one(done.stdout).body, Hello)
        assert hello == Hello("123", "phone", "down", "", Resume("e", 7), ["zstd"], "head", 2000)

    def test_a_message_has_its_body_from_wherever_it_is(self, tmp_path: Path) -> None:
        place = Place(tmp_path)
        (tmp_path / "body").write_bytes(b"\x00\xff")
        for args, body in (
            (["--text", "hé"], "hé".encode()),
            (["--hex", "00 fF"], b"\x00\xff"),
            (["--file", "body"], b"\x00\xff"),
            (["--file", "-"], b"in"),
            ([], b""),
        ):
            done = place.run(
                "frame", "make", "MSG", "--id", "7", "--route", "a b", "--flag", "room", *args, stdin=b"in"
            )
            assert one(done.stdout) == Frame(_codec.MSG, 7, "a b", body, _codec.ROOM)

    @pytest.mark.parametrize("type", TYPES)
    def test_there_is_each_type(self, type: str) -> None:
        assert one(make(type.lower(), 5)).type == TYPES[type]

    def test_a_refusal_is_an_ack_that_failed(self) -> None:
        fields = ["code=slow", "text=later", "retry_ms=5"]
        assert unpack(body_of_fields("ack", ["failed"], fields), Refusal) == Refusal("slow", "later", 5)
        assert unpack(body_of_fields("ack", ["failed"], [*fields[:2], "retry_ms=null"]), Refusal).retry_ms is None


class TestReading:
    FRAMES = (
        Frame(_codec.HELLO, body=msgspec.msgpack.encode({"token": "a b", "role": "up", "poll_ms": 5})),
        Frame(_codec.MSG, 2**64 - 1, "chat", b'{"to": "bob"}', _codec.ROOM | _codec.DUP),
        Frame(_codec.MSG, 1, "chat", b"\xff\x1b"),
        Frame(_codec.MSG, 2, "news", b"hello"),
        Frame(_codec.ACK, 3, body=(42).to_bytes(8)),
        Frame(_codec.ACK, 3, body=msgspec.msgpack.encode({"code": "slow"}), flags=_codec.FAILED),
        Frame(_codec.PING, 9, body=b"\x00\x4b"),
        Frame(_codec.PAD, body=bytes(3)),
        Frame(_codec.ERROR, body=b"\xc1"),
    )
    LINES = (
        'HELLO token="a b" role=up poll_ms=5',
        'MSG flags=DUP,ROOM id=18446744073709551615 route=chat text="{\\"to\\": \\"bob\\"}"',
        "MSG id=1 route=chat hex=ff1b",
        "MSG id=2 route=news text=hello",
        "ACK id=3 newest=42",
        "ACK flags=FAILED id=3 code=slow",
        "PING id=9 next_s=75",
        "PAD hex=000000",
        "ERROR hex=c1",
    )

    def test_a_file_that_is_not_there_is_told_with_what_to_do(self, tmp_path: Path) -> None:
        done = Place(tmp_path).run("frame", "read", "nowhere")
        assert done.returncode == 2
        assert "nowhere: No such file or directory: expected a file that can be read, or -" in one_line(done)

    def test_shows_each_in_a_line(self, tmp_path: Path) -> None:
        stream = b"".join(frame.encode() for frame in self.FRAMES)
        assert tuple(map(as_line, self.FRAMES)) == self.LINES
        done = Place(tmp_path).run("frame", "read", stdin=stream)
        assert (done.returncode, done.stdout.decode().splitlines()) == (0, list(self.LINES))

    def test_shows_each_as_json_from_which_it_can_be_made_again(self, tmp_path: Path) -> None:
        (tmp_path / "frames").write_bytes(b"".join(frame.encode() for frame in self.FRAMES))
        done = Place(tmp_path).run("frame", "read", "frames", "--json")
        lines = done.stdout.decode().splitlines()
        assert lines == list(map(as_json, self.FRAMES))
        for line, frame in zip(lines, self.FRAMES, strict=True):
            told = json.loads(line)
            flags = sum(FLAGS[flag] for flag in told.get("flags", ()))
            body = msgspec.msgpack.encode(told["map"]) if "map" in told else told.get("text", "").encode()
            body = bytes.fromhex(told["hex"]) if "hex" in told else body
            assert Frame(TYPES[told["type"]], told.get("id", 0), told.get("route", ""), body, flags) == frame

    def test_from_any_cut(self) -> None:
        stream = b"".join(frame.encode() for frame in self.FRAMES)
        assert tuple(read([stream[at : at + 1] for at in range(len(stream))])) == self.FRAMES

    def test_what_is_none_is_named_behind_those_that_are(self, tmp_path: Path) -> None:
        place = Place(tmp_path)
        for bad, told in (
            (b"<html>", "at byte 16"),
            (b"\xa1\x05", "the stream ended"),
            (b"\xa2" + bytes(15), "version"),
        ):
            done = place.run("frame", "read", stdin=Frame(_codec.PING, 1).encode() + bad)
            assert (done.returncode, done.stdout) == (1, b"PING id=1\n")
            assert told in one_line(done)

    def test_as_they_come(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "imcore", "frame", "read"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            for number in (1, 2):
                process.stdin.write(Frame(_codec.PING, number).encode())
                process.stdin.flush()
                assert process.stdout.readline() == b"PING id=%d\n" % number
            process.stdin.close()


def test_frames_are_not_written_to_a_terminal(tmp_path: Path) -> None:
    above, below = os.openpty()
    command = [sys.executable, "-m", "imcore", "frame", "make", "ping"]
    try:
        done = subprocess.run(command, stdout=below, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(above)
        os.close(below)
    assert done.returncode == 2
    assert b"a file or a pipe" in done.stderr


@pytest.mark.skipif(not shutil.which("curl") and not os.environ.get("CI"), reason="curl is not installed")
def test_curl_sends_and_polls_as_the_document_says(tmp_path: Path) -> None:
    [script] = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs" / "commands.md").read_text(), re.DOTALL | re.MULTILINE)
    place = Place(tmp_path)
    (tmp_path / "imcore").write_text(f'#!/bin/sh\nexec {ours(COMMAND)} "$@"\n')
    (tmp_path / "imcore").chmod(stat.S_IRWXU)
    with place.serving():
        done = subprocess.run(
            ["sh", "-euc", script.replace("127.0.0.1:9000", place.env["IMCORE_POINT"])],
            cwd=tmp_path,
            env=theirs(place.env) | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
    sent, acknowledged, polled, message = done.stdout.splitlines()
    assert sent.startswith("WELCOME ")
    assert "user=alice" in sent
    assert acknowledged.startswith("ACK id=1")
    assert "user=bob" in polled
    assert message == r'MSG id=1 route=chat text="{\"from\":\"alice\",\"text\":\"hi\"}"'
