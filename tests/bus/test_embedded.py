"""What only the embedded engine has: a folder, a file, a disk that may be full, memory that is bounded, tables."""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from imcore.bus.embedded import EmbeddedBus, clock
from imcore.bus.embedded.audit import audit
from imcore.bus.embedded.users import Device, User
from imcore.bus.ports import Route
from imcore.errors import EngineError
from imcore.messages import Resume
from tests.bus.engines import Link, Taker, run, until, uplink


@asynccontextmanager
async def opened(place: Path, **limits: Any) -> AsyncIterator[EmbeddedBus]:
    bus = EmbeddedBus(place, node="test", **limits)
    await bus.start()
    try:
        yield bus
    finally:
        await bus.close()
    assert audit(place).faults == []


async def fold(bus: EmbeddedBus) -> None:
    """Let a whole pass go by, so that the tables have everything and the journal is empty."""
    core = bus._core
    assert core is not None
    await core.journal.quiet()
    core.fold._begun = float("-inf")
    while core.fold.due:
        await core.journal.quiet()


def count(place: Path, sql: str) -> int:
    with closing(sqlite3.connect(place / "imcore.db")) as connection:
        number: int = connection.execute(sql).fetchone()[0]
        return number


def failure(place: Path) -> str:
    with pytest.raises(EngineError) as caught:
        run(EmbeddedBus(place, node="second").start())
    return str(caught.value)


class TestStart:
    def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("no folder")
        assert "file/data: expected a folder that this process may write to" in failure(tmp_path / "file" / "data")

    def test_a_file_that_is_no_database_is_an_error_and_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "imcore.db").write_bytes(b"no database at all" * 1000)
        assert "damaged or not ours" in failure(tmp_path)
        assert (tmp_path / "imcore.db").read_bytes() == b"no database at all" * 1000

    def test_a_database_of_another_program_is_an_error(self, tmp_path: Path) -> None:
        with closing(sqlite3.connect(tmp_path / "imcore.db")) as connection:
            connection.execute("CREATE TABLE user (login TEXT)")
        assert "imcore.db" in failure(tmp_path)

    def test_a_newer_schema_is_an_error_that_says_both_versions(self, tmp_path: Path) -> None:
        with closing(sqlite3.connect(tmp_path / "imcore.db")) as connection:
            connection.execute("PRAGMA user_version = 7")
        assert "version 7, this imcore knows versions up to 2" in failure(tmp_path)

    def test_a_damaged_journal_row_is_an_error(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with opened(tmp_path):
                pass

        run(main())
        with closing(sqlite3.connect(tmp_path / "imcore.db")) as connection:
            connection.execute("INSERT INTO journal VALUES (1, x'00ff')")
            connection.commit()
        assert "damaged row" in failure(tmp_path)

    def test_a_folder_in_use_is_an_error_that_says_by_whom(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with opened(tmp_path):
                with pytest.raises(EngineError, match=rf"in use by node test, process {os.getpid()}"):
                    await EmbeddedBus(tmp_path, node="second").start()
            async with opened(tmp_path):  # let go of by close
                pass

        run(main())

    def test_the_lock_goes_with_its_process(self, tmp_path: Path) -> None:
        program = (
            "import asyncio, os, sys; from imcore.bus.embedded import EmbeddedBus\n"
            "async def main():\n    await EmbeddedBus(sys.argv[1]).start(); os.kill(os.getpid(), 9)\n"
            "asyncio.run(main())"
        )
        done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], timeout=30, check=False)
        assert done.returncode == -9

        async def main() -> None:
            async with opened(tmp_path):
                pass

        run(main())

    def test_the_epoch_is_the_databases(self, tmp_path: Path) -> None:
        async def main() -> None:
            epochs = []
            for name in ("a", "a", "b"):
                async with opened(tmp_path / name) as bus:
                    epochs.append((await bus.inbox.open("bob", "p", None, "oldest")).epoch)
            assert epochs[0] == epochs[1] != epochs[2]

        run(main())


