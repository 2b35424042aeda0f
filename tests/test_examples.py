"""The examples run as they stand, and do what they say."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import imcore
from imcore import config

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@contextmanager
def program(source: str, folder: Path) -> Iterator[str]:
    """The program runs in a folder of its own, on a port of its own; yields its address."""
    port = free_port()
    (folder / "program.py").write_text(source.replace("9000", str(port)))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([sys.executable, "program.py"], cwd=folder, stdout=log, stderr=log)
    try:
        for _ in range(200):
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


async def ask(address: str, route: str, body: bytes) -> imcore.Message:
    async with asyncio.timeout(20), imcore.Client(points=[address], token="alice", device="phone") as im:
        await im.send(route, body)
        async for message in im:
            return message
    raise AssertionError("the client ended")


def test_echo_answers(tmp_path: Path) -> None:
    with program((EXAMPLES / "echo.py").read_text(), tmp_path) as address:
        assert asyncio.run(ask(address, "echo", b"hello")).body == b"hello"


def test_the_order_desk_answers_and_says_what_it_expects(tmp_path: Path) -> None:
    with program((EXAMPLES / "embedded.py").read_text(), tmp_path) as address:
        answer = asyncio.run(ask(address, "order", b'{"item": "tea"}'))
        told = json.loads(answer.body)
        assert (told["item"], told["state"]) == ("tea", "done")
        with pytest.raises(imcore.Refused, match="item"):
            asyncio.run(ask(address, "order", b"tea"))


def test_the_configuration_is_one() -> None:
    loaded = config.load(EXAMPLES / "imcore.toml")
    assert loaded.auth.mode == "jwt"
    assert [each.tls is not None for each in loaded.listen] == [False, True]


def test_the_one_for_four_ports_has_them_all() -> None:
    text = (EXAMPLES / "four-ports.toml").read_text()
    assert {listen.address for listen in config.parse(text).listen} == {
        f"0.0.0.0:{port}" for port in (80, 8080, 443, 14000)
    }


def blocks(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)


def test_the_readme_runs(tmp_path: Path) -> None:
    [source] = blocks(ROOT / "README.md")
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, done.stdout) == (0, "1 b'hello'\n"), done.stderr


def test_a_file_goes_as_the_document_says(tmp_path: Path) -> None:
    [source] = blocks(ROOT / "docs" / "media.md")
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["15 of 15", "moving pictures"]


def test_the_tutorial_runs(tmp_path: Path) -> None:
    gateway, devices, tokens = blocks(ROOT / "docs" / "tutorial.md")
    with program(gateway, tmp_path) as address:
        source = devices.replace("127.0.0.1:9000", address)
        done = subprocess.run(
            [sys.executable, "-c", source], cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False
        )
        assert done.returncode == 0, done.stderr
        first, second, third = done.stdout.splitlines()
        assert re.fullmatch(r"durable, as number \d+", first)
        assert second == 'bob got 1 shout {"from": "alice", "text": "HELLO"}'
        assert third.startswith("the clock says tick ")
    done = subprocess.run([sys.executable, "-c", tokens], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert os.listdir(tmp_path / "data"), "the gateway kept its data here"
