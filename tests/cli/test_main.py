"""Whatever is wrong with the arguments is one line and an exit code, never a traceback."""

from __future__ import annotations

import os
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from imcore.cli import main
from tests.cli.running import Place, one_line

ROOT = Path(__file__).parent.parent.parent
COMMANDS = ["chat", "demo", "frame", "listen", "send", "serve", "token"]

NO_SECONDS = ["-1", "nan", "inf", "1e300", "", "soon"]
WRONG = [
    ([], "COMMAND"),
    (["snd"], "did you mean send?"),
    (["xyzzy"], "expected one of demo, serve"),
    (["send"], "--to"),
    (["send", "--to", "bob", "--as", "a", "--token", "b"], "not allowed with"),
    (["send", "--to", "bob"], "--as NAME, --token TOKEN or the variable IMCORE_TOKEN"),
    (["send", "--to", "bob", "--as", "a", "--point", "ftp://x"], "http:// or https://"),
    (["doctor", "--key", "nowhere.pem"], "--key nowhere.pem: expected a file with a public key in PEM: No such file"),
    (["send", "--to", "bob", "--as", "a", "--access", "127.0.0.1:1"], "--access: expected --key too"),
    (["send", "--to", "bob", "--as", "a", "--point", "x:y"], "port"),
    (["listen", "--as", "bob", "--count", "0"], "--count"),
    (["listen", "--as", "bob", "--count", "x"], "--count"),
    (["listen", "--as", "bob", "--count", "nan"], "expected a whole number from 1 on, got 'nan'"),
    (["listen", "--as", "bob", "--device", "x" * 65], "--device"),
    (["listen", "--as", "bob", "--device", "\udcff"], "--device: expected UTF-8, got"),
    (["listen", "--as", "bob", "--room", "\udcff"], "--room: expected UTF-8, got"),
    (["send", "--as", "\udcff", "--to", "bob"], "--as: expected UTF-8, got"),
    (["send", "--token", "\udcff", "--to", "bob"], "--token: expected UTF-8, got"),
    (["send", "--as", "alice", "--to", "\udcff"], "--to: expected UTF-8, got"),
    (["chat", "--as", "alice", "--to", "\udcff"], "--to: expected UTF-8, got"),
    (["chat", "--as", "bob"], "--to"),
    (["serve", "--config", "nowhere.toml"], "nowhere.toml"),
    (["serve", "--listen", "nowhere"], "host:port"),
    (["serve", "--listen", "0.0.0.0:0", "--anonymous"], "loopback"),
    (["serve", "--lis", "127.0.0.1:0"], "--lis"),
    (["serve", "--data", ""], "data: expected a folder, got ''"),
    (["demo", "more"], "unrecognized arguments: more; see `imcore demo --help`"),
    (["demo", "--users", "1"], "--users: expected a whole number from 2 to 1000, got '1'"),
    (["demo", "--users", "100000"], "--users"),
    (["demo", "--users", "9", "--messages", "71"], "--messages: expected at least 72"),
    (["demo", "--messages", "1" + "0" * 20], "--messages: expected a whole number"),
    *((["demo", "--seconds", wrong], "--seconds: expected seconds from 0") for wrong in NO_SECONDS),
    *((["demo", "--split", "--away", wrong], "--away: expected seconds from 0") for wrong in NO_SECONDS),
    (["dead"], "required: action;"),
    (["frame"], "ACTION"),
    (["frame", "make"], "required: TYPE;"),
    (["frame", "make", "hello", "--id", "1", "token=a"], "token=a; see `imcore frame make --help`"),
    (["frame", "make", "hello", "token=\udcff", "device=b", "role=up"], "surrogates not allowed"),
    (["frame", "make", "msgs"], "did you mean MSG?"),
    (["frame", "make", "hello", "token=a"], "device"),
    (["frame", "make", "hello", "token=a", "device=b", "rôle=up"], "did you mean role?"),
    (["frame", "make", "hello", "token=a", "device=b", "role=x"], "role"),
    (["frame", "make", "hello", "token=a", "token=b"], "each key once"),
    (["frame", "make", "hello", "token"], "KEY=VALUE"),
    (["frame", "make", "hello", "resume={"], "expected JSON"),
    (["frame", "make", "hello", f"token={'x' * 3000}", "device=b", "role=up"], "token"),
    (["frame", "make", "msg", "a=b"], "its body is no map"),
    (["frame", "make", "msg", "--text", "a", "--hex", "00"], "not allowed with"),
    (["frame", "make", "hello", "a=b", "--text", "a"], "got both"),
    (["frame", "make", "msg", "--hex", "a1 0"], "two hexadecimal digits"),
    (["frame", "make", "msg", "--file", "nowhere"], "nowhere: No such file"),
    (["frame", "make", "msg", "--file", "/dev/zero"], "expected at most 16777216 bytes"),
    (["frame", "make", "msg", "--id", "-1"], "id"),
    (["frame", "make", "msg", "--id", "1" + "0" * 20], "id"),
    (["frame", "make", "msg", "--route", "x" * 256], "route"),
    (["frame", "make", "msg", "--flag", "rom"], "did you mean ROOM?"),
    (["frame", "read", "nowhere"], "nowhere: No such file"),
    (["frame", "read", ""], "'': "),
    (["frame", "read", "."], "Is a directory"),
    (["token", "--user", "a"], "--key"),
    (["token", "--user", "a", "--key", "short"], "32 bytes"),
    (["token", "--user", "a", "--key", "\udcff" * 32], "--key: expected UTF-8, got"),
    (["token", "--user", "a", "--key-file", "nowhere"], "'nowhere': No such file or directory: expected a file"),
    (["token", "--user", "a", "--key-file", "/dev/zero", "--alg", "RS256"], "private key of RSA"),
    (["token", "--user", "a", "--key", "k" * 32, "--ttl", "9" * 20], "--ttl: expected a whole number from 1"),
]


