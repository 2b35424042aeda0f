"""The books: they add up at any time, in any state of the journal, and say what does not."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from imcore.bus.books import Books
from imcore.bus.embedded.audit import audit
from imcore.bus.embedded.dead import ask, letters
from imcore.errors import EngineError
from imcore.messages import Resume
from tests.bus.engines import Link, Taker, run, until, uplink
from tests.bus.test_embedded import fold, opened


def change(place: Path, *statements: str) -> None:
    """What no engine would do."""
    with closing(sqlite3.connect(place / "imcore.db", isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


async def busy(place: Path, *, folded: bool) -> None:
    """Some of everything: settled, waiting, dead, delivered, undelivered, expired."""
    async with opened(place, inbox_count=3) as bus:
        taker, link = Taker().attach(bus), Link()
        await bus.inbox.open("bob", "phone", None, "oldest")
        for id in range(1, 8):
            bus.queue.put(uplink(id), link)
        bus.queue.withdraw("alice", "phone", 8, link)
        await until(lambda: len(link.answers) == 8)
        for message in taker.messages[:4]:
            await bus.inbox.append("bob", "chat", b"x", message.key)
        bus.queue.settle(taker.messages[:4])
        bus.queue.bury(taker.messages[4], "ValueError: no")
        bus.inbox.taken("bob", "phone", 3)
        for _ in range(4):
            await bus.inbox.append("bob", "chat", b"y")
        core = bus._core
        assert core is not None
        await core.journal.quiet()
        if folded:
            await fold(bus)


@pytest.mark.parametrize("folded", [False, True])
def test_every_message_is_somewhere(tmp_path: Path, folded: bool) -> None:
    run(busy(tmp_path, folded=folded))
    books = audit(tmp_path)
    assert books.faults == []
    assert (books.accepted, books.settled, books.waiting, books.dead, books.withdrawn) == (7, 4, 2, 1, 1)
    assert (books.appended, books.users, books.devices) == (8, 2, 2)
    assert books.delivered + books.undelivered + books.expired == 8
    assert books.undelivered >= 3


@pytest.mark.parametrize("folded", [False, True])
def test_what_all_devices_have_taken_is_delivered_at_once(tmp_path: Path, folded: bool) -> None:
    async def main() -> None:
        async with opened(tmp_path) as bus:
            for device in ("phone", "desk"):
                await bus.inbox.open("bob", device, None, "oldest")
            for _ in range(3):
                await bus.inbox.append("bob", "chat", b"x")
            bus.inbox.taken("bob", "phone", 3)
            bus.inbox.taken("bob", "desk", 2)
            core = bus._core
            assert core is not None
            await core.journal.quiet()
            if folded:
                await fold(bus)

    run(main())
    books = audit(tmp_path)
    assert books.faults == []
    assert (books.delivered, books.undelivered, books.expired) == (2, 1, 0)


def test_counters_go_on_where_a_killed_process_left_them(tmp_path: Path) -> None:
    run(busy(tmp_path, folded=False))

    async def main() -> None:
        async with opened(tmp_path, inbox_count=3) as bus:
            counters = bus.counters
            assert (counters["accepted"], counters["settled"], counters["dead"], counters["appended"]) == (7, 4, 1, 8)
            assert counters["delivered"] + counters["expired"] == 5
            assert audit(tmp_path).faults == [], "while the node runs"

    run(main())


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("DELETE FROM inbox WHERE user = 'bob' AND seq = 7", "inbox of 'bob': expected 6 to 8, found 2 messages"),
        ("DELETE FROM dead", "settled + waiting + dead + dropped: 6, but accepted counts 7"),
        ("DELETE FROM uplink WHERE entry = 7", "settled + waiting + dead + dropped: 6, but accepted counts 7"),
        ("UPDATE user SET head = 9 WHERE name = 'bob'", "the inboxes' newest numbers: 9, but appended counts 8"),
        ("UPDATE device SET taken = 99 WHERE user = 'bob'", "device 'phone' of 'bob': has taken number 99"),
        ("INSERT INTO inbox VALUES ('eve', 1, 'chat', x'00', 1)", "inbox of 'eve': has messages"),
        ("UPDATE user SET expired = expired + 1 WHERE name = 'bob'", "what the inboxes say has expired"),
        ("DELETE FROM counter", "counters: none"),
    ],
)  # fmt: skip
def test_what_does_not_add_up_is_said(tmp_path: Path, statement: str, fault: str) -> None:
    run(busy(tmp_path, folded=True))
    change(tmp_path, statement)
    assert any(fault in each for each in audit(tmp_path).faults), audit(tmp_path).faults


def test_a_page_that_was_written_over_is_said(tmp_path: Path) -> None:
    run(busy(tmp_path, folded=True))
    change(tmp_path, "PRAGMA wal_checkpoint(TRUNCATE)")
    file = tmp_path / "imcore.db"
    data = bytearray(file.read_bytes())
    for page in range(1, len(data) // 16384):  # all but the first, which holds the schema
        data[page * 16384 : page * 16384 + 64] = b"\xff" * 64
    file.write_bytes(data)
    try:
        faults = audit(tmp_path).faults
    except EngineError as error:
        faults = [str(error)]
    assert faults
    assert any("damaged" in fault or "database:" in fault for fault in faults), faults


def test_a_folder_without_a_database_is_an_error_that_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="expected the folder that a node has as its data"):
        audit(tmp_path)


def test_a_database_of_the_first_version_is_brought_up_and_its_books_begin_with_what_is_there(tmp_path: Path) -> None:
    run(busy(tmp_path, folded=False))
    change(
        tmp_path,
        "ALTER TABLE user DROP COLUMN expired",
        "DROP TABLE counter",
        "DROP TABLE request",
        "DELETE FROM meta WHERE name = 'batch'",
        "PRAGMA user_version = 1",
    )

    async def main() -> None:
        async with opened(tmp_path, inbox_count=3) as bus:
            assert bus.counters["dead"] == 1

    run(main())
    books: Books = audit(tmp_path)
    assert (books.waiting, books.dead, books.appended) == (2, 1, 8)


class TestDeadLetters:
    def test_a_replayed_one_comes_to_its_handler_again_with_the_same_key(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with opened(tmp_path) as bus:
                taker, link = Taker().attach(bus), Link()
                bus.queue.put(uplink(1), link)
                await until(lambda: bool(taker.messages))
                key = taker.messages[0].key
                assert await bus.inbox.append("bob", "chat", b"x", key) == 1
                bus.queue.bury(taker.messages[0], "ValueError: no")
                for id in range(2, 102):
                    bus.queue.put(uplink(id), link)
                await until(lambda: len(taker.messages) == 101)
                for message in taker.messages[1:]:  # would push its key out of the inbox's memory, were it not dead
                    await bus.inbox.append("bob", "chat", b"y", message.key)
                    bus.queue.settle([message])
                await self.request(tmp_path, "replay")
                await until(lambda: len(taker.messages) == 102)
                again = taker.messages[-1]
                assert (again.id, again.key, again.body) == (1, key, b"body 1")
                assert await bus.inbox.append("bob", "chat", b"x", again.key) == 1, (
                    "what it had pushed is not pushed twice"
                )
                bus.queue.settle([again])
            books = audit(tmp_path)
            assert (books.accepted, books.settled, books.dead, books.replayed) == (101, 101, 0, 1)

        run(main())

    @staticmethod
    async def request(place: Path, action: str) -> None:
        with closing(sqlite3.connect(place / "imcore.db", isolation_level=None)) as connection:
            assert action in ("replay", "drop")
            (letter,) = letters(connection)
            assert letter.error == "ValueError: no"
            ask(connection, [letter.number], "replay" if action == "replay" else "drop")

    @pytest.mark.parametrize("action", ["replay", "drop"])
    def test_what_was_asked_for_while_no_node_ran_is_done_when_one_starts(self, tmp_path: Path, action: str) -> None:
        async def main() -> None:
            async with opened(tmp_path) as bus:
                taker = Taker().attach(bus)
                bus.queue.put(uplink(1), Link())
                await until(lambda: bool(taker.messages))
                bus.queue.bury(taker.messages[0], "ValueError: no")
            await self.request(tmp_path, action)
            async with opened(tmp_path) as bus:
                taker = Taker().attach(bus)
                if action == "replay":
                    await until(lambda: bool(taker.messages))
                else:
                    await until(lambda: bus.counters["dropped"] == 1)
            books = audit(tmp_path)
            assert (books.accepted, books.dead) == (1, 0)
            assert (books.waiting, books.dropped) == ((1, 0) if action == "replay" else (0, 1))
            async with opened(tmp_path) as bus:
                assert len(Taker().attach(bus).messages) == books.waiting

        run(main())


class TestHistory:
    def test_an_older_copy_of_the_database_has_another_epoch(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        file, copy = tmp_path / "imcore.db", tmp_path / "copy"

        async def some(count: int) -> str:
            async with opened(tmp_path) as bus:
                for _ in range(count):
                    await bus.inbox.append("bob", "chat", b"x")
                return (await bus.inbox.open("bob", "phone", None, "oldest")).epoch

        async def main() -> None:
            epoch = await some(3)
            copy.write_bytes(file.read_bytes())
            assert await some(3) == epoch, "a restart is no loss"
            file.write_bytes(copy.read_bytes())
            for name in ("imcore.db-wal", "imcore.db-shm"):
                (tmp_path / name).unlink(missing_ok=True)
            async with opened(tmp_path) as bus:
                opening = await bus.inbox.open("bob", "phone", Resume(epoch, 6), "oldest")
                assert (opening.resumed, opening.head, opening.first) == (False, 3, 1)
                assert opening.epoch != epoch
                assert "older copy" in caplog.text
                changed = opening.epoch
            assert await some(0) == changed, "it changes once"

        run(main())

    def test_a_copy_without_its_mark_counts_as_older(self, tmp_path: Path) -> None:
        async def epoch() -> str:
            async with opened(tmp_path) as bus:
                await bus.inbox.append("bob", "chat", b"x")
                return (await bus.inbox.open("bob", "phone", None, "oldest")).epoch

        async def main() -> None:
            before = await epoch()
            (tmp_path / "mark").unlink()
            assert await epoch() != before

        run(main())
