"""What is remembered orders the candidates and never leaves one out; the file is whole, whatever happens to it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imcore.errors import ConfigError
from imcore.points import Point
from imcore.ways.candidate import Candidate, Listed
from imcore.ways.learned import Learned
from imcore.ways.memory import CANDIDATES, DELAY_MOST_S, DELAY_S, FORGET_S, Memory
from imcore.ways.race import Act, Race
from imcore.ways.still import USUAL_S, Still


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def to(machine: int, port: int = 80) -> Candidate:
    return Candidate(Point("tcp", f"10.0.0.{machine}", port))


candidates = st.builds(to, st.integers(1, 3), st.integers(1, 3))
happenings = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["failed", "took", "won"]), candidates),
        st.tuples(st.just("sleep"), st.sampled_from([-1000.0, 0.5, 3.0, 40.0, 400.0])),
        st.tuples(st.just("network"), st.sampled_from("abc")),
    ),
    max_size=40,
)


@given(happenings, st.lists(candidates, min_size=1, unique=True))
def test_whatever_happened_every_candidate_is_tried(happened: list[tuple[str, object]], known: list[Candidate]) -> None:
    clock = Clock()
    memory = Memory(clock=clock)
    for what, with_what in happened:
        if isinstance(with_what, Candidate):
            if what == "failed":
                memory.failed(with_what)
            elif what == "took":
                memory.took(with_what, 0.1)
            else:
                memory.won("down", with_what)
        elif isinstance(with_what, float):
            clock.now += with_what
        else:
            memory.network(str(with_what))
    entries = memory.entries("down", [Listed(candidate) for candidate in known])
    assert {entry.candidate for entry in entries} == set(known)
    assert all(0 <= entry.wait_s <= DELAY_MOST_S for entry in entries)
    race = Race(0.0)
    race.join(entries)
    assert race.step(0.0)[0].act is Act.KNOCK, "somebody is tried at once"


def test_failures_are_delays_that_grow_and_are_forgotten() -> None:
    clock = Clock()
    memory = Memory(clock=clock)
    waits = []
    for _ in range(7):
        memory.failed(to(1))
        waits.append(memory.wait_s(to(1)))
        clock.now += waits[-1]
        assert memory.wait_s(to(1)) < 0.001
    assert waits[0] == DELAY_S
    assert waits == sorted(waits)
    assert waits[-1] == DELAY_MOST_S
    clock.now += FORGET_S
    memory.failed(to(1))
    assert memory.wait_s(to(1)) == DELAY_S


def test_being_verified_takes_a_failure_back() -> None:
    memory = Memory()
    memory.failed(to(1))
    memory.took(to(1), 0.2)
    assert memory.wait_s(to(1)) == 0.0
    assert memory.cost_s(to(1)) == 0.2


def test_the_winner_is_the_favourite_on_its_own_network_and_for_its_own_direction() -> None:
    memory = Memory()
    memory.network("home")
    memory.won("down", to(2))
    listed = [Listed(to(1)), Listed(to(2))]

    def favourites() -> list[Candidate]:
        return [entry.candidate for entry in memory.entries("down", listed) if entry.favourite]

    assert favourites() == [to(2)]
    assert not any(entry.favourite for entry in memory.entries("up", listed))
    assert memory.network("office")
    assert favourites() == []
    memory.network("home")
    assert not memory.network("home")
    assert favourites() == [to(2)]


def test_the_port_that_won_here_is_tried_first_at_every_machine() -> None:
    memory = Memory()
    memory.won("down", to(9, port=443))
    listed = [Listed(to(1, port), turn=turn) for turn, port in enumerate([80, 443])]
    first = min(memory.entries("down", listed), key=lambda entry: entry.turn)
    assert first.candidate == to(1, port=443)


def test_limits_are_kept_for_each_network() -> None:
    memory = Memory()
    memory.network("home")
    memory.keep("http://a:80", Learned(mode="poll"))
    memory.network("office")
    assert memory.recall("http://a:80") is None
    memory.network("home")
    assert memory.recall("http://a:80") == Learned(mode="poll")


def test_of_what_is_learned_on_a_network_the_latest_is_kept() -> None:
    memory = Memory()
    for number in range(CANDIDATES * 2):
        memory.keep(f"http://10.0.0.1:{number}", Learned(mode="poll"))
        memory.keep_still(f"http://proxy:{number}", Still(60.0))
        memory.keep("http://a:80", Learned(body=1024 + number))
    assert memory.recall("http://a:80") == Learned(body=1024 + number)
    kept = [memory.recall(f"http://10.0.0.1:{number}") is not None for number in range(CANDIDATES * 2)]
    assert kept == [number > CANDIDATES for number in range(CANDIDATES * 2)]
    assert [memory.still(f"http://proxy:{number}").holds_s for number in (0, number)] == [USUAL_S, 60.0]


class TestTheFile:
    def test_has_everything_in_the_next_life(self, tmp_path: Path) -> None:
        clock = Clock()
        path = tmp_path / "ways.json"

        async def first() -> None:
            memory = Memory(path, clock)
            memory.network("home")
            memory.won("up", to(1))
            memory.took(to(1), 0.25)
            memory.failed(to(2))
            memory.keep("way", Learned(body=1024))
            memory.listed("up", [Listed(to(3), "gw-3", 2, 1)])
            await memory.save()

        asyncio.run(first())
        memory = Memory(path, clock)
        memory.network("home")
        assert memory.winner("up") == to(1)
        assert memory.cost_s(to(1)) == 0.25
        assert memory.wait_s(to(2)) == DELAY_S
        assert memory.recall("way") == Learned(body=1024)
        assert memory.points("up") == [Listed(to(1)), Listed(to(3), "gw-3", 2, 1)]

    def test_is_not_written_when_nothing_is_new(self, tmp_path: Path) -> None:
        memory = Memory(tmp_path / "ways.json")
        asyncio.run(memory.save())
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        "damage",
        [
            b"",
            b"{",
            b"[]",
            b'{"version": 9}',
            b'{"places": [{"network": 5}]}',
            b'{"points": {"down": [{"candidate": {"point": {"scheme": "tcp", "host": "10.0.0.1", "port": 65536}}}]}}',
            b'{"x": ' + b"[" * 100_000,
            b"\xff\xfe",
        ],
    )
    def test_that_is_damaged_is_begun_anew_and_put_aside(self, tmp_path: Path, damage: bytes) -> None:
        path = tmp_path / "ways.json"
        path.write_bytes(damage)
        memory = Memory(path)
        assert (tmp_path / "ways.json.damaged").read_bytes() == damage
        assert not memory.points("down")
        memory.won("down", to(1))
        asyncio.run(memory.save())
        assert Memory(path).winner("down") == to(1)

    def test_keeps_its_old_bytes_when_the_new_ones_do_not_get_there(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tmp_path / "ways.json"
        memory = Memory(path)
        memory.won("down", to(1))
        asyncio.run(memory.save())

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        memory.won("down", to(2))
        asyncio.run(memory.save())
        assert "No space left" in caplog.text
        assert Memory(path).winner("down") == to(1)
        assert [file.name for file in tmp_path.iterdir()] == ["ways.json"]

    def test_in_a_folder_that_is_not_there_is_a_mistake_of_the_caller(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="memory"):
            Memory(tmp_path / "nowhere" / "ways.json")