class Here:
    """The command in this process, which takes a hundredth of the time, where `Place` would start one."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def run(self, *args: str) -> subprocess.CompletedProcess[bytes]:
        """Run to the end."""
        try:
            code = main(args)
        except SystemExit as error:  # the parser's
            code = error.code if isinstance(error.code, int) else 1
        out, said = self._capsys.readouterr()
        return subprocess.CompletedProcess(args, code, out.encode(), said.encode())


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    monkeypatch.chdir(tmp_path)
    for name in os.environ.keys() - Place(tmp_path).env.keys():
        monkeypatch.delenv(name)
    for name, value in Place(tmp_path).env.items():
        monkeypatch.setenv(name, value)
    return Here(capsys)


def is_one_line(process: subprocess.CompletedProcess[bytes], told: str) -> None:
    assert process.returncode == 2
    assert process.stdout == b""
    assert told in one_line(process)


@pytest.mark.parametrize(("args", "told"), WRONG)
def test_wrong_arguments_are_one_line_and_exit_code_2(here: Here, args: list[str], told: str) -> None:
    is_one_line(here.run(*args), told)


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["snd"], "did you mean send?"),  # the parser finds it
        (["send", "--to", "bob"], "--as NAME"),  # the command
        (["serve", "--config", "nowhere.toml"], "nowhere.toml"),  # who reads the file
    ],
)
def test_and_so_they_are_in_a_process_of_its_own(tmp_path: Path, args: list[str], told: str) -> None:
    is_one_line(Place(tmp_path).run(*args), told)


def test_version_is_that_of_the_package(tmp_path: Path) -> None:
    process = Place(tmp_path).run("--version")
    assert (process.returncode, process.stdout.decode()) == (0, f"imcore {version('imcore')}\n")


def test_help_tells_of_every_command(tmp_path: Path) -> None:
    said = Place(tmp_path).run("--help").stdout.decode()
    assert [command for command in COMMANDS if command not in said] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_the_document_tells_of_every_option(here: Here, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    document = (ROOT / "docs" / "commands.md").read_text()
    [section] = [part for part in document.split("\n## ") if part.startswith(f"imcore {command}\n")]
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    said = here.run(command, "--help").stdout.decode()
    options = {word.strip(",[]|") for word in said.split() if word.lstrip("[").startswith("--")} - {"--help"}
    missing = [option for option in sorted(options) if f"`{option}" not in section]
    assert not missing
