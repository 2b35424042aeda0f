"""The outbox's file: what was written is there, whatever dies; what can't be trusted is left alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from imcore.client.outbox_file import OutboxFile, Row, base_of, forgotten, given_up, new
from imcore.errors import ConfigError, OutboxError
from imcore.messages import Refusal


def test_what_was_written_is_there_for_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "outbox"
    file = OutboxFile(path, "phone")
    assert (file.user, file.base, file.last, file.rows) == (None, None, 0, [])
    file.write([new(1, "chat", b"one"), new(2, "chät", b"\0\xff"), new(3, "", b"")])
    file.write([base_of("alice", 2**64 - 1), forgotten(1), given_up(2, Refusal("no_route", "nobody there"))])
    file.close()

    file = OutboxFile(path, "phone")
    assert (file.user, file.base, file.last) == ("alice", 2**64 - 1, 3)
    assert file.rows == [Row(2, "chät", b"\0\xff", Refusal("no_route", "nobody there")), Row(3, "", b"", None)]
    file.close()


def test_a_place_is_not_given_twice_even_when_all_messages_are_gone(tmp_path: Path) -> None:
    path = tmp_path / "outbox"
    file = OutboxFile(path, "phone")
    file.write([new(1, "r", b""), new(2, "r", b"")])
    file.write([forgotten(1), forgotten(2)])
    file.close()
    file = OutboxFile(path, "phone")
    assert (file.last, file.rows) == (2, [])
    file.close()


def test_it_survives_a_death_at_any_moment(tmp_path: Path) -> None:
    path = tmp_path / "outbox"
    code = f"""
import os, signal
from imcore.client.outbox_file import OutboxFile, forgotten, new
file = OutboxFile({str(path)!r}, "phone")
for place in range(1, 1000):
    file.write([new(place, "r", b"x"), forgotten(place - 1)])
    print(place, flush=True)
    if place == 100:
        os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    assert done.stdout.split()[-1] == "100"
    file = OutboxFile(path, "phone")
    assert (file.last, [row.place for row in file.rows]) == (100, [100])
    file.close()


def test_a_write_is_all_or_nothing(tmp_path: Path) -> None:
    file = OutboxFile(tmp_path / "outbox", "phone")
    file.write([new(1, "r", b"")])
    with pytest.raises(OutboxError, match=r"outbox .*UNIQUE"):
        file.write([new(2, "r", b""), new(1, "r", b"")])
    file.close()
    file = OutboxFile(tmp_path / "outbox", "phone")
    assert [row.place for row in file.rows] == [1]
    file.close()


def test_a_full_disk_is_an_error_and_the_file_goes_on_when_there_is_room(tmp_path: Path) -> None:
    file = OutboxFile(tmp_path / "outbox", "phone")
    pages = file._file.execute("PRAGMA page_count").fetchone()[0]
    file._file.execute(f"PRAGMA max_page_count={pages + 1}")
    with pytest.raises(OutboxError, match="full"):
        file.write([new(1, "r", bytes(100_000))])
    file.write([new(2, "r", b"small")])
    file.close()
    file = OutboxFile(tmp_path / "outbox", "phone")
    assert [row.place for row in file.rows] == [2]
    file.close()


def test_another_user_another_device_and_another_process_are_told_so(tmp_path: Path) -> None:
    path = tmp_path / "outbox"
    file = OutboxFile(path, "phone")
    file.claim("alice")
    file.write([base_of("alice", 1)])
    with pytest.raises(ConfigError, match="another process uses it"):
        OutboxFile(path, "phone")
    with pytest.raises(ConfigError, match="belongs to device 'phone' of 'alice', not of 'bob'"):
        file.claim("bob")
    file.close()
    with pytest.raises(ConfigError, match="belongs to device 'phone' of 'alice', not to 'laptop'"):
        OutboxFile(path, "laptop")
    file = OutboxFile(path, "phone")  # and those who had no right to it did no harm
    file.claim("alice")
    file.close()


def test_what_is_no_outbox_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear Bob, " * 100)
    with pytest.raises(ConfigError, match=r"outbox .*expected a file to read and write: file is not a database"):
        OutboxFile(path, "phone")
    assert path.read_text() == "Dear Bob, " * 100
    for wrong in (tmp_path / "nowhere" / "outbox", tmp_path):
        with pytest.raises(ConfigError, match="expected a file to read and write"):
            OutboxFile(wrong, "phone")


def test_a_file_with_broken_pages_is_named_and_not_sent_from(tmp_path: Path) -> None:
    path = tmp_path / "outbox"
    file = OutboxFile(path, "phone")
    file.write([new(place, "r", bytes(1000)) for place in range(1, 40)])
    file.close()
    broken = bytearray(path.read_bytes())
    for page in range(3, len(broken) // 4096):
        broken[page * 4096 : page * 4096 + 200] = b"\xa5" * 200
    path.write_bytes(broken)
    with pytest.raises(ConfigError, match=f"outbox {path}: expected a file to read and write"):
        OutboxFile(path, "phone")
    assert path.read_bytes() == broken


def test_a_file_that_can_not_be_written_is_told_before_anything_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "outbox"
    file = OutboxFile(path, "phone")
    file.close()
    monkeypatch.setattr("imcore.client.outbox_file._TABLES", ["PRAGMA query_only=1"])  # as on a read-only disk
    with pytest.raises(ConfigError, match="readonly"):
        OutboxFile(path, "phone")
