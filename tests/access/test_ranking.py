"""The order of a list: by line, by load, by speed; and what nobody has measured lately gets its turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imcore.access import ranking
from imcore.access.carriers import NOWHERE, Origin
from imcore.access.figures import HALF_LIFE_S, Figures, Key
from imcore.access.levels import FALL, RISE, SILENT_S, Levels
from imcore.access.ranking import Ranking
from imcore.access.settings import Point
from imcore.access.shares import SHARES, TRIAL_S
from imcore.access_list import AccessPoint, Direction
from imcore.bus.ports import Load

NOW = 1_800_000_000.0
TELECOM, UNICOM = Origin("telecom", "east"), Origin("unicom", "east")


class World:
    """Points, and what is told of them. The clock of the levels is the test's."""

    def __init__(self, *points: Point) -> None:
        self.now = 0.0
        self.levels = Levels(1000, lambda: self.now)
        self.figures = Figures()
        self.ranking = Ranking(points, self.levels, self.figures)

    def load(self, node: str, cpu: float, times: int = RISE) -> None:
        for _ in range(times):
            self.levels.take(Load(node, 0, cpu, 0.0, 0.0))

    def measure(
        self,
        point: str,
        took: float | None,
        origin: Origin = TELECOM,
        ways: Sequence[str] = (),
        role: Direction = "down",
        now: float = NOW,
    ) -> None:
        """Ten devices say so: of the point, and of these of its ways. None: it failed."""
        whole = Key(*origin, role, point, 0, "")
        for key in [whole, *(whole._replace(way=way, port=int(port)) for way, port in (w.split(":") for w in ways))]:
            for _ in range(10):
                self.figures.add(key, took, now)

    def listed(
        self,
        origin: Origin = TELECOM,
        share: int = 0,
        role: Direction = "down",
        now: float = NOW,
        explore: bool = False,
    ) -> list[AccessPoint]:
        return self.ranking.order(origin, role, now, share, explore=explore)

    def order(self, origin: Origin = TELECOM, share: int = 0, now: float = NOW, explore: bool = False) -> str:
        """The names in their order."""
        return " ".join(point.name for point in self.listed(origin, share, now=now, explore=explore))


def point(name: str, carrier: str = "", region: str = "", ways: tuple[str, ...] = ("tls:443",)) -> Point:
    return Point(name=name, addresses=["192.0.2.1"], ways=list(ways), carrier=carrier, region=region, nodes=[name])


def lines() -> World:
    return World(point("u", "unicom"), point("m", "*"), point("t", "telecom"))


class TestTheLine:
    def test_ones_own_comes_first_then_those_with_all_then_the_others(self) -> None:
        assert lines().order(TELECOM) == "t m u"
        assert lines().order(UNICOM) == "u m t"

    def test_who_is_not_known_gets_those_with_all_lines_first(self) -> None:
        assert lines().order(NOWHERE).startswith("m ")

    def test_comes_before_the_load_and_the_speed(self) -> None:
        world = lines()
        world.load("t", 0.75)
        world.measure("t", 300)
        world.measure("m", 20)
        assert world.order() == "t m u"

    def test_but_a_point_that_is_full_comes_last(self) -> None:
        world = lines()
        world.load("t", 0.99)
        assert world.order() == "m u t"

    def test_and_so_does_one_that_is_not_reached(self) -> None:
        world = lines()
        world.measure("t", None)
        assert world.order() == "m u t"
        assert world.order(UNICOM) == "u m t"


class TestLoadAndSpeed:
    def test_the_level_comes_before_the_speed(self) -> None:
        world = World(point("slow"), point("fast"))
        world.measure("slow", 200)
        world.measure("fast", 20)
        assert world.order() == "fast slow"
        world.load("fast", 0.6)
        assert world.order() == "slow fast"
        assert [each.level for each in world.listed()] == [0, 1]
        world.load("fast", 0.1, FALL)
        assert world.order() == "fast slow"

    def test_each_carriers_callers_have_their_own_order(self) -> None:
        world = World(point("a"), point("b"))
        for origin, fast, slow in ((TELECOM, "a", "b"), (UNICOM, "b", "a")):
            world.measure(fast, 20, origin)
            world.measure(slow, 100, origin)
        assert world.order(TELECOM) == "a b"
        assert world.order(UNICOM) == "b a"

    def test_up_and_down_are_apart(self) -> None:
        world = World(point("a"), point("b"))
        world.measure("b", 20)
        world.measure("a", 100)
        world.measure("a", 20, role="up")
        world.measure("b", 100, role="up")
        assert world.order() == "b a"
        assert [each.name for each in world.listed(role="up")] == ["a", "b"]

    def test_points_about_as_fast_share_the_callers(self) -> None:
        world = World(point("a"), point("b"), point("c"))
        for name in "abc":
            world.measure(name, 50)
        assert {world.order(share=share).split()[0] for share in range(SHARES)} == {"a", "b", "c"}

    def test_the_near_come_first_until_they_are_measured(self) -> None:
        world = World(point("far", region="west"), point("near", region="east"))
        assert {world.order(share=share) for share in range(4)} == {"near far"}

    def test_within_a_point_the_best_port_and_way_come_first(self) -> None:
        world = World(point("p", ways=("tls:443", "https:443", "http:80", "tcp:80")))
        world.measure("p", 50, ways=["tcp:80"])
        for _ in range(10):
            world.figures.add(Key(*TELECOM, "down", "p", 443, "tls"), None, NOW)
        [listed] = world.listed()
        assert [(each.port, each.ways) for each in listed.ports] == [(80, ["tcp", "http"]), (443, ["https", "tls"])]


