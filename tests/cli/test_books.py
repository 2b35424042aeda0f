"""`imcore audit` and `imcore dead`, on the folder of a node that runs, and of one that does not."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from imcore.bus.embedded import EmbeddedBus
from tests.bus.engines import Link, Taker, until, uplink
from tests.cli.running import Place, finishing


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A folder whose `data` holds two dead letters."""

    async def bury() -> None:
        bus = EmbeddedBus(tmp_path / "data")
        await bus.start()
        taker = Taker().attach(bus)
        bus.queue.put(uplink(1, body=b'{"to": "bob", "text": "\x1b[2Jhello"}'), Link())
        bus.queue.put(uplink(2, body=b"\xff\x00"), Link())
        await until(lambda: len(taker.messages) == 2)
        for message in taker.messages:
            bus.queue.bury(message, "ValueError: the moon\nis full")
        await bus.close()

    asyncio.run(bury())
    return Place(tmp_path)


def test_the_list_has_a_line_for_each_and_show_has_all_of_it(place: Place) -> None:
    listed = place.run("dead", "list").stdout.decode().splitlines()
    assert [line.split()[0] for line in listed] == ["1", "2"]
    assert "alice/phone 1  ValueError: the moon is full" in listed[0]
    assert "hello" not in listed[0]
    (shown,) = place.run("dead", "show", "1").stdout.decode().splitlines()
    assert "hello" in shown
    first, second = map(json.loads, place.run("dead", "show", "all", "--json").stdout.splitlines())
    assert (first["user"], first["id"], first["error"]) == ("alice", 1, "ValueError: the moon\nis full")
    assert "hello" in first["body"]["text"]
    assert second["body"] == {"bytes": 2, "base64": "/wA="}


def test_what_is_asked_for_is_done_when_the_node_starts_and_at_once_when_it_runs(place: Place) -> None:
    asked = place.run("dead", "replay", "1")
    assert (asked.returncode, asked.stdout) == (0, b"1 will be replayed when the node starts\n")
    assert "(replay asked for)" in place.run("dead", "list").stdout.decode()
    with finishing(place.start("serve", "--listen", "127.0.0.1:0", "--anonymous")) as node:
        assert node.stdout is not None
        assert node.stdout.readline()
        dropped = place.run("dead", "drop", "2")
        assert (dropped.returncode, dropped.stdout) == (0, b"1 dropped\n")
        done = place.run("dead", "drop", "all")  # 1 was handled again, or is about to be
        assert done.returncode == 0
        books = json.loads(place.run("audit", "--json").stdout)
        assert books["faults"] == []
        assert (books["accepted"], books["dropped"] + books["replayed"]) == (2, 2)
    said = place.run("audit")
    assert said.returncode == 0
    assert said.stdout.decode().splitlines()[-1] == "all adds up"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["replay"], "expected numbers of `imcore dead list`, or `all`"),
        (["replay", "7"], "no dead letter '7'"),
        (["drop", "x"], "no dead letter 'x'"),
        (["list", "1"], "expected no numbers"),
    ],
)
def test_a_wrong_number_is_said_and_nothing_is_done(place: Place, words: list[str], expected: str) -> None:
    done = place.run("dead", *words)
    assert done.returncode == 2
    assert expected in done.stderr.decode()
    assert len(place.run("dead", "list").stdout.splitlines()) == 2


@pytest.mark.parametrize("command", [["audit"], ["dead", "list"]])
def test_a_folder_without_a_database_is_an_error_and_none_is_made(tmp_path: Path, command: list[str]) -> None:
    done = Place(tmp_path).run(*command)
    assert done.returncode == 1
    assert b"expected the folder that a node has as its data" in done.stderr
    assert not (tmp_path / "data").exists()


def test_what_does_not_add_up_is_told_and_is_the_exit_code(place: Place) -> None:
    with closing(sqlite3.connect(place.folder / "data" / "imcore.db", isolation_level=None)) as connection:
        connection.execute("DELETE FROM dead WHERE number = 1")
    done = place.run("audit")
    assert done.returncode == 1
    assert "fault: settled + waiting + dead + dropped: 1, but accepted counts 2" in done.stdout.decode()
