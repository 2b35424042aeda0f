"""Downloads: ranges and conditions as RFC 9110 has them, for the readers that people use, and for nobody else."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from imcore import Reference
from imcore.media.limits import Limits
from tests.media.running import Service, run, serving, sha256
from tests.others import ENVIRONMENT

DATA = os.urandom(400_000)
ETAG = f'"{sha256(DATA)}"'


class TestRanges:
    @pytest.mark.parametrize(
        ("asked", "start", "stop"),
        [
            ("bytes=0-0", 0, 1),
            ("bytes=0-", 0, 400_000),
            ("bytes=100-", 100, 400_000),
            ("bytes=-5", 399_995, 400_000),
            ("bytes=-999999999", 0, 400_000),
            ("bytes=399999-99999999999999999999", 399_999, 400_000),
            ("bytes=0-199999", 0, 200_000),
        ],
    )
    def test_one_range_is_a_piece(self, tmp_path: Path, asked: str, start: int, stop: int) -> None:
        async def work() -> None:
            async with serving(tmp_path) as service:
                alice = service.person()
                answer = await alice.get(await alice.put(DATA), Range=asked)
                assert answer.body == DATA[start:stop]
                assert answer.status == 206
                assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/400000"

        run(work())

    def test_several_ranges_are_one_answer_in_parts(self, tmp_path: Path) -> None:
        async def work() -> None:
            async with serving(tmp_path) as service:
                alice = service.person()
                answer = await alice.get(await alice.put(DATA), Range="bytes=5-9, 100000-299999, -3")
                assert answer.status == 206
                kind, edge = answer.headers["Content-Type"].split("; boundary=")
                assert kind == "multipart/byteranges"
                assert answer.body.count(b"\r\nContent-Type: application/octet-stream\r\n") == 3
                pieces = re.findall(rb"\r\nContent-Range: bytes (\d+)-(\d+)/400000\r\n\r\n", answer.body)
                assert pieces == [(b"5", b"9"), (b"100000", b"299999"), (b"399997", b"399999")]
                parts = re.split(rb"\r\n--%b(?:--)?\r\n" % edge.encode(), answer.body)
                bodies = [part.partition(b"\r\n\r\n")[2] for part in parts[1:-1]]
                assert bodies == [DATA[5:10], DATA[100_000:300_000], DATA[-3:]]

        run(work())

    @pytest.mark.parametrize(
        "odd",
        ["bytes", "bytes=", "bytes=-", "bytes=5-2", "bytes=a-b", "chars=0-5", "bytes=0-5,3-9", "bytes=" + "0-0," * 99],
    )
    def test_what_makes_no_sense_or_asks_twice_gets_it_all(self, tmp_path: Path, odd: str) -> None:
        async def work() -> None:
            async with serving(tmp_path) as service:
                alice = service.person()
                answer = await alice.get(await alice.put(DATA), Range=odd)
                assert (answer.status, answer.body) == (200, DATA)

        run(work())

    @pytest.mark.parametrize("beyond", ["bytes=400000-", "bytes=999999999999999999999-", "bytes=-0"])
    def test_what_is_not_there_is_416_with_the_size(self, tmp_path: Path, beyond: str) -> None:
        async def work() -> None:
            async with serving(tmp_path) as service:
                alice = service.person()
                answer = await alice.get(await alice.put(DATA), Range=beyond)
                assert (answer.status, answer.headers["Content-Range"]) == (416, "bytes */400000")

        run(work())

    def test_many_readers_of_ranges_get_the_file_together(self, tmp_path: Path) -> None:
        async def work() -> None:
            async with serving(tmp_path) as service:
                alice = service.person()
                link = await alice.link(await alice.put(DATA))
                steps = range(0, len(DATA), 7919)
                answers = await asyncio.gather(
                    *(alice.ask("GET", link, Range=f"bytes={at}-{at + 7918}") for at in steps)
                )
                assert b"".join(answer.body for answer in answers) == DATA

        run(work())


class TestConditions:
    def test_who_has_it_is_told_so(self, tmp_path: Path) -> None:
        async def work() -> None:
            async with serving(tmp_path) as service:
                alice = service.person()
                reference = await alice.put(DATA)
                for has in (ETAG, f"W/{ETAG}", f'"x", {ETAG}', "*"):
                    answer = await alice.get(reference, If_None_Match=has, Range="bytes=0-4")
                    assert (answer.status, answer.body, answer.headers["ETag"]) == (304, b"", ETAG)
                assert (await alice.get(reference, If_None_Match='"x"')).status == 200

        run(work())

    def test_a_range_of_another_file_is_never_sent(self, tmp_path: Path) -> None:
        async def work() -> None:
            async with serving(tmp_path) as service:
                alice = service.person()
                reference = await alice.put(DATA)
                modified = (await alice.get(reference)).headers["Last-Modified"]
                for same in (ETAG, modified):
                    assert (await alice.get(reference, If_Range=same, Range="bytes=0-4")).body == DATA[:5]
                for other in ('"x"', f"W/{ETAG}", "Thu, 01 Jan 1970 00:00:00 GMT", "nonsense"):
                    assert (await alice.get(reference, If_Range=other, Range="bytes=0-4")).body == DATA

        run(work())

    def test_head_says_the_same_without_the_bytes(self, tmp_path: Path) -> None:
        async def work() -> None:
            async with serving(tmp_path) as service:
                alice = service.person()
                link = await alice.link(await alice.put(DATA, filename="Größe\r\n.png", filetype="image/png"))
                answer = await alice.ask("HEAD", link)
                assert (answer.status, answer.body) == (200, b"")
                assert answer.headers["Content-Length"] == "400000"
                assert answer.headers["Accept-Ranges"] == "bytes"
                assert answer.headers["Content-Type"] == "image/png"
                assert answer.headers["Content-Disposition"] == "inline; filename*=UTF-8''Gr%C3%B6%C3%9Fe.png"

        run(work())

    @pytest.mark.parametrize("kind", ["text/html", "image/svg+xml", "application/pdf"])
    def test_what_could_run_in_a_browser_is_not_shown_there(self, tmp_path: Path, kind: str) -> None:
        async def work() -> None:
            async with serving(tmp_path) as service:
                alice = service.person()
                answer = await alice.get(await alice.put(b"<script>", filetype=kind))
                assert answer.headers["Content-Disposition"].startswith("attachment")
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers["Content-Security-Policy"].startswith("sandbox")

        run(work())


class TestWhoMayRead:
    def test_nobody_reads_what_was_not_shared(self, tmp_path: Path) -> None:
        async def work() -> None:
            async with serving(tmp_path) as service:
                reference = await service.person().put(DATA)
                other = await service.person().put(b"other")
                mallory = service.person("mallory")
                path = f"/im/media/files/{reference.id}"
                link = await service.person("bob").link(reference)
                query = link.partition("?")[2]
                for tried in (
                    path,
                    f"{path}?until=99999999999&sign=x",
                    f"{path}?{query}0",
                    f"{path}?{query.replace('until=', 'until=1')}",
                    f"/im/media/files/{other.id}?{query}",
                ):
                    answer = await mallory.ask("GET", tried)
                    assert answer.status == 403
                    assert DATA[:20] not in answer.body
                for key in ("", other.key, reference.key[:-1], "é"):
                    assert (await mallory.ask("POST", f"{path}/link", Media_Key=key)).status == 404
                nobody = service.person("")
                assert (await nobody.ask("POST", f"{path}/link", Media_Key=reference.key)).status == 401
                assert (await nobody.ask("GET", link)).body == DATA  # a player says no token

        run(work())

    def test_a_link_ends(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async def work() -> None:
            async with serving(tmp_path, Limits(link_s=60)) as service:
                alice = service.person()
                link = await alice.link(await alice.put(DATA))
                now = time.time()
                monkeypatch.setattr("imcore.media.server.time.time", lambda: now + 59)
                assert (await alice.ask("GET", link)).status == 200
                monkeypatch.setattr("imcore.media.server.time.time", lambda: now + 61)
                answer = await alice.ask("GET", link)
                assert (answer.status, answer.text) == (403, "this link is past its time: get a new one\n")

        run(work())

    def test_links_hold_across_starts_and_the_secret_is_the_owners_alone(self, tmp_path: Path) -> None:
        async def work() -> None:
            async with serving(tmp_path) as service:
                link = await service.person().link(await service.person().put(DATA))
            assert (tmp_path / "media.key").stat().st_mode & 0o777 == 0o600
            async with serving(tmp_path) as service:
                assert (await service.person("").ask("GET", link)).body == DATA

        run(work())


class TestReaders:
    def test_curl_downloads_and_goes_on(self, tmp_path: Path) -> None:
        if shutil.which("curl") is None:
            pytest.skip("there is no curl")
        target = tmp_path / "target"

        async def work() -> None:
            async with serving(tmp_path / "media") as service:
                url = await address(service)
                await curl("-o", str(target), url)
                assert target.read_bytes() == DATA
                target.write_bytes(DATA[:123_456])
                await curl("-C", "-", "-o", str(target), url)
                assert target.read_bytes() == DATA
                assert await curl("-r", "5-9", url) == DATA[5:10]

        run(work())

    def test_a_reader_that_goes_away_costs_nothing(self, tmp_path: Path) -> None:
        """Ranges as a player asks for them: an open one, dropped when it has seen enough."""
        big = DATA * 20

        async def work() -> None:
            async with serving(tmp_path) as service:
                alice = service.person()
                link = await alice.link(await alice.put(big, filetype="video/mp4"))
                for at in (0, 3_000_000, 7_999_000):
                    async with alice.session.get(service.base + link, headers={"Range": f"bytes={at}-"}) as answer:
                        assert answer.status == 206
                        assert await answer.content.readexactly(1000) == big[at : at + 1000]
                assert (await alice.ask("GET", link)).body == big

        run(work())

    def test_a_reader_that_stops_reading_is_left(self, tmp_path: Path) -> None:
        big = DATA * 50

        async def work() -> None:
            async with serving(tmp_path, Limits(idle_s=0.3)) as service:
                alice = service.person()
                link = await alice.link(await alice.put(big))
                loop = asyncio.get_running_loop()
                with socket.create_connection(("127.0.0.1", service.port)) as sock:
                    sock.sendall(f"GET {link} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                    sock.setblocking(False)
                    await asyncio.sleep(1)
                    came = 0
                    with suppress(ConnectionError):
                        while data := await loop.sock_recv(sock, 1 << 20):
                            came += len(data)
                    assert came < len(big)

        run(work())


def test_a_reference_goes_through_a_message() -> None:
    reference = Reference("0" * 32, "k" * 43, 5, "0" * 64, "image/png", "é.png")
    assert Reference.decode(reference.encode()) == reference


async def address(service: Service) -> str:
    alice = service.person()
    return service.base + await alice.link(await alice.put(DATA))


async def curl(*args: str) -> bytes:
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", "--fail", "--max-time", "20", *args, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )  # fmt: skip
    out, error = await process.communicate()
    assert process.returncode == 0, error
    return out