class TestWhoIsGiven:
    def test_a_silent_node_is_not(self) -> None:
        world = World(point("a"), point("b"))
        world.now = 10 * SILENT_S
        world.load("b", 0.1)
        assert world.order() == "b"

    def test_a_draining_node_is_not_even_if_there_is_no_other(self) -> None:
        world = World(point("a"))
        world.levels.take(Load("a", 0, 0.0, 0.0, 0.0, draining=True))
        assert world.order() == ""

    def test_if_all_are_silent_it_is_the_reports_that_are_lost(self) -> None:
        world = World(point("a"), point("b"))
        world.now = 10 * SILENT_S
        assert sorted(world.order().split()) == ["a", "b"]

    def test_only_points_for_that_direction_are(self) -> None:
        world = World(point("a"), Point(name="m", addresses=["::1"], ways=["https:443"], roles=["media"]))
        assert [each.name for each in world.listed(role="media")] == ["m"]
        assert world.order() == "a"

    @given(
        st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 1.2)),
        st.dictionaries(st.sampled_from("abcdef"), st.none() | st.floats(1, 1000)),
        st.integers(0, 15),
        st.booleans(),
    )
    def test_whoever_is_not_silent_or_draining_is_there_once(
        self, loads: dict[str, float], speeds: dict[str, float | None], share: int, explore: bool
    ) -> None:
        world = World(
            *(point(name, carrier) for name, carrier in zip("abcdef", ["telecom", "*", "unicom"] * 2, strict=True))
        )
        for name, cpu in loads.items():
            world.load(name, cpu)
        for name, took in speeds.items():
            world.measure(name, took)
        assert sorted(world.order(share=share, explore=explore).split()) == list("abcdef")


class TestExploring:
    def test_some_shares_try_what_is_not_known_each_another_one(self) -> None:
        world = World(point("known"), point("x"), point("y"))
        world.measure("known", 50)
        firsts = Counter(world.order(share=share, explore=True).split()[0] for share in range(SHARES))
        assert firsts == {"known": SHARES - 4, "x": 2, "y": 2}

    def test_in_the_next_draw_it_is_anothers_turn(self) -> None:
        world = World(point("known"), point("x"), point("y"), point("z"))
        for _ in range(3):
            world.measure("known", 50)
        tried = [world.order(share=0, now=NOW + draw * TRIAL_S, explore=True).split()[0] for draw in range(3)]
        assert sorted(tried) == ["x", "y", "z"]

    def test_what_a_share_tries_it_tries_for_the_whole_draw(self) -> None:
        world = World(point("known"), point("x"))
        world.measure("known", 50)
        assert world.order(share=0, explore=True) == "x known"
        world.measure("x", 300)
        assert world.order(share=0, explore=True, now=NOW + TRIAL_S - 1) == "x known"
        assert world.order(share=0, explore=True, now=NOW + TRIAL_S) == "known x"

    def test_what_failed_is_tried_again_when_that_is_long_ago(self) -> None:
        world = World(point("known"), point("failed"))
        world.measure("failed", None)
        world.measure("known", 50)
        assert {world.order(share=share, explore=True) for share in range(SHARES)} == {"known failed"}
        later = NOW + HALF_LIFE_S
        world.measure("known", 50, now=later)
        assert "failed known" in {world.order(share=share, now=later, explore=True) for share in range(SHARES)}

    def test_ones_own_figures_are_wanted_though_others_have_some(self) -> None:
        world = World(point("a"), point("b"))
        world.measure("a", 50, UNICOM)
        world.measure("b", 100, UNICOM)
        world.measure("a", 50)
        assert "b a" in {world.order(share=share, explore=True) for share in range(SHARES)}

    def test_nobody_is_sent_to_a_busy_or_a_foreign_point_for_it(self) -> None:
        world = World(point("known", "telecom"), point("busy", "telecom"), point("foreign", "unicom"))
        world.measure("known", 50)
        world.load("busy", 0.9)
        assert {world.order(share=share, explore=True) for share in range(SHARES)} == {"known busy foreign"}

    def test_at_first_each_point_gets_some_of_the_callers(self) -> None:
        world = World(*(point(name) for name in "abcd"))
        assert {world.order(share=share)[0] for share in range(SHARES)} == set("abcd")

    def test_any_number_of_kinds_takes_a_bounded_room(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ranking, "TRIALS_MOST", 100)
        world = World(point("a"), point("b"))
        for number in range(1000):
            world.order(Origin(f"AS{number}", ""), explore=True)
        assert len(world.ranking._trials) <= 100


@pytest.mark.parametrize(
    ("role", "name", "port", "way", "there"),
    [
        ("down", "a", 443, "tls", True),
        ("media", "a", 443, "tls", False),
        ("down", "b", 443, "tls", False),
        ("down", "a", 80, "tls", False),
        ("down", "a", 443, "tcp", False),
    ],
)
def test_it_knows_which_ways_there_are(role: Direction, name: str, port: int, way: str, there: bool) -> None:
    assert World(point("a")).ranking.knows(role, name, port, way) is there
