"""Figures outlive the process, and a file that is damaged stands in nobody's way."""

from __future__ import annotations

from pathlib import Path

import pytest

from imcore.access.figures import Figures, Key, Row
from imcore.access.store import FILE, FileStore

NOW = 1_800_000_000.0
KEY = Key("telecom", "", "down", "gw-1", 443, "tls")


def rows(count: int, at: float = NOW) -> list[Row]:
    return [Row(KEY._replace(port=port + 1), b"w%d" % port, at) for port in range(count)]


def test_what_was_saved_is_there_afterwards(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    store.save(rows(3), NOW)
    store.close()
    again = FileStore(tmp_path)
    assert sorted(again.load(NOW), key=lambda row: row.key) == rows(3)
    again.close()


def test_a_later_row_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    store.save(rows(2), NOW)
    later = Row(rows(1)[0].key, b"later", NOW + 5)
    store.save([later], NOW + 5)
    assert store.load(NOW + 5) == [rows(2)[1], later]  # the newest last
    store.close()


def test_what_is_too_old_is_forgotten(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    store.save(rows(3, NOW - 90_000), NOW - 90_000)
    store.save(rows(1), NOW)
    assert len(store.load(0)) == 1
    store.close()


def test_figures_say_the_same_after_a_restart(tmp_path: Path) -> None:
    before, after = Figures(), Figures()
    for took in (50.0, 60.0, 70.0, None) * 3:
        before.add(KEY, took, NOW)
    store = FileStore(tmp_path)
    store.save(before.changed(NOW), NOW)
    store.close()
    store = FileStore(tmp_path)
    after.restore(store.load(NOW), NOW)
    store.close()
    assert after.speed(KEY, NOW) == before.speed(KEY, NOW) != (None, False)


def test_a_damaged_file_is_put_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FILE).write_bytes(b"this is no database" * 100)
    store = FileStore(tmp_path)
    assert store.load(NOW) == []
    store.save(rows(1), NOW)
    assert store.load(NOW) == rows(1)
    store.close()
    assert (tmp_path / f"{FILE}.bad").exists()
    assert "put aside" in caplog.text


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "nowhere")
    with pytest.raises(OSError, match=r"nowhere.*access\.db"):
        store.load(NOW)
    with pytest.raises(OSError, match=r"nowhere.*access\.db"):
        store.save(rows(1), NOW)
