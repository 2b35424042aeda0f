"""Whatever a header says: a 4xx with a reason or what it asks for, never a 5xx, and never a byte outside the folder."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from imcore.media import tus
from imcore.media.ranges import none_match, ranges, still
from imcore.media.refusal import Refusal
from tests.media.running import Person, run, serving

HUGE = [2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, 10**40]
NUMBERS = st.one_of(
    st.integers(-5, 300).map(str),
    st.sampled_from(HUGE).map(str),
    st.sampled_from(["", "0x10", "1e3", "+1", " 1", "1 ", "٣", "1,1", "00012", "NaN", "-0"]),
)
LINE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=60)
KEY = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters=","), min_size=1)
PATHS = st.sampled_from(
    ["..", "../..", "/etc/passwd", "%2e%2e", "..%2f..%2fmedia.key", "media.key", "media.sqlite", "\\..\\x", "0" * 32]
)
METADATA = st.one_of(
    LINE,
    st.lists(st.tuples(LINE, st.binary(max_size=20)), max_size=4).map(
        lambda each: ",".join(f"{key} {base64.b64encode(value).decode()}" for key, value in each)
    ),
    PATHS.map(lambda path: f"filename {base64.b64encode(path.encode()).decode()}"),
)
CONCAT = st.one_of(
    st.sampled_from(["partial", "final", "final;", "Partial", "final; ;"]),
    st.lists(st.one_of(PATHS, PATHS.map(lambda path: f"/im/media/uploads/{path}")), max_size=3).map(
        lambda each: "final;" + " ".join(each)
    ),
    LINE,
)
CHECKSUM = st.one_of(LINE, st.sampled_from(["sha1", "sha1 ", "sha1 AAAA", "crc32 AAAA", "sha256 ==", "md5 !"]))
RANGE = st.one_of(
    LINE,
    st.lists(st.tuples(NUMBERS, NUMBERS), max_size=5).map(
        lambda each: "bytes=" + ",".join(f"{first}-{last}" for first, last in each)
    ),
)
LINK = "/im/media/files/SECRET/link"
FEW = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


class TestReading:
    """The functions by themselves: a value, or a `Refusal` with a 4xx."""

    @pytest.mark.parametrize(
        "read",
        [
            lambda text: tus.number(text, "x"),
            lambda text: tus.described(tus.metadata(text)),
            tus.checksum,
            lambda text: tus.concat(text, "/im/media/uploads/"),
            tus.version,
            lambda text: ranges(text, 1000),
            lambda text: ranges(text, 0),
            lambda text: none_match(text, '"x"'),
            lambda text: still(text, '"x"', 0),
        ],
    )
    def test_any_text_is_taken_or_refused(self, read: Callable[[str], Any]) -> None:
        @given(st.one_of(NUMBERS, METADATA, CONCAT, CHECKSUM, RANGE, st.text()))
        @example("final;" + "\0" * 200)
        @example("bytes=" + "\U000e0001" * 200)
        def check(text: str) -> None:
            refusal: Refusal | None = None
            try:
                read(text)
            except Refusal as error:
                refusal = error
            assert refusal is None or (400 <= refusal.status < 500 and 0 < len(refusal.text) <= 400)

        check()

    @given(st.integers(0, 2**64))
    @example(2**63 - 1)
    @example(2**63)
    def test_a_number_is_taken_up_to_the_systems_limit(self, value: int) -> None:
        if value < 2**63:
            assert tus.number(str(value), "x") == value
        else:
            with pytest.raises(Refusal):
                tus.number(str(value), "x")

    @given(st.dictionaries(KEY, st.binary(max_size=30), max_size=8))
    def test_metadata_are_what_was_said(self, said: dict[str, bytes]) -> None:
        text = ",".join(f"{key} {base64.b64encode(value).decode()}" for key, value in said.items())
        assert tus.metadata(text) == said

    @given(st.text(max_size=40))
    def test_a_name_has_no_folder_and_no_control_characters(self, name: str) -> None:
        try:
            found = tus.described({"filename": name.encode("utf-8", "surrogatepass")}).name
        except Refusal:
            return
        assert "/" not in found
        assert "\\" not in found
        assert found not in (".", "..")
        assert found.isprintable()

    @given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=4), st.integers(0, 25))
    def test_ranges_are_those_of_a_plain_reading(self, asked: list[tuple[int, int]], size: int) -> None:
        """The oracle takes byte by byte what each range asks for."""
        value = "bytes=" + ",".join(f"{first}-{last}" for first, last in asked)
        wanted = [[at for at in range(size) if first <= at <= last] for first, last in asked]
        refused = 0
        try:
            found = ranges(value, size)
        except Refusal as error:
            found, refused = None, error.status
        if refused:
            assert refused == 416
            assert not any(wanted)
            return
        every = sorted(at for each in wanted for at in each)
        if any(first > last for first, last in asked) or len(set(every)) < len(every):
            assert found is None
        else:
            assert found is not None
            assert [list(range(start, stop)) for start, stop in found] == [each for each in wanted if each]


class TestTheService:
    def test_any_header_gets_an_answer_with_a_reason(self, tmp_path: Path) -> None:
        """Over a real socket, beside the files of somebody else, whose bytes never come."""

        async def work(requests: list[tuple[str, str, dict[str, str], bytes]]) -> None:
            async with serving(tmp_path / "media") as service:
                bob = service.person("bob")
                secret = await bob.put(b"bob's secret")
                theirs = await bob.begin(10, Upload_Concat="partial")
                alice = service.person()
                own = await alice.begin(100)
                for method, path, headers, data in requests:
                    path = path.replace("OWN", own).replace("THEIRS", theirs).replace("SECRET", secret.id)
                    await answered(alice, method, path, headers, data)
            assert set(os.listdir(tmp_path)) == {"media"}
            assert {each.name for each in (tmp_path / "media").iterdir()} <= {
                "files", "uploads", "media.key", "media.sqlite", "media.sqlite-wal", "media.sqlite-shm",
            }  # fmt: skip

        header = st.one_of(
            st.tuples(st.just("Upload-Length"), NUMBERS),
            st.tuples(st.just("Upload-Offset"), NUMBERS),
            st.tuples(st.just("Upload-Metadata"), METADATA),
            st.tuples(st.just("Upload-Concat"), CONCAT),
            st.tuples(st.just("Upload-Concat"), st.just("final;THEIRS")),
            st.tuples(st.just("Upload-Checksum"), CHECKSUM),
            st.tuples(st.just("Upload-Defer-Length"), NUMBERS),
            st.tuples(st.just("Range"), RANGE),
            st.tuples(st.just("If-Range"), LINE),
            st.tuples(st.just("If-None-Match"), LINE),
            st.tuples(st.just("Media-Key"), LINE),
            st.tuples(st.just("X-HTTP-Method-Override"), st.sampled_from(["PATCH", "DELETE", "HEAD", "PUT", "x y"])),
            st.tuples(st.just("Tus-Resumable"), st.sampled_from(["1.0.0", "0.2.2", ""])),
        )
        request = st.tuples(
            st.sampled_from(["GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS", "PUT"]),
            st.one_of(
                st.sampled_from(["/im/media/uploads", "OWN", "THEIRS", "/im/media/files/SECRET", LINK]),
                PATHS.map(lambda path: f"/im/media/files/{path}"),
                PATHS.map(lambda path: f"/im/media/uploads/{path}"),
            ),
            st.lists(header, max_size=5).map(dict),
            st.binary(max_size=120),
        )  # fmt: skip

        @FEW
        @given(st.lists(request, min_size=1, max_size=30))
        def check(requests: list[tuple[str, str, dict[str, str], bytes]]) -> None:
            run(work(requests))

        check()


async def answered(person: Person, method: str, path: str, headers: dict[str, str], data: bytes) -> None:
    headers = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"} | headers
    for name, value in list(headers.items()):
        headers[name] = value.replace("THEIRS", path)
    try:
        async with asyncio.timeout(20):
            answer = await person.ask(method, path, data or None, **headers)
    except ValueError:  # the client itself does not send such a header
        return
    assert answer.status < 500, answer.text
    if answer.status >= 400 and method != "HEAD":
        assert answer.text.strip()
    assert b"secret" not in answer.body
