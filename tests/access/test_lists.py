"""A list is signed once for all callers of one kind and second, by a key that they know."""

from __future__ import annotations

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from imcore.access import lists
from imcore.access.carriers import NOWHERE, Origin
from imcore.access.figures import Figures
from imcore.access.levels import Levels
from imcore.access.lists import Lists
from imcore.access.ranking import Ranking
from imcore.access.settings import Access, Point
from imcore.access.shares import SHARES, Shares, drawn
from imcore.access.stills import Stills
from imcore.access_list import TYPE, key_id, open_list
from imcore.bus.ports import Load

OLD, NEW = (Ed25519PrivateKey.from_private_bytes(bytes([fill] * 32)) for fill in (1, 2))
IDS = [key_id(key.public_key()) for key in (OLD, NEW)]
KEYS = {key_id(key.public_key()): key.public_key() for key in (OLD, NEW)}


class Made:
    """Lists on a clock that the test turns."""

    def __init__(self, count: int = 3) -> None:
        self.now = 1_800_000_000.2
        self.points = [
            Point(name=f"p{n}", addresses=["192.0.2.1"], ways=["tls:443"], nodes=["n"]) for n in range(count)
        ]
        self.levels = Levels(1000, lambda: self.now)
        ranking = Ranking(self.points, self.levels, Figures())
        settings = Access(points=self.points, most=2, lifetime_s=600)
        self.shares = Shares(b"secret")
        self.stills = Stills()
        self.lists = Lists(ranking, self.stills, self.shares, settings, [OLD, NEW], lambda: self.now)


def test_a_list_says_what_the_settings_say() -> None:
    made = Made()
    opened = open_list(made.lists.signed(Origin("telecom", "east"), "up", "192.0.2.9", []), KEYS, "up", made.now)
    assert (opened.iat, opened.exp, opened.refresh_s) == (1_800_000_000, 1_800_000_600, 300)
    assert (opened.carrier, opened.region, len(opened.points)) == ("telecom", "east", 2)


def test_a_list_says_how_long_connections_may_be_silent_where_the_callers_are_and_old_ones_do_not() -> None:
    made = Made()
    telecom, other = Origin("telecom", "east"), Origin("other", "east")
    for number in range(20):
        made.stills.hear((str(number),), telecom, 300, made.now)
    found = [
        open_list(made.lists.signed(origin, "up", "192.0.2.9", []), KEYS, "up", made.now).still_s
        for origin in (telecom, other)
    ]
    assert 240 <= found[0] <= 300
    assert found[1] == 0
    claims = {"role": "up", "iat": 1, "exp": 2_000_000_000, "refresh_s": 9, "points": []}
    old = jwt.PyJWS().encode(msgspec.json.encode(claims), OLD, "EdDSA", headers={"typ": TYPE, "kid": IDS[0]})
    assert open_list(old.encode(), KEYS, "up", made.now).still_s == 0


def test_each_share_of_the_callers_has_its_own() -> None:
    made = Made()
    lists = {made.lists.signed(NOWHERE, "up", f"192.0.2.{number}", []) for number in range(250)}
    assert 1 < len(lists) <= SHARES


def test_it_is_remembered_who_was_sent_where() -> None:
    made = Made()
    first = open_list(made.lists.signed(NOWHERE, "up", "192.0.2.9", []), KEYS, "up", made.now).points[0].name
    draw = drawn(made.now)
    asked = [made.shares.were_sent(draw, NOWHERE, "up", "192.0.2.9", name) for name in ("p0", "p1", "p2")]
    assert asked == [name == first for name in ("p0", "p1", "p2")]
    assert not made.shares.were_sent(draw, NOWHERE, "down", "192.0.2.9", first)
    assert not made.shares.were_sent(draw - 1, NOWHERE, "up", "192.0.2.9", first)


def test_it_is_signed_once_in_a_second_for_all_of_a_kind() -> None:
    made = Made()
    first = made.lists.signed(NOWHERE, "up", "192.0.2.9", [])
    assert made.lists.signed(NOWHERE, "up", "192.0.2.9", []) is first
    assert made.lists.signed(NOWHERE, "down", "192.0.2.9", []) is not first
    assert made.lists.signed(Origin("telecom", ""), "up", "192.0.2.9", []) is not first
    made.now += 0.7
    assert made.lists.signed(NOWHERE, "up", "192.0.2.9", []) is first
    made.now += 0.3
    assert made.lists.signed(NOWHERE, "up", "192.0.2.9", []) != first


@pytest.mark.parametrize(("known", "by"), [([], 0), ([IDS[0]], 0), ([IDS[1]], 1), ([IDS[1], IDS[0]], 0), (["x"], 0)])
def test_the_first_key_that_the_caller_knows_signs(known: list[str], by: int) -> None:
    made = Made()
    signed = made.lists.signed(NOWHERE, "up", "192.0.2.9", known)
    assert open_list(signed, {IDS[by]: KEYS[IDS[by]]}, "up", made.now).points


def test_no_list_is_made_of_no_points() -> None:
    made = Made()
    made.levels.take(Load("n", 0, 0.0, 0.0, 0.0, draining=True))
    assert made.lists.signed(NOWHERE, "up", "192.0.2.9", []) == b""
    assert Made(0).lists.signed(NOWHERE, "up", "192.0.2.9", []) == b""


def test_any_number_of_kinds_takes_a_bounded_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "KINDS_MOST", 10)
    made = Made()
    for number in range(100):
        made.lists.signed(Origin(f"AS{number}", ""), "up", "192.0.2.9", [])
    assert len(made.lists._made) <= 10