class TestFailingDisk:
    def test_a_full_disk_refuses_and_numbers_go_on_without_a_hole_when_there_is_room(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with opened(tmp_path) as bus:
                taker, link = Taker().attach(bus), Link()
                assert await bus.inbox.append("bob", "chat", b"x") == 1
                bus.queue.put(uplink(1), link)
                await until(lambda: link.durable == [1])
                core = bus._core
                assert core is not None
                assert core.journal.writer is not None
                connection = core.journal.writer._connection
                connection.execute("PRAGMA max_page_count = 1")  # SQLite takes what there is as the least

                big = b"x" * 300_000
                bus.queue.put(uplink(2, body=big), link)
                bus.queue.put(uplink(3), link)
                failing = asyncio.gather(
                    bus.inbox.append("bob", "chat", big, "k"),
                    bus.inbox.append("bob", "chat", b"z"),
                    return_exceptions=True,
                )
                await asyncio.sleep(0)
                bus.queue.put(uplink(4), link)
                assert all(isinstance(error, EngineError) for error in await failing)
                await until(lambda: len(link.answers) == 4)
                for id, refusal in link.answers[1:]:
                    assert refusal is not None, id
                    assert (refusal.code, refusal.retry_ms) == ("overloaded", 1000)
                    assert "full" in refusal.text
                bus.queue.settle([taker.messages[0]])

                connection.execute("PRAGMA max_page_count = 1000000")
                bus.queue.put(uplink(2), link)
                assert await bus.inbox.append("bob", "chat", b"y", "k") == 2
                await until(lambda: link.durable == [1, 2])
                assert [w.seq for w in taker.wakes] == [1, 2]
            async with opened(tmp_path) as bus:
                assert [m.id for m in Taker().attach(bus).messages] == [2]
                assert [m.body for m in await bus.inbox.read("bob", 0, 9, 999)] == [b"x", b"y"]

        run(main())

    def test_a_failed_step_towards_the_tables_loses_nothing(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with opened(tmp_path) as bus:
                taker, link = Taker().attach(bus), Link()
                for id in range(1, 4):
                    bus.queue.put(uplink(id), link)
                    await bus.inbox.append("bob", "chat", b"%d" % id)
                await until(lambda: len(taker.messages) == 3)
                core = bus._core
                assert core is not None
                journal = core.journal
                writer = journal.writer
                assert writer is not None
                for failing in range(4):  # fails at a later statement of the pass each time
                    write, left = writer.write, [failing]

                    def broken(statements: Any, left: list[int] = left, write: Any = write) -> None:
                        left[0] -= 1
                        if left[0] < 0:
                            statements = [*statements, ("SELECT no_such_function()", ())]
                        write(statements)

                    writer.write = broken  # type: ignore[method-assign]  # it is broken on purpose
                    core.fold._begun = float("-inf")
                    for _ in range(6):
                        await journal.quiet()
                    writer.write = write  # type: ignore[method-assign]  # and as it was
                    await journal.quiet()
                bus.queue.settle([taker.messages[1]])
                await fold(bus)
                assert count(tmp_path, "SELECT count(*) FROM journal") == 0
            async with opened(tmp_path) as bus:
                assert [m.id for m in Taker().attach(bus).messages] == [1, 3]
                assert [m.body for m in await bus.inbox.read("bob", 0, 9, 999)] == [b"1", b"2", b"3"]
                assert (await bus.inbox.open("alice", "phone", None, "oldest")).accepted == 3

        run(main())

    def test_text_that_no_database_takes_is_refused_and_the_engine_goes_on(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with opened(tmp_path) as bus:
                for user, route in (("\ud800", "chat"), ("bob", "\ud800")):
                    with pytest.raises(EngineError):
                        await bus.inbox.append(user, route, b"x")
                assert await bus.inbox.append("bob", "chat", b"x") == 1

        run(main())


class TestTables:
    def test_what_is_delivered_at_once_never_costs_a_row(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with opened(tmp_path) as bus:
                taker, link = Taker().attach(bus), Link()
                await bus.inbox.open("bob", "phone", None, "oldest")
                for id in range(1, 51):
                    bus.queue.put(uplink(id), link)
                    bus.inbox.taken("bob", "phone", await bus.inbox.append("bob", "chat", b"x"))
                for message in taker.messages:
                    bus.queue.settle([message])
                await fold(bus)
                for table in ("journal", "inbox", "uplink"):
                    assert count(tmp_path, f"SELECT count(*) FROM {table}") == 0, table
                assert bus.counters == {
                    "accepted": 50, "repeated": 0, "withdrawn": 0, "refused": 0, "settled": 50, "dead": 0,
                    "replayed": 0, "dropped": 0, "appended": 50, "delivered": 50, "expired": 0,
                }  # fmt: skip

        run(main())

    def test_messages_are_read_from_the_table_and_leave_it_when_taken(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with opened(tmp_path) as bus:
                await bus.inbox.open("bob", "phone", None, "oldest")
                for n in range(1, 701):
                    if n == 600:
                        await fold(bus)
                    await asyncio.gather(bus.inbox.append("bob", "chat", b"%d" % n))
                assert count(tmp_path, "SELECT count(*) FROM inbox") == 599
                after, found = 0, []
                while part := await bus.inbox.read("bob", after, 100, 10_000):
                    found += part
                    after = part[-1].seq
                assert [int(m.body) for m in found] == [m.seq for m in found] == list(range(1, 701))
                bus.inbox.taken("bob", "phone", 650)
                assert [m.seq for m in await bus.inbox.read("bob", 0, 2, 999)] == [651, 652]
                await fold(bus)
                assert count(tmp_path, "SELECT min(seq) * 1000 + count(*) FROM inbox") == 651_050

        run(main())

    def test_who_was_idle_leaves_memory_and_comes_back_as_he_was(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with opened(tmp_path) as bus:
                taker, link = Taker().attach(bus), Link()
                epoch = (await bus.inbox.open("bob", "phone", None, "oldest")).epoch
                await bus.inbox.open("bob", "desk", None, "oldest")
                for n in range(1, 6):
                    await bus.inbox.append("bob", "chat", b"%d" % n, f"key {n}")
                bus.inbox.taken("bob", "phone", 3)
                bus.queue.put(uplink(7, user="bob"), link)
                await until(lambda: link.durable == [7])
                core = bus._core
                assert core is not None
                core.users.sweep(100)
                core.users.sweep(100)
                assert "bob" in core.users  # the tables lack something
                await fold(bus)
                core.users.sweep(100)
                core.users.sweep(100)
                assert not core.users
                bus.inbox.taken("bob", "phone", 4)
                bus.queue.put(uplink(7, user="bob"), link)
                bus.queue.put(uplink(8, user="bob"), link)
                assert await bus.inbox.append("bob", "chat", b"again", "key 2") == 2
                assert await bus.inbox.append("bob", "chat", b"6") == 6
                await until(lambda: link.durable == [7, 7, 8])
                assert [m.id for m in taker.messages] == [7, 8]
                opening = await bus.inbox.open("bob", "phone", None, "oldest")
                assert (opening.first, opening.head, opening.accepted) == (5, 6, 8)
                assert (await bus.inbox.open("bob", "desk", Resume(epoch, 2), "oldest")).first == 3

        run(main())

    def test_who_has_left_memory_leaves_nothing_for_the_collector(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with opened(tmp_path) as bus:
                core = bus._core
                assert core is not None
                for n in range(50):
                    await bus.inbox.open(f"user{n}", "phone", None, "oldest")
                await fold(bus)
                gc.collect()
                gc.disable()
                try:
                    core.users.sweep(100)
                    core.users.sweep(100)
                    await asyncio.sleep(0)
                    assert not [each for each in gc.get_objects() if isinstance(each, User | Device)]
                finally:
                    gc.enable()

        run(main())

    def test_a_backlog_in_the_table_comes_back_and_leaves_it_when_settled(self, tmp_path: Path) -> None:
        async def main() -> None:
            link = Link()
            async with opened(tmp_path) as bus:
                taker = Taker().attach(bus)
                for id in range(1, 1001):
                    bus.queue.put(uplink(id), link)
                await until(lambda: len(taker.messages) == 1000)
                await fold(bus)
                assert count(tmp_path, "SELECT count(*) FROM uplink") == 1000
                for message in taker.messages[:600]:
                    bus.queue.settle([message])
            async with opened(tmp_path) as bus:
                taker = Taker().attach(bus)
                assert [m.id for m in taker.messages] == list(range(601, 1001))
                await fold(bus)
                assert count(tmp_path, "SELECT count(*) FROM uplink") == 400
                for message in taker.messages:
                    bus.queue.settle([message])
                await fold(bus)
                assert count(tmp_path, "SELECT count(*) FROM uplink") == 0
                bus.queue.put(uplink(1001), link)
            async with opened(tmp_path) as bus:
                assert [m.id for m in Taker().attach(bus).messages] == [1001]

        run(main())


class TestLimits:
    def test_messages_over_the_count_expire_and_are_counted(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with opened(tmp_path, inbox_count=10) as bus:
                for n in range(1, 26):
                    if n in (5, 20):
                        await fold(bus)
                    await bus.inbox.append("bob", "chat", b"x")
                assert [m.seq for m in await bus.inbox.read("bob", 0, 99, 999)] == list(range(16, 26))
                assert bus.counters["expired"] == 15
                await fold(bus)
                assert count(tmp_path, "SELECT count(*) FROM inbox") == 10
            async with opened(tmp_path, inbox_count=10) as bus:
                assert [m.seq for m in await bus.inbox.read("bob", 0, 99, 999)] == list(range(16, 26))

        run(main())

    def test_bytes_over_the_size_expire_and_the_newest_stays(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with opened(tmp_path, inbox_size=1000) as bus:
                for n in range(1, 26):
                    if n in (5, 20):
                        await fold(bus)
                    await bus.inbox.append("bob", "chat", b"x" * 100)
                assert [m.seq for m in await bus.inbox.read("bob", 0, 99, 9999)] == list(range(16, 26))
                await bus.inbox.append("bob", "chat", b"x" * 5000)
                assert [m.seq for m in await bus.inbox.read("bob", 0, 99, 9999)] == [26]
                assert bus.counters["expired"] == 25

        run(main())

    def test_what_is_too_old_expires(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(clock, "DOUBT_S", 0.0)

        async def main() -> None:
            async with opened(tmp_path, inbox_age_s=0.05) as bus:
                for user in ("bob", "carol"):
                    await bus.inbox.append(user, "chat", b"x")
                await fold(bus)
                await asyncio.sleep(0.1)
                await bus.inbox.append("bob", "chat", b"y")
                assert bus._core is not None
                bus._core.clock.tick()
                assert await bus.inbox.expire_aged()
                assert [m.body for m in await bus.inbox.read("bob", 0, 9, 999)] == [b"y"]
                assert await bus.inbox.read("carol", 0, 9, 999) == []
                assert bus.counters["expired"] == 2

        run(main())

    def test_a_device_unseen_for_long_holds_nothing_back_unless_it_is_connected(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(clock, "DOUBT_S", 0.0)

        async def main() -> None:
            async with opened(tmp_path, device_ttl_s=0) as bus:
                core = bus._core
                assert core is not None
                await bus.inbox.open("bob", "phone", None, "oldest")
                await bus.inbox.open("bob", "lost", None, "oldest")
                route = Route("bob", "lost", "n", "lost", "both", 1)
                await bus.routes.claim(route)
                await bus.inbox.append("bob", "chat", b"x")
                core.clock.now_ms += 10_000
                bus.inbox.taken("bob", "phone", 1)
                assert len(await bus.inbox.read("bob", 0, 9, 999)) == 1
                bus.routes.release(route)
                await bus.inbox.append("bob", "chat", b"y")
                bus.inbox.taken("bob", "phone", 2)
                assert await bus.inbox.read("bob", 0, 9, 999) == []

        run(main())

    def test_a_user_has_so_many_devices_and_the_one_unseen_for_longest_goes(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with opened(tmp_path) as bus:
                for n in range(70):
                    await bus.inbox.open("bob", f"device {n}", None, "oldest")
                await fold(bus)
                assert count(tmp_path, "SELECT count(*) FROM device") == 64

        run(main())

    def test_a_queue_that_is_full_refuses_and_asks_for_a_retry(self, tmp_path: Path) -> None:
        async def main() -> None:
            for limit in ({"backlog": 10}, {"backlog_size": 60}):
                async with opened(tmp_path / str(len(limit) and next(iter(limit))), **limit) as bus:
                    taker, link = Taker().attach(bus), Link()
                    await bus.inbox.open("alice", "phone", None, "oldest")
                    for id in range(1, 13):
                        bus.queue.put(uplink(id, body=b"abcdef"), link)
                    assert [(id, r.code, r.retry_ms) for id, r in link.answers if r is not None] == [
                        (11, "overloaded", 1000), (12, "overloaded", 1000),
                    ]  # fmt: skip
                    await until(lambda: len(taker.messages) == 10)  # noqa: B023 - it is awaited here
                    bus.queue.settle([taker.messages[0]])
                    bus.queue.put(uplink(11, body=b"abcdef"), link)
                    await until(lambda: link.durable[-1] == 11)  # noqa: B023 - it is awaited here

        run(main())

    def test_a_crowd_waits_until_the_service_has_caught_up_and_is_not_refused(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with opened(tmp_path) as bus:
                taker, link = Taker().attach(bus), Link()
                await bus.inbox.open("alice", "phone", None, "oldest")
                for id in range(1, 20_001):
                    bus.queue.put(uplink(id), link)
                await until(lambda: len(taker.messages) > 8192)
                await asyncio.sleep(0.1)
                assert len(taker.messages) < 12_000
                settled = 0
                while settled < 20_000:
                    for message in taker.messages[settled : settled + 256]:
                        bus.queue.settle([message])
                        settled += 1
                    await asyncio.sleep(0)
                assert link.durable == list(range(1, 20_001))

        run(main())
