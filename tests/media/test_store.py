"""What is kept in a folder: never half-written, never rotten, and nothing is lost on a full disk."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from imcore.media import part, store
from tests.media.running import run, serving, sha256

DATA = os.urandom(300_000)


def stored(folder: Path) -> list[Path]:
    return [path for path in (folder / "files").rglob("*") if path.is_file() and path.suffix == ""]


class TestTheFolder:
    @pytest.mark.parametrize("damage", ["flipped", "shorter", "longer", "gone", "no entry"])
    def test_what_is_not_as_it_was_stored_is_never_served(self, tmp_path: Path, damage: str) -> None:
        async def work() -> None:
            async with serving(tmp_path) as service:
                alice = service.person()
                reference = await alice.put(DATA)
                assert (await alice.get(reference)).body == DATA  # it was looked at, and was sound
                link = await alice.link(reference)
                [file] = stored(tmp_path)
                if damage == "flipped":
                    with file.open("r+b") as out:
                        out.seek(200_000)
                        out.write(bytes([DATA[200_000] ^ 1]))
                elif damage == "shorter":
                    os.truncate(file, 299_999)
                elif damage == "longer":
                    os.truncate(file, 300_001)
                elif damage == "gone":
                    file.unlink()
                else:
                    file.with_suffix(".json").write_text("{")
                for asked in ({}, {"Range": "bytes=0-4"}):
                    answer = await alice.ask("GET", link, **asked)
                    assert answer.status == 503
                    assert DATA[:5] not in answer.body

        run(work())

    def test_a_file_is_there_only_when_its_entry_is(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The disk fails at each step on the way into the store; then it works again, and nothing was lost."""

        async def work() -> None:
            calls = 0
            fails_at = 0
            real = os.fsync

            def fsync(fd: int) -> None:
                nonlocal calls
                calls += 1
                if calls == fails_at:
                    raise OSError(errno.EIO, "the disk fails")
                real(fd)

            async with serving(tmp_path) as service:
                alice = service.person()
                for step in range(1, 5):
                    path = await alice.begin(len(DATA))
                    monkeypatch.setattr(os, "fsync", fsync)
                    calls, fails_at = 0, step
                    answer = await alice.append(path, 0, DATA)
                    monkeypatch.setattr(os, "fsync", real)
                    assert answer.status in (503, 204)
                    if answer.status == 503:
                        assert (await alice.ask("GET", path)).status == 409
                    assert await alice.offset(path) == len(DATA)
                    assert (await alice.reference(path)).sha256 == sha256(DATA)

        run(work())

    def test_a_full_disk_is_507_and_what_came_is_kept(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async def work() -> None:
            room = 100_000
            real = os.pwrite

            def pwrite(fd: int, data: Any, at: int) -> int:
                if at >= room:
                    raise OSError(errno.ENOSPC, "no space left on device")
                return real(fd, data[: room - at], at)

            async with serving(tmp_path) as service:
                alice = service.person()
                path = await alice.begin(len(DATA))
                monkeypatch.setattr(os, "pwrite", pwrite)
                answer = await alice.append(path, 0, DATA)
                assert (answer.status, answer.text) == (507, "the disk is full: what came is kept, go on later\n")
                assert await alice.offset(path) == 100_000
                monkeypatch.setattr(os, "pwrite", real)
                assert (await alice.append(path, 100_000, DATA[100_000:])).status == 204
                assert (await alice.reference(path)).sha256 == sha256(DATA)

        run(work())

    def test_what_the_disk_can_not_hold_is_not_begun(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async def work() -> None:
            async with serving(tmp_path) as service:
                monkeypatch.setattr("imcore.media.uploads._free", lambda folder: 999)
                answer = await service.person().tus("POST", "/im/media/uploads", Upload_Length="1000")
                assert answer.status == 507

        run(work())

    def test_a_file_is_looked_at_once_however_many_ask(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async def work() -> None:
            looked = 0
            real = part.hashed

            def hashed(path: Path) -> str:
                nonlocal looked
                looked += 1
                return real(path)

            monkeypatch.setattr(store, "hashed", hashed)
            async with serving(tmp_path) as service:
                alice = service.person()
                link = await alice.link(await alice.put(DATA))
                answers = await asyncio.gather(*(alice.ask("GET", link) for _ in range(8)))
                assert all(answer.body == DATA for answer in answers)
                assert looked == 1

        run(work())
