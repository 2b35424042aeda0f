"""`imcore chat`: both ways, ends with what is typed, and shows what others sent without letting it act."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from pathlib import Path

from tests.cli.running import COMMAND, PATIENCE_S, Place, finishing, until


def test_two_people_talk(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with place.serving():
        alice = place.start("chat", "--as", "alice", "--to", "bob", stdin=True)
        bob = place.start("chat", "--as", "bob", "--to", "alice", stdin=True)
        with finishing(alice), finishing(bob):
            assert alice.stdin is not None
            assert alice.stdout is not None
            assert bob.stdin is not None
            assert bob.stdout is not None
            alice.stdin.write("hellö\n".encode())
            alice.stdin.flush()
            assert bob.stdout.readline().decode() == "alice: hellö\n"
            bob.stdin.write(b"\nhi\n\xff\n")
            bob.stdin.flush()
            assert alice.stdout.readline() == b"bob: hi\n"
            bob.stdin.close()
            assert bob.wait(PATIENCE_S) == 0
            assert bob.stderr is not None
            assert b"not sent: expected UTF-8" in bob.stderr.read()
            alice.send_signal(signal.SIGINT)
            assert alice.wait(PATIENCE_S) == 0


def test_on_a_terminal_what_others_wrote_is_shown_and_not_obeyed(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with place.serving():
        assert place.run("send", "--as", "eve", "--to", "bob", stdin="\x1b]0;x\x07\u202e\tü\n".encode()).returncode == 0
        ours, theirs = pty.openpty()
        command = [*COMMAND, "chat", "--as", "bob", "--to", "alice"]
        process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=place.env, cwd=tmp_path)
        os.close(theirs)
        seen = b""

        def came() -> bool:
            nonlocal seen
            seen += os.read(ours, 4096)
            return b"eve: " in seen and seen.endswith(b"\n")

        with finishing(process):
            until(came)
            assert "eve: \\x1b]0;x\\x07\\x202e\tü\r\n".encode() in seen
            os.write(ours, b"\x04")  # Ctrl-D
            assert process.wait(PATIENCE_S) == 0
        os.close(ours)


def test_a_file_goes_from_one_to_the_other(tmp_path: Path) -> None:
    place = Place(tmp_path)
    data = os.urandom(300_000)
    (tmp_path / "clip.mp4").write_bytes(data)
    with place.serving():
        alice = place.start("chat", "--as", "alice", "--to", "bob", stdin=True)
        bob = place.start("chat", "--as", "bob", "--to", "alice", "--files", "got", stdin=True)
        with finishing(alice), finishing(bob):
            assert alice.stdin is not None
            assert alice.stderr is not None
            assert bob.stdin is not None
            assert bob.stdout is not None
            assert bob.stderr is not None
            alice.stdin.write(b"/send nothing\n/send clip.mp4\n//slash\n")
            alice.stdin.flush()
            told = sorted([bob.stdout.readline(), bob.stdout.readline()])
            assert told == [b"alice: /slash\n", b"alice: [clip.mp4, 300.0 kB, video/mp4] /get 1 fetches it\n"]
            assert b"not sent: nothing: " in alice.stderr.readline()
            bob.stdin.write(b"/get 2\n/get 1\n/what\n")
            bob.stdin.close()
            assert bob.wait(PATIENCE_S) == 0
            said = bob.stderr.read()
            assert b"/get: expected a number from 1 to 1" in said
            assert b"saved as got/clip.mp4" in said
            assert b"expected /send FILE" in said
            assert (tmp_path / "got" / "clip.mp4").read_bytes() == data
            alice.send_signal(signal.SIGINT)
            assert alice.wait(PATIENCE_S) == 0


def test_on_a_terminal_a_bar_shows_how_far_a_file_is(tmp_path: Path) -> None:
    place = Place(tmp_path)
    (tmp_path / "clip.mp4").write_bytes(bytes(20_000_000))
    with place.serving():
        ours, theirs = pty.openpty()
        command = [*COMMAND, "chat", "--as", "alice", "--to", "alice"]
        env = place.env | {"TERM": "xterm", "COLUMNS": "100"}
        process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, cwd=tmp_path)
        os.close(theirs)
        seen = b""

        def came() -> bool:
            nonlocal seen
            seen += os.read(ours, 65536)
            return b"/get 1 fetches it" in seen

        with finishing(process):
            os.write(ours, b"/send clip.mp4\n")
            until(came)
            assert "━".encode() in seen
            assert b"20.0 MB" in seen
            os.write(ours, b"\x04")  # Ctrl-D
            assert process.wait(PATIENCE_S) == 0
        os.close(ours)
