"""The commands as a person uses them: real processes, real signals, and one line for what is wrong."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

IMCORE = [sys.executable, "-m", "imcore"]
LINES = [f"line {n} — ünï © {'x' * (n % 50)}" for n in range(400)]


def imcore(*words: str, stdin: str = "", folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*IMCORE, *words], input=stdin, cwd=folder, capture_output=True, text=True, timeout=50, check=False
    )


@contextmanager
def serving(folder: Path, *words: str) -> Iterator[str]:
    """`imcore serve` on a free port; yields the address."""
    server = subprocess.Popen(
        [*IMCORE, "serve", "--listen", "127.0.0.1:0", "--anonymous", "--data", str(folder / "data"), *words],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        said = server.stdout.readline().split()
        assert said[:2] == ["listening", "on"]
        yield said[2]
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0
    finally:
        server.kill()
        server.wait()
        assert server.stdout is not None
        server.stdout.close()


def listen(address: str, folder: Path, out: Path, *words: str) -> subprocess.Popen[str]:
    command = [*IMCORE, "listen", "--as", "bob", "--point", address, "--state", str(folder / "state"), *words]
    with out.open("a") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.DEVNULL, text=True)


def wait_for(out: Path, lines: int) -> None:
    end = time.monotonic() + 30
    while out.read_text().count("\n") < lines:
        assert time.monotonic() < end, f"{out.read_text().count(chr(10))} of {lines} lines came"
        time.sleep(0.02)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_listener_stopped_half_way_gets_every_line_once(tmp_path: Path, how: signal.Signals) -> None:
    out = tmp_path / "out"
    with serving(tmp_path) as address:
        bob = listen(address, tmp_path, out)
        send = ("send", "--as", "alice", "--to", "bob", "--point", address)
        assert imcore(*send, stdin="\n".join(LINES[:200]) + "\n").returncode == 0
        wait_for(out, 50)
        bob.send_signal(how)
        bob.wait(20)
        assert imcore(*send, stdin="\n".join(LINES[200:]) + "\n").returncode == 0
        bob = listen(address, tmp_path, out)
        wait_for(out, len(LINES))
        time.sleep(0.3)
        bob.send_signal(signal.SIGTERM)
        bob.wait(20)
    got = out.read_text().splitlines()
    if how is signal.SIGKILL:  # between writing a line and remembering it: the one line that may come again
        again = [n for n in range(1, len(got)) if got[n] == got[n - 1]]
        assert len(again) <= 1
        got = [line for n, line in enumerate(got) if n not in again]
    assert got == LINES


def test_what_is_refused_is_named_and_the_rest_sent(tmp_path: Path) -> None:
    with serving(tmp_path) as address:
        long = "y" * 70_000
        done = imcore("send", "--as", "alice", "--to", "bob", "--point", address, stdin=f"one\n{long}\nthree\n")
        assert done.returncode == 1
        assert "2" in done.stderr
        assert "Traceback" not in done.stderr
        got = imcore(
            "listen", "--as", "bob", "--point", address, "--count", "2", "--json", "--state", str(tmp_path / "s")
        )
        assert [json.loads(line)["text"] for line in got.stdout.splitlines()] == ["one", "three"]


def test_a_token_is_one_that_a_node_takes(tmp_path: Path) -> None:
    secret = "a secret that is surely long enough"
    (tmp_path / "imcore.toml").write_text(
        f'[[listen]]\naddress = "127.0.0.1:0"\n[auth]\nmode = "jwt"\nkeys = ["{secret}"]\n'
    )
    token = imcore("token", "--user", "alice", "--key", secret).stdout.strip()
    server = subprocess.Popen(
        [*IMCORE, "serve", "--config", str(tmp_path / "imcore.toml")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        address = server.stdout.readline().split()[2]
        assert imcore("send", "--token", token, "--to", "bob", "--point", address, stdin="x\n").returncode == 0
        wrong = imcore("send", "--token", token[:-4] + "AAAA", "--to", "bob", "--point", address, stdin="x\n")
        assert wrong.returncode == 1
        assert "unauthorized" in wrong.stderr
        assert "Traceback" not in wrong.stderr
    finally:
        server.kill()
        server.wait()
        assert server.stdout is not None
        server.stdout.close()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["serve", "--listen", "8080"], 2, "host:port"),
        (["serve", "--listen", "0.0.0.0:0"], 2, "loopback"),
        (["serve", "--config", "nowhere.toml"], 2, "nowhere.toml"),
        (["send", "--as", "alice"], 2, "--to"),
        (["nonsense"], 2, "nonsense"),
        (["listen", "--as", "bob", "--point", "host:port:80"], None, "point"),
        (["token", "--user", "alice", "--key", "short"], None, "32"),
    ],
)
def test_wrong_input_gets_one_clear_line(tmp_path: Path, words: list[str], code: int | None, said: str) -> None:
    done = imcore(*words, folder=tmp_path)
    assert done.returncode in ((1, 2) if code is None else (code,)), done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_demo_loses_nothing_and_says_so() -> None:
    done = imcore("demo", "--json", "--messages", "200", "--seconds", "1", "--users", "4")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    verdict = result["verdict"]
    assert result["good"] is True
    assert (verdict["lost"], verdict["doubled"], verdict["reordered"]) == (0, 0, 0)
    assert verdict["sent"] == verdict["received"] >= 200
