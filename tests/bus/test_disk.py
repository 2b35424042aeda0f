"""A disk that can't be written to, and a file that is damaged: nothing is confirmed that is not there, what can be
served is served, and all goes on when the disk is back."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from imcore.bus.embedded import EmbeddedBus
from imcore.bus.embedded.audit import audit
from imcore.errors import EngineError
from tests.bus.engines import Link, run, uplink
from tests.bus.test_embedded import fold, opened

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def preload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`fault.c`, compiled."""
    compiler = os.environ.get("CC", "cc")
    if sys.platform != "linux" or shutil.which(compiler) is None or "ASAN_OPTIONS" in os.environ:
        pytest.skip("takes Linux and a C compiler, and AddressSanitizer must come first")
    made = tmp_path_factory.mktemp("fault") / "fault.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", made, HERE / "fault.c", "-ldl"], check=True)
    return made


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO], ids=["full", "read-only", "broken"])
def test_a_disk_that_fails_costs_refusals_and_nothing_else(tmp_path: Path, preload: Path, number: int) -> None:
    env = os.environ | {"LD_PRELOAD": str(preload), "FAULT": str(tmp_path / "fault")}
    program = [sys.executable, "-m", "tests.bus.faulty", str(tmp_path / "data"), str(number)]
    done = subprocess.run(program, env=env, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["answers"] == [[1, None], [2, 1000], [2, None]], "refused for a while, and then taken"
    assert found["handed"] == [1, 2]
    assert "the disk did not take it" in found["told"]
    assert found["kept"] == ["before"]
    assert found["rooms"] == 1, "rooms need no disk"
    assert found["seq"] == 2, "the number was free again"
    assert audit(tmp_path / "data").faults == []


def test_what_a_damaged_file_still_holds_is_served(tmp_path: Path) -> None:
    names = [f"user{n:05}{'x' * 60}" for n in range(3000)]

    async def fill() -> None:
        async with opened(tmp_path) as bus:
            for name in names:
                await bus.inbox.open(name, "phone", None, "oldest")
            await fold(bus)

    async def use() -> tuple[int, list[str]]:
        bus = EmbeddedBus(tmp_path)
        await bus.start()
        good, bad = 0, []
        for name in names:
            try:
                await bus.inbox.open(name, "phone", None, "oldest")
                link = Link()
                bus.queue.put(uplink(1, user=name), link)
                good += 1
            except EngineError as error:
                bad.append(str(error))
        await bus.close()
        return good, bad

    run(fill())
    file = tmp_path / "imcore.db"
    data = bytearray(file.read_bytes())
    pages = [
        at for at in range(0, len(data), 16384) if data[at] == 0x0A and names[1500].encode() in data[at : at + 16384]
    ]
    assert pages, "a leaf of the table of users or devices"
    dice = random.Random(5)
    for at in pages:
        data[at + 8 : at + 16384] = dice.randbytes(16384 - 8)
    file.write_bytes(data)

    async def main() -> None:
        good, bad = await use()
        assert good > 1500
        assert bad
        assert all("damaged" in text for text in bad)

    run(main())
    assert audit_fails(tmp_path)


def audit_fails(place: Path) -> bool:
    try:
        return bool(audit(place).faults)
    except EngineError as error:
        return "damaged" in str(error)


@pytest.mark.parametrize("size", [0, 5000])
def test_a_log_that_was_cut_short_is_as_far_as_it_goes(tmp_path: Path, size: int) -> None:
    """What a power cut leaves of a log that was being written: SQLite takes whole transactions of it, and no more."""
    here, cut = tmp_path / "here", tmp_path / "cut"
    cut.mkdir()

    async def main() -> None:
        async with opened(here) as bus:
            for _ in range(20):
                await bus.inbox.append("bob", "chat", bytes(500))
            for name in ("imcore.db", "imcore.db-wal", "mark"):
                shutil.copy(here / name, cut / name)
        log = cut / "imcore.db-wal"
        os.truncate(log, max(0, log.stat().st_size - size))
        async with opened(cut) as bus:
            seqs = [message.seq for message in await bus.inbox.read("bob", 0, 99, 1 << 20)]
            assert seqs == list(range(1, len(seqs) + 1))
            assert len(seqs) == 20 if size == 0 else 10 < len(seqs) < 20

    run(main())
