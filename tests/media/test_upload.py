"""Uploads by tus 1.0: what is taken, what is refused, and that a cut at any byte costs nothing."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from pathlib import Path

import pytest

from imcore.media import part
from imcore.media.limits import Limits
from tests.media.running import Person, pairs, run, serving, sha256

DATA = os.urandom(300_000)


class TestTheCore:
    def test_what_is_uploaded_comes_back(self, tmp_path: Path) -> None:
        async def work() -> None:
            async with serving(tmp_path) as service:
                alice = service.person()
                reference = await alice.put(DATA, filename="holiday.jpg", filetype="image/jpeg")
                assert (reference.name, reference.type) == ("holiday.jpg", "image/jpeg")
                assert (reference.size, reference.sha256) == (len(DATA), sha256(DATA))
                assert (await service.person("bob").get(reference)).body == DATA

        run(work())

    @pytest.mark.parametrize("size", [0, 1, 65_535, 65_537, 1_000_000])
    def test_a_file_may_have_any_size(self, tmp_path: Path, size: int) -> None:
        async def work() -> None:
            async with serving(tmp_path) as service:
                alice = service.person()
                path = await alice.begin(size)
                if size:
                    assert (await alice.append(path, 0, DATA[:size].ljust(size))).status == 204
                reference = await alice.reference(path)
                assert reference.size == size
                assert (await alice.get(reference)).body == DATA[:size].ljust(size)

        run(work())

    def test_options_says_what_there_is(self, tmp_path: Path) -> None:
        async def work() -> None:
            async with serving(tmp_path) as service:
                answer = await service.person("").ask("OPTIONS", "/im/media/uploads")
                assert answer.status == 204
                assert answer.headers["Tus-Version"] == "1.0.0"
                assert answer.headers["Tus-Extension"].split(",") == [
                    "creation", "creation-with-upload", "expiration", "checksum", "termination", "concatenation",
                ]  # fmt: skip
                assert "sha1" in answer.headers["Tus-Checksum-Algorithm"].split(",")

        run(work())

    def test_a_wrong_version_is_412_with_the_right_one(self, tmp_path: Path) -> None:
        async def work() -> None:
            async with serving(tmp_path) as service:
                answer = await service.person().tus(
                    "POST", "/im/media/uploads", Upload_Length="1", Tus_Resumable="0.2.2"
                )
                assert (answer.status, answer.headers["Tus-Version"]) == (412, "1.0.0")

        run(work())

    def test_a_wrong_offset_is_409_and_changes_nothing(self, tmp_path: Path) -> None:
        async def work() -> None:
            async with serving(tmp_path) as service:
                alice = service.person()
                path = await alice.begin(10)
                assert (await alice.append(path, 0, b"12345")).headers["Upload-Offset"] == "5"
                for wrong in (0, 4, 6, 10):
                    assert (await alice.append(path, wrong, b"")).status == 409
                assert await alice.offset(path) == 5

        run(work())

    def test_more_than_was_announced_is_413(self, tmp_path: Path) -> None:
        async def work() -> None:
            async with serving(tmp_path) as service:
                alice = service.person()
                path = await alice.begin(4)
                assert (await alice.append(path, 0, b"12345")).status == 413
                assert await alice.offset(path) == 0

        run(work())

    def test_another_method_may_stand_in_for_patch(self, tmp_path: Path) -> None:
        async def work() -> None:
            async with serving(tmp_path) as service:
                alice = service.person()
                path = await alice.begin(3)
                answer = await alice.tus("POST", path, b"abc", Upload_Offset="0", X_HTTP_Method_Override="PATCH")
                assert (answer.status, answer.headers["Upload-Offset"]) == (204, "3")

        run(work())

    def test_metadata_come_back_as_they_were(self, tmp_path: Path) -> None:
        async def work() -> None:
            async with serving(tmp_path) as service:
                alice = service.person()
                said = pairs(filename="../../etc/passwd", note=b"\xff\x00")
                path = await alice.begin(1, Upload_Metadata=said)
                assert (await alice.tus("HEAD", path)).headers["Upload-Metadata"] == said
                await alice.append(path, 0, b"x")
                assert (await alice.reference(path)).name == "passwd"

        run(work())


class TestCuts:
    def test_every_cut_goes_on_where_it_was(self, tmp_path: Path) -> None:
        """A raw connection that ends after each number of bytes of the body."""
        data = DATA[:200]

        async def work() -> None:
            async with serving(tmp_path) as service:
                alice = service.person()
                for cut in range(len(data)):
                    path = await alice.begin(len(data))
                    await cut_off(service.port, path, data, cut)
                    offset = await alice.offset(path)
                    assert 0 <= offset <= cut
                    assert (await alice.append(path, offset, data[offset:])).status == 204
                    assert (await alice.reference(path)).sha256 == sha256(data)

        run(work())

    @pytest.mark.parametrize("cut", [0, 1, 65_536, 70_000, 262_144, 299_999])
    def test_a_large_body_is_cut_too(self, tmp_path: Path, cut: int) -> None:
        """These bytes go past aiohttp, from the socket into the file."""

        async def work() -> None:
            async with serving(tmp_path) as service:
                alice = service.person()
                path = await alice.begin(len(DATA))
                await cut_off(service.port, path, DATA, cut)
                offset = await alice.offset(path)
                assert 0 <= offset <= cut
                assert (await alice.append(path, offset, DATA[offset:])).status == 204
                assert (await alice.get(await alice.reference(path))).body == DATA

        run(work())

    def test_it_goes_on_after_the_service_was_started_anew(self, tmp_path: Path) -> None:
        async def work() -> None:
            async with serving(tmp_path) as service:
                path = await service.person().begin(len(DATA))
                await service.person().append(path, 0, DATA[:100_000])
            async with serving(tmp_path) as service:
                alice = service.person()
                assert await alice.offset(path) == 100_000
                await alice.append(path, 100_000, DATA[100_000:])
                assert (await alice.reference(path)).sha256 == sha256(DATA)

        run(work())

    def test_after_a_power_cut_only_what_was_synced_counts(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The machine was started anew, and the file is longer than what is on disk for sure."""

        async def work() -> None:
            async with serving(tmp_path) as service:
                path = await service.person().begin(len(DATA))
                await service.person().append(path, 0, DATA[:1000])
            [under_way] = (tmp_path / "uploads").iterdir()
            with under_way.open("ab") as file:
                file.write(bytes(500))
            monkeypatch.setattr("imcore.media.uploads.BOOT", "another")
            async with serving(tmp_path) as service:
                assert await service.person().offset(path) == 1000

        assert part.BOOT
        run(work())

    def test_a_newer_request_ends_an_older_one_that_hangs(self, tmp_path: Path) -> None:
        async def work() -> None:
            async with serving(tmp_path) as service:
                alice = service.person()
                path = await alice.begin(len(DATA))
                reader, writer = await patch(service.port, path, len(DATA))
                writer.write(DATA[:150_000])  # and then nothing
                await until_stored(service.folder, 150_000)
                offset = await alice.offset(path)
                assert offset == 150_000
                assert b" 409 " in await reader.readline()
                writer.close()
                assert (await alice.append(path, offset, DATA[offset:])).status == 204

        run(work())

    def test_what_does_not_move_is_ended(self, tmp_path: Path) -> None:
        async def work() -> None:
            async with serving(tmp_path, Limits(idle_s=0.2)) as service:
                alice = service.person()
                path = await alice.begin(len(DATA))
                reader, writer = await patch(service.port, path, len(DATA))
                writer.write(DATA[:100_000])
                assert b" 408 " in await reader.readline()
                writer.close()
                assert await alice.offset(path) == 100_000

        run(work())


