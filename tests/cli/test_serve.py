"""`imcore serve`: says where it listens, ends in good order, and tells in one line why it can't start."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.running import Place, finishing, one_line


def connect(point: str) -> socket.socket:
    host, _, port = point.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=10)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_good_order(tmp_path: Path, number: signal.Signals) -> None:
    with Place(tmp_path).serving() as node:
        node.send_signal(number)
        assert node.wait(10) == 0
        assert node.stderr is not None
        assert b"anonymous" in node.stderr.read()


def test_it_says_every_address(tmp_path: Path) -> None:
    with finishing(Place(tmp_path).start("serve", "--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0")) as node:
        assert node.stdout is not None
        for _ in range(2):
            connect(node.stdout.readline().decode().split()[-1]).close()


def test_without_a_file_it_speaks_to_whoever_says_a_name(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with place.serving("--listen", "127.0.0.1:0"), connect(place.env["IMCORE_POINT"]) as peer:
        body = b"\x83\xa5token\xa5alice\xa6device\xa1d\xa4role\xa4both"
        peer.sendall(struct.pack(">BBBBIQ", 0xA1, 1, 0, 0, len(body), 0) + body)
        assert peer.recv(2) == b"\xa1\x02"


def test_an_address_in_use_is_named(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with place.serving():
        process = place.run("serve", "--listen", place.env["IMCORE_POINT"], "--data", "other")
    assert process.returncode == 1
    said = process.stderr.decode().splitlines()[-1]
    assert place.env["IMCORE_POINT"] in said
    assert "another program listens there" in said


def test_a_folder_in_use_is_named(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with place.serving():
        process = place.run("serve", "--listen", "127.0.0.1:0")
    assert process.returncode == 1
    assert b"already in use by node imcore" in process.stderr


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    file = tmp_path / "imcore.toml"
    file.write_text('[[listen]]\naddress = "127.0.0.1:0"\ntls = { certificate = "c.pem", key = "k.pem" }')
    process = Place(tmp_path).run("serve", "--config", "imcore.toml")
    assert process.returncode == 1
    assert "no such file" in process.stderr.decode().splitlines()[-1]


def test_the_file_decides_who_may_come(tmp_path: Path) -> None:
    place = Place(tmp_path)
    secret = "0123456789abcdef0123456789abcdef"
    (tmp_path / "imcore.toml").write_text(
        f'[[listen]]\naddress = "127.0.0.1:0"\n[auth]\nmode = "jwt"\nkeys = ["{secret}"]\n'
    )
    token = place.run("token", "--user", "alice", "--key", secret).stdout.decode().strip()
    with place.serving("--config", "imcore.toml"):
        refused = place.run("send", "--as", "alice", "--to", "alice", stdin=b"hi\n")
        assert refused.returncode == 1
        assert b"unauthorized" in refused.stderr
        env = {"IMCORE_TOKEN": token}
        assert place.run("send", "--to", "alice", stdin=b"hi\n", env=env).returncode == 0
        assert place.run("listen", "--count", "1", env=env).stdout == b"hi\n"
        stranger = place.run("token", "--user", "alice", "--key", secret[::-1]).stdout.decode().strip()
        assert place.run("listen", "--count", "1", "--token", stranger).returncode == 1


def test_it_may_open_as_many_files_as_the_user(tmp_path: Path) -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if not os.path.exists("/proc/self/limits"):
        pytest.skip("only Linux tells the limits of another process")
    with Place(tmp_path).serving() as node:
        limits = Path(f"/proc/{node.pid}/limits").read_text()
    [row] = [line.split() for line in limits.splitlines() if line.startswith("Max open files")]
    assert row[3] == row[4] == ("unlimited" if hard == resource.RLIM_INFINITY else str(hard))


def test_a_wrong_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "imcore.toml").write_text("[limits]\nwindw = 3\n")
    process = Place(tmp_path).run("serve", "--config", "imcore.toml")
    assert process.returncode == 2
    assert "did you mean limits.window?" in one_line(process)


GROWING = """
import gc
from imcore.cli import serve

serve._collect_in_small_steps()
kept, most = [], 0
for number in range(200_000):
    kept.append([number])
    if number % 1000 == 0:
        most = max(most, len(gc.get_objects()))
print(most)
"""


def test_the_collector_looks_at_what_is_new_and_not_at_every_link() -> None:
    done = subprocess.run([sys.executable, "-c", GROWING], capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) < 50_000, "of 200,000"
