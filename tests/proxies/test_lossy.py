"""A slice of the lossy run in every run of the suite, and the proof that it would notice."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.gateway.running import run
from tests.proxies.lossy import Drive, Figures, by_client, by_device, lossy

SLICE = int(os.environ.get("LOSSY_EXCHANGES", "2500"))


@pytest.mark.timeout(120 + SLICE // 100)
@pytest.mark.parametrize("drive", [by_client, by_device])
def test_requests_and_answers_lost_doubled_and_late_lose_double_and_reorder_no_message(
    drive: Drive, tmp_path: Path
) -> None:
    figures = run(lossy(tmp_path, SLICE, random.SystemRandom().randrange(1 << 32), drive))
    assert (figures.lost, figures.doubled, figures.reordered) == (0, 0, 0), figures
    assert figures.exchanges >= SLICE
    assert figures.happened is not None
    assert all(figures.happened.values()), figures


@pytest.mark.parametrize(
    ("came", "lost", "doubled", "reordered"),
    [
        ("1 2 3", 0, 0, 0),
        ("1 3", 1, 0, 0),
        ("", 3, 0, 0),
        ("1 2 2 3", 0, 1, 0),
        ("1 3 2", 0, 0, 1),
        ("2 1 3 2", 0, 1, 1),
    ],
)
def test_the_judge_tells_lost_doubled_and_reordered_apart(came: str, lost: int, doubled: int, reordered: int) -> None:
    figures = Figures()
    figures.judge([b"1", b"2", b"3"], came.encode().split())
    assert (figures.lost, figures.doubled, figures.reordered) == (lost, doubled, reordered)