class TestExtensions:
    def test_creation_may_bring_bytes(self, tmp_path: Path) -> None:
        async def work() -> None:
            async with serving(tmp_path) as service:
                alice = service.person()
                path = ""
                for brought in (0, 5, len(DATA)):
                    answer = await alice.tus("POST", "/im/media/uploads", DATA[:brought], Upload_Length=str(len(DATA)))
                    assert (answer.status, answer.headers["Upload-Offset"]) == (201, str(brought))
                    path = answer.headers["Location"]
                assert (await alice.reference(path)).sha256 == sha256(DATA)

        run(work())

    @pytest.mark.parametrize("algorithm", ["sha1", "sha256", "md5"])
    def test_a_wrong_checksum_is_460_and_nothing_counts(self, tmp_path: Path, algorithm: str) -> None:
        async def work() -> None:
            async with serving(tmp_path) as service:
                alice = service.person()
                path = await alice.begin(len(DATA))
                await alice.append(path, 0, DATA[:1000])
                right = base64.b64encode(hashlib.new(algorithm, DATA[1000:]).digest()).decode()
                wrong = base64.b64encode(hashlib.new(algorithm, b"x").digest()).decode()
                answer = await alice.append(path, 1000, DATA[1000:], Upload_Checksum=f"{algorithm} {wrong}")
                assert answer.status == 460
                assert await alice.offset(path) == 1000
                answer = await alice.append(path, 1000, DATA[1000:], Upload_Checksum=f"{algorithm} {right}")
                assert answer.status == 204
                assert (await alice.reference(path)).sha256 == sha256(DATA)

        run(work())

    def test_a_checksum_of_what_was_cut_can_not_be_checked_so_nothing_counts(self, tmp_path: Path) -> None:
        async def work() -> None:
            async with serving(tmp_path) as service:
                alice = service.person()
                path = await alice.begin(len(DATA))
                digest = base64.b64encode(hashlib.sha1(DATA, usedforsecurity=False).digest()).decode()
                await cut_off(service.port, path, DATA, 200_000, f"Upload-Checksum: sha1 {digest}\r\n")
                assert await alice.offset(path) == 0

        run(work())

    def test_what_is_terminated_is_gone(self, tmp_path: Path) -> None:
        async def work() -> None:
            async with serving(tmp_path) as service:
                alice = service.person()
                path = await alice.begin(10)
                assert (await alice.tus("DELETE", path)).status == 204
                assert (await alice.tus("HEAD", path)).status == 404
                assert not list((tmp_path / "uploads").iterdir())

        run(work())

    def test_what_nobody_goes_on_with_expires(self, tmp_path: Path) -> None:
        async def work() -> None:
            async with serving(tmp_path, Limits(expire_s=1, keep_s=1)) as service:
                alice = service.person()
                path = await alice.begin(10)
                assert "Upload-Expires" in (await alice.tus("HEAD", path)).headers
                reference = await alice.put(b"abc")
                link = await alice.link(reference)
                await asyncio.sleep(2.1)  # seconds are what the books count in
                assert (await alice.tus("HEAD", path)).status == 410
                await service.media.sweep()
                assert (await alice.tus("HEAD", path)).status == 404
                assert (await alice.ask("GET", link)).status == 404
                assert not list((tmp_path / "uploads").iterdir())
                assert not [each for each in (tmp_path / "files").rglob("*") if each.is_file()]

        run(work())

    def test_parts_become_one_file_in_their_order(self, tmp_path: Path) -> None:
        async def work() -> None:
            async with serving(tmp_path) as service:
                alice = service.person()
                paths = await parts(alice, [DATA[:100], DATA[100:200_000], DATA[200_000:]])
                final = f"final;{paths[0]} {service.base}{paths[1]} {paths[2]}"
                said = pairs(filename="whole.bin", sha256=sha256(DATA))
                answer = await alice.tus("POST", "/im/media/uploads", Upload_Concat=final, Upload_Metadata=said)
                assert answer.status == 201, answer.text
                reference = await alice.reference(answer.headers["Location"])
                assert (reference.sha256, reference.name) == (sha256(DATA), "whole.bin")
                again = await alice.tus("POST", "/im/media/uploads", Upload_Concat=final, Upload_Metadata=said)
                assert again.headers["Location"] == answer.headers["Location"]
                assert not list((tmp_path / "uploads").iterdir())

        run(work())

    def test_only_ones_own_whole_parts_become_a_file(self, tmp_path: Path) -> None:
        async def work() -> None:
            async with serving(tmp_path) as service:
                alice, bob = service.person(), service.person("bob")
                [theirs] = await parts(bob, [b"secret"])
                [ours] = await parts(alice, [b"ours"])
                half = await alice.begin(10, Upload_Concat="partial")
                plain = await alice.begin(10)
                for wrong, status in ((theirs, 404), (half, 400), (plain, 400), (ours + "/..", 400), (ours, 201)):
                    answer = await alice.tus("POST", "/im/media/uploads", Upload_Concat=f"final;{wrong}")
                    assert answer.status == status, answer.text

        run(work())


