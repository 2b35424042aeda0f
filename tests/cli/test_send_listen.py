"""`imcore send` and `imcore listen`: every line once, in order, as it was, whatever is stopped in between."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from imcore import Client
from tests.cli.running import PATIENCE_S, Place, finishing, until

SHORT = "[limits]\ndrain_s = 0.3\nspread_s = 0.1\n"
"""A node that waits for nobody when it stops."""


@pytest.fixture(scope="module", autouse=True)
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[bytes]]:
    """A sender without a gateway, whose patience passes beside the other tests."""
    place = Place(tmp_path_factory.mktemp("alone"))
    words = ("send", "--as", "alice", "--to", "bob", "--point", "127.0.0.1:1")
    with finishing(place.start(*words, stdin=True)) as process:
        assert process.stdin is not None
        process.stdin.write(b"hi\n")
        process.stdin.close()
        yield process


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    with place.serving():
        yield place


def send(place: Place, text: bytes, *more: str) -> subprocess.CompletedProcess[bytes]:
    return place.run("send", "--as", "alice", "--to", "bob", *more, stdin=text)


def hear(place: Place, count: int, *more: str) -> bytes:
    return place.run("listen", "--as", "bob", "--count", str(count), *more).stdout


def test_lines_come_as_they_were(place: Place) -> None:
    text = b"a\n\n  b \r\n" + "ü\u2028\u0085\x0b😀 \x00 \x1b[31m\n".encode() + b"no newline"
    sent = send(place, text)
    assert (sent.returncode, sent.stdout) == (0, b"")
    assert b"5 of 5 lines are durable" in sent.stderr
    assert hear(place, 5) == text + b"\n"


def test_and_through_the_tunnel(place: Place) -> None:
    point = f"http://{place.env['IMCORE_POINT']}"
    sent = send(place, b"one\ntwo\n", "--point", point)
    assert b"2 of 2 lines are durable" in sent.stderr
    assert hear(place, 2, "--point", point) == b"one\ntwo\n"
    send(place, b"three\n")
    assert hear(place, 1) == b"three\n"  # the place in the inbox is the device's, whatever it came by


def test_nothing_in_nothing_out(place: Place) -> None:
    sent = send(place, b"")
    assert sent.returncode == 0
    assert b"0 of 0 lines" in sent.stderr


def test_a_line_that_cannot_be_sent_is_named_and_the_rest_goes(place: Place) -> None:
    long = b"x" * 70_000
    sent = send(place, b"one\n\xff\xfe\ntwo\n" + long + b"\nthree\n", "--json")
    assert sent.returncode == 1
    assert b"line 2: not_utf8" in sent.stderr
    assert b"line 4: too_large" in sent.stderr
    summary = json.loads(sent.stdout)
    assert (summary["lines"], summary["durable"], [wrong["line"] for wrong in summary["wrong"]]) == (5, 3, [2, 4])
    assert hear(place, 3) == b"one\ntwo\nthree\n"


def test_a_refused_line_is_named_with_the_reason(place: Place) -> None:
    sent = place.run("send", "--as", "alice", "--to", "", stdin=b"a\nb\n")
    assert sent.returncode == 1
    assert [line.split(b":")[1] for line in sent.stderr.splitlines()[:2]] == [b" line 1", b" line 2"]
    assert b'expects a JSON object {"to": "<user>", "text": "<text>"}' in sent.stderr


def test_json_says_where_from_and_which_number(place: Place) -> None:
    assert send(place, b"hi\n").returncode == 0
    assert json.loads(hear(place, 1, "--json")) == {
        "seq": 1, "route": "chat", "room": None, "from": "alice", "text": "hi", "gap": None,
    }  # fmt: skip


def test_a_listener_goes_on_where_it_stopped(place: Place) -> None:
    assert send(place, b"1\n2\n3\n4\n").returncode == 0
    assert hear(place, 1) == b"1\n"
    assert hear(place, 2) == b"2\n3\n"
    assert hear(place, 1) == b"4\n"


def test_each_device_has_a_place_of_its_own(place: Place) -> None:
    async def meet(device: str) -> None:  # from here on the server keeps messages for it
        async with asyncio.timeout(20), Client(points=[place.env["IMCORE_POINT"]], token="bob", device=device) as im:
            await im.join("here")

    asyncio.run(meet("listen"))
    asyncio.run(meet("other"))
    assert send(place, b"1\n").returncode == 0
    assert hear(place, 1) == b"1\n"
    assert hear(place, 1, "--device", "other") == b"1\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_listener_that_is_stopped_and_started_prints_every_line_once(place: Place, number: signal.Signals) -> None:
    rng = random.Random(1)
    lines = [f"line {i} {'x' * rng.randrange(60)}\n".encode() for i in range(3000)]
    out = place.folder / "out"
    with finishing(place.start("send", "--as", "alice", "--to", "bob", stdin=True)) as sender:

        def feed() -> None:
            assert sender.stdin is not None
            for line in lines:
                sender.stdin.write(line)
                if rng.random() < 0.2:
                    sender.stdin.flush()
                    threading.Event().wait(0.002)
            sender.stdin.close()

        feeder = threading.Thread(target=feed)
        feeder.start()
        out.touch()
        for _ in range(3):
            had = len(out.read_bytes())
            with finishing(place.start("listen", "--as", "bob", stdout=out)) as bob:
                until(lambda had=had: len(out.read_bytes()) > had)  # type: ignore[misc]  # mypy can't infer the default
                bob.send_signal(number)
                assert bob.wait(PATIENCE_S) == 0
        feeder.join()
        assert sender.wait(PATIENCE_S) == 0
    rest = len(lines) - out.read_bytes().count(b"\n")
    with out.open("ab") as file:
        file.write(hear(place, rest) if rest else b"")
    assert out.read_bytes() == b"".join(lines)


def test_a_listener_that_is_killed_misses_nothing_and_prints_at_most_its_last_line_again(place: Place) -> None:
    lines = [f"line {i}\n".encode() for i in range(4000)]
    out = place.folder / "out"
    assert send(place, b"".join(lines)).returncode == 0
    kills = 0
    while kills < 4:
        with finishing(place.start("listen", "--as", "bob", stdout=out)) as bob:
            size = out.stat().st_size if out.exists() else 0
            until(lambda size=size: out.stat().st_size > size)  # type: ignore[misc]  # as above
            bob.kill()
            assert bob.wait(PATIENCE_S) == -signal.SIGKILL
        kills += 1
        if out.read_bytes().endswith(lines[-1]):
            break
    if not out.read_bytes().endswith(lines[-1]):
        with finishing(place.start("listen", "--as", "bob", stdout=out)):
            until(lambda: out.read_bytes().endswith(lines[-1]))
    printed = out.read_bytes().splitlines(keepends=True)
    once = [line for line, before in zip(printed, [b"", *printed], strict=False) if line != before]
    assert once == lines
    assert len(printed) <= len(lines) + kills  # no program writes a line and remembers so in one step


def test_the_node_may_stop_and_start_while_both_go_on(tmp_path: Path) -> None:
    place = Place(tmp_path)
    out = tmp_path / "out"
    (tmp_path / "node.toml").write_text(SHORT)
    words = ("--anonymous", "--config", "node.toml", "--listen")
    with place.serving(*words, "127.0.0.1:0"):
        point = place.env["IMCORE_POINT"]
        bob = place.start("listen", "--as", "bob", stdout=out)
        alice = place.start("send", "--as", "alice", "--to", "bob", stdin=True)
        assert alice.stdin is not None
        alice.stdin.write(b"before\n")
        alice.stdin.flush()
        until(lambda: out.exists() and out.read_bytes() == b"before\n")
    with finishing(bob), finishing(alice):
        alice.stdin.write(b"meanwhile\n")
        alice.stdin.flush()
        with place.serving(*words, point):
            alice.stdin.write(b"after\n")
            alice.stdin.close()
            assert alice.wait(PATIENCE_S) == 0
            until(lambda: out.read_bytes() == b"before\nmeanwhile\nafter\n")


def test_a_reader_that_has_had_enough_is_no_error(place: Place) -> None:
    assert send(place, b"".join(b"%d\n" % i for i in range(5000))).returncode == 0
    with finishing(place.start("listen", "--as", "bob")) as bob:
        assert bob.stdout is not None
        assert bob.stderr is not None
        assert os.read(bob.stdout.fileno(), 2) == b"0\n"
        bob.stdout.close()
        assert bob.wait(PATIENCE_S) == 0
        assert bob.stderr.read() == b""


def test_a_room_is_heard(place: Place) -> None:
    with finishing(place.start("listen", "--as", "bob", "--room", "news", "--room", "sport")) as bob:
        # Nobody publishes to rooms by a command: what shows that it is in is that it hears its inbox.
        assert send(place, b"hi\n").returncode == 0
        assert bob.stdout is not None
        assert bob.stdout.readline() == b"hi\n"


def test_two_processes_with_one_device_are_told_so(place: Place) -> None:
    with finishing(place.start("listen", "--as", "bob")) as bob:
        assert send(place, b"hi\n").returncode == 0
        assert bob.stdout is not None
        assert bob.stdout.readline() == b"hi\n"
        second = place.run("listen", "--as", "bob")
        assert second.returncode == 2
        assert b"another process uses it" in second.stderr


def test_a_second_sender_takes_over_and_the_first_is_told_so(place: Place) -> None:
    with finishing(place.start("send", "--as", "alice", "--to", "bob", stdin=True)) as first:
        assert first.stdin is not None
        first.stdin.write(b"1\n")
        first.stdin.flush()
        assert hear(place, 1) == b"1\n"
        assert send(place, b"2\n").returncode == 0
        assert first.wait(PATIENCE_S) == 1
        assert first.stderr is not None
        assert b"superseded" in first.stderr.read()


def test_standard_input_may_be_closed(place: Place) -> None:
    command = 'exec "$0" -m imcore send --as alice --to bob <&-'
    shell = ["/bin/sh", "-c", command, sys.executable]
    process = subprocess.run(shell, env=place.env, capture_output=True, timeout=PATIENCE_S, check=False)
    assert process.returncode == 0, process.stderr


def test_a_stopped_sender_says_what_is_known(place: Place) -> None:
    with finishing(place.start("send", "--as", "alice", "--to", "bob", stdin=True)) as alice:
        assert alice.stdin is not None
        alice.stdin.write(b"1\n")
        alice.stdin.flush()
        assert hear(place, 1) == b"1\n"
        alice.send_signal(signal.SIGINT)
        assert alice.wait(PATIENCE_S) == 130
        assert alice.stderr is not None
        assert b"1 of 1 lines are durable" in alice.stderr.read()


def test_without_a_gateway_a_sender_gives_up_and_says_where_it_looked(alone: subprocess.Popen[bytes]) -> None:
    assert alone.wait(PATIENCE_S) == 1
    assert alone.stderr is not None
    said = alone.stderr.read()
    assert b"127.0.0.1:1: REFUSED: nobody listens there" in said
    assert b"(Connection refused)" in said
    assert b"imcore serve" in said
