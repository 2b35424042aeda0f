"""Our reader beside h11 and httptools: on any stream all three say the same, but for the differences listed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.http_differences import DIFFERENCES, Difference
from tests.http_partners import Reading, by_h11, by_httptools, difference, ours
from tests.http_streams import almost_requests, almost_responses

ROOT = Path(__file__).parent.parent
PARTNERS: dict[str, Reading] = {"h11": by_h11, "httptools": by_httptools}


def listed(partner: str, side: str, reason: str) -> bool:
    return any((each.partner, each.side) == (partner, side) and reason.startswith(each.reason) for each in DIFFERENCES)


def compare(stream: bytes, asked: bytes | None, partner: str) -> None:
    found = difference(ours(stream, asked), PARTNERS[partner](stream, asked))
    assert found is None or listed(partner, *found), found


class TestOnAnyStream:
    """The same examples in every run: a rare case of a partner must not fail a change that is not about it."""

    @pytest.mark.parametrize("partner", PARTNERS)
    @given(stream=almost_requests)
    @settings(max_examples=500, derandomize=True)
    def test_requests_are_read_as_by_others(self, partner: str, stream: bytes) -> None:
        compare(stream, None, partner)

    @given(almost_responses, st.sampled_from([b"POST", b"GET", b"HEAD", b"CONNECT"]))
    @settings(max_examples=500, derandomize=True)
    def test_responses_are_read_as_by_h11(self, stream: bytes, asked: bytes) -> None:
        compare(stream, asked, "h11")

    @given(almost_responses)
    @settings(max_examples=500, derandomize=True)
    def test_responses_are_read_as_by_httptools(self, stream: bytes) -> None:
        compare(stream, b"POST", "httptools")


class TestEachDifference:
    @pytest.mark.parametrize("each", DIFFERENCES, ids=lambda each: f"{each.partner}: {each.what}")
    def test_is_one(self, each: Difference) -> None:
        found = difference(ours(each.stream, each.asked), PARTNERS[each.partner](each.stream, each.asked))
        assert found is not None
        side, reason = found
        assert side == each.side
        assert reason.startswith(each.reason)

    def test_is_justified_in_the_docs(self) -> None:
        text = (ROOT / "docs" / "http.md").read_text().split("## Where others decide otherwise\n")[1]
        rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")][2:]
        told = {what.removeprefix("| "): set(partners.split(", ")) for what, partners, _ in rows}
        wanted: dict[str, set[str]] = {}
        for each in DIFFERENCES:
            wanted.setdefault(each.what, set()).add(each.partner)
        assert told == wanted