class TestLimits:
    def test_size_type_and_quota_are_refused_with_a_reason(self, tmp_path: Path) -> None:
        limits = Limits(max_size=1000, types=("image/*", "text/plain"), quota=1500)

        async def work() -> None:
            async with serving(tmp_path, limits) as service:
                alice = service.person()

                async def tried(length: int, kind: str) -> tuple[int, str]:
                    answer = await alice.tus(
                        "POST", "/im/media/uploads", Upload_Length=str(length), Upload_Metadata=pairs(filetype=kind)
                    )
                    return answer.status, answer.text

                assert await tried(1001, "image/png") == (413, "Upload-Length: expected at most 1000, got 1001\n")
                status, text = await tried(1, "video/mp4")
                assert status == 415
                assert "image/*, text/plain" in text
                assert (await tried(1000, "image/png"))[0] == 201
                status, text = await tried(501, "text/plain")
                assert status == 413
                assert "1500" in text
                assert (await tried(500, "text/plain"))[0] == 201
                assert (await service.person("bob").tus("POST", "/im/media/uploads", Upload_Length="1")).status == 415

        run(work())

    def test_files_are_counted_however_small_and_what_is_refused_leaves_nothing_behind(self, tmp_path: Path) -> None:
        async def work() -> None:
            async with serving(tmp_path, Limits(quota=1000, files=3)) as service:
                alice, bob = service.person(), service.person("bob")

                async def tried(length: int) -> int:
                    return (await alice.tus("POST", "/im/media/uploads", Upload_Length=str(length))).status

                assert [await tried(length) for length in (1001, 0, 0)] == [413, 201, 201]
                half = await alice.begin(10)
                assert [await tried(0) for _ in range(3)] == [413] * 3
                assert (await bob.tus("POST", "/im/media/uploads", Upload_Length="0")).status == 201
                assert [path.name for path in (tmp_path / "uploads").iterdir()] == [half.rpartition("/")[2]]
                assert (await alice.tus("DELETE", half)).status == 204
                assert [await tried(0) for _ in range(2)] == [201, 413]

        run(work())

    def test_parts_make_room_for_the_file_that_they_become(self, tmp_path: Path) -> None:
        async def work() -> None:
            async with serving(tmp_path, Limits(files=2)) as service:
                alice = service.person()
                first, second = await parts(alice, [b"one", b"two"])
                answer = await alice.tus("POST", "/im/media/uploads", Upload_Concat=f"final;{first} {second}")
                assert answer.status == 201, answer.text
                assert (await alice.tus("POST", "/im/media/uploads", Upload_Length="0")).status == 201
                assert (await alice.tus("POST", "/im/media/uploads", Upload_Length="0")).status == 413

        run(work())

    def test_what_is_deleted_counts_no_more(self, tmp_path: Path) -> None:
        async def work() -> None:
            async with serving(tmp_path, Limits(quota=1000)) as service:
                alice = service.person()
                reference = await alice.put(DATA[:1000])
                assert (await alice.tus("POST", "/im/media/uploads", Upload_Length="1")).status == 413
                assert (await service.person("bob").ask("DELETE", f"/im/media/files/{reference.id}")).status == 404
                assert (await alice.ask("DELETE", f"/im/media/files/{reference.id}")).status == 204
                await alice.begin(1000)

        run(work())

    def test_a_user_has_one_rate_for_all_uploads(self, tmp_path: Path) -> None:
        """400 KB at 200 KB a second take a second and more, whatever the machine does."""
        data = DATA[:200_000]

        async def work() -> None:
            async with serving(tmp_path, Limits(rate=200_000)) as service:
                alice = service.person()
                paths = [await alice.begin(len(data)) for _ in range(2)]
                began = asyncio.get_running_loop().time()
                answers = await asyncio.gather(*(alice.append(path, 0, data) for path in paths))
                assert [answer.status for answer in answers] == [204, 204]
                assert asyncio.get_running_loop().time() - began > 1.0

        run(work())

    def test_a_user_has_so_many_uploads_at_once(self, tmp_path: Path) -> None:
        async def work() -> None:
            async with serving(tmp_path, Limits(parallel=1)) as service:
                alice = service.person()
                first, second = [await alice.begin(len(DATA)) for _ in range(2)]
                _, writer = await patch(service.port, first, len(DATA))
                writer.write(DATA[:100_000])
                await until_stored(service.folder, 100_000)
                answer = await alice.append(second, 0, DATA[:10])
                assert (answer.status, answer.headers["Retry-After"]) == (429, "5")
                assert (await service.person("bob").put(b"x")).size == 1
                writer.close()

        run(work())


