"""The state file remembers where the application stopped, for one device and one process at a time."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from imcore.client.state import StateFile
from imcore.errors import ConfigError
from imcore.messages import Resume


def test_what_was_saved_is_there_for_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "bob.state"
    state = StateFile(path, "laptop")
    assert state.resume is None
    state.claim("bob")
    state.save(Resume("e", 7))
    state.save(Resume("e", 2**64 - 1))
    state.close()
    state = StateFile(path, "laptop")
    assert state.resume == Resume("e", 2**64 - 1)
    state.claim("bob")
    state.close()


def test_it_survives_a_death_at_any_moment(tmp_path: Path) -> None:
    path = tmp_path / "bob.state"
    code = f"""
import os, signal
from imcore.client.state import StateFile
from imcore.messages import Resume
state = StateFile({str(path)!r}, "laptop")
state.claim("bob")
for seq in range(1, 1000):
    state.save(Resume("e", seq))
    print(seq, flush=True)
    if seq == 500:
        os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    state = StateFile(path, "laptop")
    assert state.resume == Resume("e", int(done.stdout.split()[-1]))
    state.close()


def test_another_device_another_user_and_another_process_are_told_so(tmp_path: Path) -> None:
    path = tmp_path / "bob.state"
    state = StateFile(path, "laptop")
    state.claim("bob")
    state.save(Resume("e", 1))
    with pytest.raises(ConfigError, match="another process uses it"):
        StateFile(path, "laptop")
    with pytest.raises(ConfigError, match="belongs to device 'laptop' of 'bob', not of 'alice'"):
        state.claim("alice")
    state.close()
    with pytest.raises(ConfigError, match="belongs to device 'laptop' of 'bob', not to 'phone'"):
        StateFile(path, "phone")


def test_what_is_no_state_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear Bob, " * 100)
    with pytest.raises(ConfigError, match="expected a file to read and write"):
        StateFile(path, "laptop")
    assert path.read_text().startswith("Dear Bob")
    with pytest.raises(ConfigError, match="expected a file to read and write"):
        StateFile(tmp_path / "nowhere" / "state", "laptop")


def test_a_file_that_can_not_be_written_is_an_error(tmp_path: Path) -> None:
    state = StateFile(tmp_path / "state", "laptop")
    state.claim("bob")
    state._file.execute("PRAGMA query_only=1")
    with pytest.raises(ConfigError, match="readonly"):
        state.save(Resume("e", 1))
    assert state.resume is None
    state.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "state")) as file:
        assert file.execute("SELECT count(*) FROM downlink").fetchone() == (0,)
