"""Nobody chooses their share, nor keeps it, and all shares are about as large."""

from __future__ import annotations

from collections import Counter

import pytest

from imcore.access import shares
from imcore.access.carriers import NOWHERE
from imcore.access.shares import SHARES, Shares, drawn


def test_shares_are_about_as_large() -> None:
    made = Shares(b"secret")
    sizes = Counter(made.of(f"10.0.{number >> 8}.{number & 255}", 1) for number in range(16_000))
    assert len(sizes) == SHARES
    assert max(sizes.values()) < 1.2 * min(sizes.values())


def test_each_draw_is_another() -> None:
    made = Shares(b"secret")
    assert len({made.of("192.0.2.1", draw) for draw in range(100)}) == SHARES


def test_copies_with_the_same_secret_draw_alike_and_nobody_else() -> None:
    one, same, other = Shares(b"secret"), Shares(b"secret"), Shares(b"another")
    draws = range(50)
    assert [one.of("192.0.2.1", draw) for draw in draws] == [same.of("192.0.2.1", draw) for draw in draws]
    assert [one.of("192.0.2.1", draw) for draw in draws] != [other.of("192.0.2.1", draw) for draw in draws]


def test_any_number_of_kinds_takes_a_bounded_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "HEADS_MOST", 100)
    made = Shares(b"secret")
    for draw in range(1000):
        made.sent(draw, NOWHERE, "up", 0, "gw-1")
    assert len(made) == 100


def test_a_draw_holds_for_a_minute() -> None:
    assert [drawn(second) for second in (0, 59.9, 60, 120)] == [0, 0, 1, 2]
