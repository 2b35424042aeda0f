"""Lists learn: each carrier's converges to its own fastest points, whatever a minority says, and follows the load."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from imcore.access.ranking import Ranking
from tests.access.picture import BUSY, draw, played
from tests.access.running import SETTINGS, Running, report, serving, token
from tests.access.world import CARRIERS, World
from tests.gateway.running import run


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("liars", [0.0, 0.1])
def test_each_carriers_list_converges_to_its_own_fastest_point(seed: int, liars: float) -> None:
    world = World(liars=liars, seed=seed)
    world.run(240)
    for end in range(240, 480, 10):
        world.run(end)
        assert [world.first(carrier) for carrier in CARRIERS] == [world.best(carrier) for carrier in CARRIERS]
    late = [(carrier, point) for at, carrier, point in world.winners if at > 240]
    at_best = sum(point == world.best(carrier) for carrier, point in late)
    assert at_best > 0.8 * len(late)  # the rest try out what nobody knows


def test_a_point_that_is_loaded_falls_back_recovers_and_returns() -> None:
    world = World(busy_from=300, busy_to=400)
    best, next_best = world.best("telecom"), world.best("telecom", 1)
    others = [world.best(carrier) for carrier in CARRIERS[1:]]
    world.run(300)
    assert world.first("telecom") == best
    for end in range(305, 400, 5):  # two reports take it back
        world.run(end)
        assert world.first("telecom") != best
        assert [world.first(carrier) for carrier in CARRIERS[1:]] == others
    assert world.first("telecom") == next_best
    won = {point for at, carrier, point in world.winners if 310 < at < 400 and carrier == "telecom"}
    assert best not in won  # nobody is sent there, not even to try
    world.run(412)  # five reports bring it back
    assert world.first("telecom") == best


def test_one_in_ten_does_not_move_the_order() -> None:
    def orders(liars: float) -> list[list[str]]:
        world = World(liars=liars, seed=3)
        world.run(300)
        return [[world.first(carrier)] for carrier in CARRIERS]

    assert orders(0.1) == orders(0.0)


def test_a_majority_would() -> None:
    world = World(liars=0.9)
    world.run(300)
    assert world.first("telecom") != world.best("telecom")


def test_the_picture_in_the_documents_is_of_this_world() -> None:
    assert (Path(__file__).parents[2] / "docs" / "access.svg").read_text() == draw(played(), *BUSY)


def test_the_same_over_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice of it, over real sockets: 120 devices of each of two carriers, one in twelve a liar."""
    monkeypatch.setattr(Ranking, "_explore", lambda *_: None)
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))  # it decides who draws which share
    (tmp_path / "node.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    names = {"telecom": ("t", "10.1.0"), "unicom": ("u", "10.2.0")}
    points = "".join(
        f'[[access.points]]\nname = "{letter}-{n}"\ncarrier = "{carrier}"\nways = ["tls:443"]\naddresses = ["::{n}"]\n'
        for carrier, (letter, _) in names.items()
        for n in (1, 2, 3)
    )
    fastest = {"telecom": "t-2", "unicom": "u-3"}
    settings = SETTINGS.partition("[[access.points]]")[0] + points

    async def main() -> None:
        async with serving(tmp_path, settings) as here:
            devices = [(carrier, number) for carrier in names for number in range(120)]
            heads = await asyncio.gather(*(head(here, *device) for device in devices))
            assert set(heads) == {f"{letter}-{n}" for letter in "tu" for n in (1, 2, 3)}
            await asyncio.gather(*(tell(here, *device, first) for device, first in zip(devices, heads, strict=True)))
            await asyncio.sleep(1)  # a list is made anew each second
            for carrier in names:
                assert {await head(here, carrier, number) for number in range(120, 140)} == {fastest[carrier]}

    async def head(here: Running, carrier: str, number: int) -> str:
        listed = await here.points(f"{names[carrier][1]}.{number}")
        assert listed.carrier == carrier
        return listed.points[0].name

    async def tell(here: Running, carrier: str, number: int, first: str) -> None:
        took = 40 if first == fastest[carrier] else 80
        lie = None if first == fastest[carrier] else 2
        by = f"{names[carrier][1]}.{number}"
        said = report(first, took if number % 12 else lie)
        assert (await here.post(said, by, Authorization=token(by)))[0] == 204

    run(main())