class TestFinished:
    def test_a_file_that_is_not_what_was_announced_is_no_file(self, tmp_path: Path) -> None:
        async def work() -> None:
            async with serving(tmp_path) as service:
                alice = service.person()
                path = await alice.begin(3, Upload_Metadata=pairs(sha256=sha256(b"abc")))
                answer = await alice.append(path, 0, b"abd")
                assert answer.status == 460
                assert (await alice.tus("HEAD", path)).status == 404

        run(work())

    def test_it_never_changes(self, tmp_path: Path) -> None:
        async def work() -> None:
            async with serving(tmp_path) as service:
                alice = service.person()
                path = await alice.begin(3)
                await alice.append(path, 0, b"abc")
                reference = await alice.reference(path)
                assert (await alice.append(path, 3, b"")).status == 204
                assert (await alice.append(path, 0, b"xyz")).status == 409
                await alice.tus("DELETE", path)  # the upload, not the file
                assert (await alice.get(reference)).body == b"abc"

        run(work())

    def test_it_is_no_file_before_it_is_whole(self, tmp_path: Path) -> None:
        async def work() -> None:
            async with serving(tmp_path) as service:
                alice = service.person()
                path = await alice.begin(3)
                await alice.append(path, 0, b"ab")
                answer = await alice.ask("GET", path)
                assert answer.status == 409
                assert not (tmp_path / "files").exists()

        run(work())

    def test_a_crash_on_the_way_into_the_store_is_made_up_for(self, tmp_path: Path) -> None:
        """All bytes came, and the process died before they were a file."""

        async def work() -> None:
            async with serving(tmp_path) as service:
                path = await service.person().begin(3)
                await service.person().append(path, 0, b"ab")
            [under_way] = (tmp_path / "uploads").iterdir()
            with under_way.open("ab") as file:
                file.write(b"c")
            async with serving(tmp_path) as service:
                alice = service.person()
                assert await alice.offset(path) == 3
                assert (await alice.reference(path)).sha256 == sha256(b"abc")

        run(work())


async def parts(person: Person, pieces: list[bytes]) -> list[str]:
    paths = []
    for piece in pieces:
        path = await person.begin(len(piece), Upload_Concat="partial")
        assert (await person.append(path, 0, piece)).status == 204
        paths.append(path)
    return paths


async def patch(port: int, path: str, length: int, more: str = "") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The head of a request to append to an upload of alice's."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        f"PATCH {path} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nAuthorization: Bearer alice\r\n{more}"
        f"Content-Type: application/offset+octet-stream\r\nUpload-Offset: 0\r\nContent-Length: {length}\r\n\r\n"
    )
    writer.write(head.encode())
    return reader, writer


async def cut_off(port: int, path: str, data: bytes, cut: int, more: str = "") -> None:
    """Send that many bytes of a body, and go away."""
    _, writer = await patch(port, path, len(data), more)
    writer.write(data[:cut])
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def until_stored(folder: Path, size: int) -> None:
    async with asyncio.timeout(10):
        while not any(each.stat().st_size >= size for each in (folder / "uploads").iterdir()):  # noqa: ASYNC110 - it is a file
            await asyncio.sleep(0.01)
