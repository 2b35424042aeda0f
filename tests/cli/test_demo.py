"""`imcore demo`: real messages through real breaks; the exit code says what became of them."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import msgspec
import pytest

from imcore.cli.account import Verdict
from imcore.cli.demo import Result, show
from tests import redis_server
from tests.cli.running import COMMAND, PATIENCE_S, Place, one_line

GOOD = Result(Verdict(10, 10, 10, 0, 0, 0, 0), 2, 1.0, 0.5, 0.9, 100.0, [])


def test_messages_survive_every_break(tmp_path: Path) -> None:
    process = Place(tmp_path).run("demo", "--json", "--messages", "400", "--users", "4", "--seconds", "1")
    assert process.returncode == 0, process.stderr.decode()
    result = json.loads(process.stdout)
    verdict = result["verdict"]
    assert result["good"] is True
    assert verdict["sent"] == verdict["received"] == verdict["confirmed"] == 400
    assert verdict["lost"] == verdict["doubled"] == verdict["reordered"] == verdict["foreign"] == 0
    assert len(result["breaks"]) == 3
    assert 0 < result["p50_ms"] <= result["p99_ms"]
    assert result["longest_ms"] > 0
    assert re.search(r"[5-8] connections cut", process.stderr.decode())


def test_what_waits_for_one_who_is_away_does_not_expire(tmp_path: Path) -> None:
    """A quarter of the messages: more than an inbox holds that is configured by nobody."""
    process = Place(tmp_path).run("demo", "--json", "--messages", "44000", "--users", "2", "--seconds", "0")
    assert process.returncode == 0, process.stderr.decode()
    assert json.loads(process.stdout)["verdict"]["received"] == 44000


def test_more_users_than_files_may_be_open_are_told_of_in_one_line(tmp_path: Path) -> None:
    few = ["sh", "-c", 'ulimit -n 100; exec "$0" "$@"', *COMMAND, "demo", "--users", "99"]
    process = subprocess.run(few, capture_output=True, cwd=tmp_path, check=False, timeout=PATIENCE_S)
    assert process.returncode == 1
    assert "expected fewer --users" in one_line(process)


def test_the_table_has_what_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert show(GOOD, as_json=False) == 0
    said = capsys.readouterr().out
    for row in ("messages sent", "received", "lost", "doubled", "reordered", "p50", "p99", "breaks survived"):
        assert row in said


@pytest.mark.parametrize("what", ["lost", "doubled", "reordered", "foreign"])
@pytest.mark.parametrize("as_json", [False, True])
def test_what_went_wrong_is_shown_and_ends_in_exit_code_1(
    what: str, as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    tampered = msgspec.structs.replace(GOOD, verdict=msgspec.structs.replace(GOOD.verdict, **{what: 7}))
    assert show(tampered, as_json=as_json) == 1
    said = capsys.readouterr().out
    assert "7" in said
    assert not as_json or json.loads(said)["good"] is False


@pytest.mark.skipif(redis_server.missing is not None, reason=redis_server.missing or "")
@pytest.mark.timeout(120)
def test_business_restarts_while_messages_flow_and_no_link_drops(tmp_path: Path) -> None:
    words = ("--messages", "240", "--users", "3", "--seconds", "2", "--away", "1")
    process = Place(tmp_path).run("demo", "--split", "--json", *words, patience_s=100)
    assert process.returncode == 0, process.stderr.decode()
    result = json.loads(process.stdout)
    assert result["good"] is True
    assert result["verdict"]["received"] == 240
    assert result["drops"] == 0
    killed, upgraded, away = result["breaks"]
    assert (killed["what"], upgraded["what"], away["what"]) == (
        "the service was killed and started",
        "a new version came, and the old one went",
        "the service was away for 1 s",
    )
    assert away["longest_ms"] > 500  # what was sent meanwhile only came later
