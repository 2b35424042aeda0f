"""A client's files: up and down, through breaks and the death of the process, checked at both ends."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from math import inf
from pathlib import Path

import msgspec
import pytest
import uvloop

from imcore import Client, MediaDamaged, Node, Reference, Refused, Unknown
from imcore.cli.relay import Relay
from imcore.client import State, media_way
from imcore.client.connection import Connection
from imcore.client.media_down import missing, with_piece
from imcore.client.media_up import PART_LEAST, parts_for
from imcore.config import Config, Listen, Media
from imcore.errors import ConfigError, WayError
from imcore.gateway import identity
from imcore.ways.ways import Ways
from tests.client.slow import Slow

BIG = os.urandom(PART_LEAST * 3 + 12_345)
SMALL = os.urandom(100_000)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is overloaded: who was cut off may come back at once."""
    monkeypatch.setattr("imcore.client.backoff.FIRST_S", 0.02)


@asynccontextmanager
async def serving(folder: Path, media: Media | None = None) -> AsyncIterator[Node]:
    config = Config(media=media or Media())
    config = msgspec.structs.replace(config, limits=msgspec.structs.replace(config.limits, drain_s=0.1, spread_s=0.1))
    async with Node(config, listen=["127.0.0.1:0"], data=folder / "node") as node:
        yield node


def client(node: Node, user: str = "alice", device: str = "phone", media: list[str] | None = None) -> Client:
    return Client(node.addresses, user, device, media=media)


class TestFiles:
    @pytest.mark.parametrize("own", [False, True], ids=["on the gateway's address", "on its own"])
    def test_what_is_uploaded_is_what_the_other_one_gets(self, tmp_path: Path, own: bool) -> None:
        async def work() -> None:
            (tmp_path / "clip.mp4").write_bytes(SMALL)
            media = Media(listen=[Listen(address="127.0.0.1:0")] if own else [])
            async with serving(tmp_path, media) as node:
                points = node.media_addresses if own else None
                async with client(node, media=points) as alice, client(node, "bob", media=points) as bob:
                    told: list[tuple[int, int]] = []
                    reference = await alice.upload(tmp_path / "clip.mp4", progress=lambda *each: told.append(each))
                    assert (reference.name, reference.type, reference.size) == ("clip.mp4", "video/mp4", len(SMALL))
                    assert told[-1] == (len(SMALL), len(SMALL))
                    told.clear()
                    await bob.download(
                        Reference.decode(reference.encode()), tmp_path / "got", progress=lambda *each: told.append(each)
                    )
                    assert told[-1] == (len(SMALL), len(SMALL))
                    assert (tmp_path / "got").read_bytes() == SMALL
                    assert not [name for name in os.listdir(tmp_path) if name.startswith("got.")]

        uvloop.run(work())

    def test_an_empty_file_is_a_file(self, tmp_path: Path) -> None:
        async def work() -> None:
            (tmp_path / "none").touch()
            async with serving(tmp_path) as node, client(node) as alice:
                await alice.download(await alice.upload(tmp_path / "none"), tmp_path / "got")
                assert (tmp_path / "got").read_bytes() == b""

        uvloop.run(work())

    def test_a_media_node_is_a_process_of_its_own_by_configuration_alone(self, tmp_path: Path) -> None:
        async def work() -> None:
            (tmp_path / "clip").write_bytes(SMALL)
            config = Config(node=msgspec.structs.replace(Config().node, roles=["media"]))
            async with (
                Node(config, listen=["127.0.0.1:0"], data=tmp_path / "media") as media,
                serving(tmp_path) as node,
                client(node, media=media.addresses) as alice,
            ):
                await alice.download(await alice.upload(tmp_path / "clip"), tmp_path / "got")
                assert not (tmp_path / "media" / "imcore.sqlite").exists()
                assert (tmp_path / "got").read_bytes() == SMALL

        uvloop.run(work())

    def test_what_is_not_taken_says_why(self, tmp_path: Path) -> None:
        async def work() -> None:
            (tmp_path / "clip.mp4").write_bytes(SMALL)
            async with serving(tmp_path, Media(max_size=1000, types=["image/*"])) as node, client(node) as alice:
                with pytest.raises(Refused, match="at most 1000"):
                    await alice.upload(tmp_path / "clip.mp4")
                (tmp_path / "clip.mp4").write_bytes(b"x")
                with pytest.raises(Refused, match="video/mp4"):
                    await alice.upload(tmp_path / "clip.mp4")
                with pytest.raises(ConfigError, match="nothing"):
                    await alice.upload(tmp_path / "nothing")
                forged = Reference("0" * 32, "k" * 43, 5, "0" * 64, "image/png", "x.png")
                with pytest.raises(Refused, match="not shared"):
                    await alice.download(forged, tmp_path / "got")

        uvloop.run(work())

    def test_when_the_time_is_up_it_says_what_went_wrong(self, tmp_path: Path) -> None:
        async def work() -> None:
            (tmp_path / "clip").write_bytes(SMALL)
            async with serving(tmp_path) as node, client(node, media=["127.0.0.1:1"]) as alice:
                with pytest.raises(Unknown, match=r"127\.0\.0\.1:1"):
                    await alice.upload(tmp_path / "clip", timeout=0.3)

        uvloop.run(work())

    def test_a_dead_point_costs_a_moment(self, tmp_path: Path) -> None:
        async def work() -> None:
            (tmp_path / "clip").write_bytes(SMALL)
            async with serving(tmp_path) as node, client(node, media=["127.0.0.1:1", *node.addresses]) as alice:
                assert (await alice.upload(tmp_path / "clip", timeout=20)).size == len(SMALL)

        uvloop.run(work())

    def test_with_keys_a_token_goes_only_to_who_has_proven_himself(self, tmp_path: Path) -> None:
        async def work() -> None:
            (tmp_path / "clip").write_bytes(SMALL)
            media = Media(listen=[Listen(address="127.0.0.1:0")])
            async with serving(tmp_path, media) as node, serving(tmp_path / "stranger", media) as stranger:
                said: list[str] = []

                def token() -> str:
                    said.append("alice")
                    return "alice"

                def device(*points: str) -> Client:
                    keys = [base64.b64encode(identity.kept(tmp_path / "node").public_key().public_bytes_raw()).decode()]
                    return Client(node.addresses, token, "phone", keys=keys, media=points)

                async with device(*stranger.media_addresses, *node.media_addresses) as alice:
                    await alice.upload(tmp_path / "clip", timeout=20)
                async with device(*stranger.media_addresses) as alice:
                    await until(lambda: alice.state is State.OPEN)
                    said.clear()
                    with pytest.raises(Unknown, match="somebody else"):
                        await alice.upload(tmp_path / "clip", timeout=1)
                    assert not said
                assert not os.listdir(tmp_path / "stranger" / "node" / "media" / "uploads")

        uvloop.run(work())

    def test_in_the_middle_of_a_file_a_token_goes_to_no_stranger_on_the_next_network(self, tmp_path: Path) -> None:
        async def work() -> None:
            media = Media(listen=[Listen(address="127.0.0.1:0")])
            async with (
                serving(tmp_path, media) as node,
                serving(tmp_path / "stranger", media) as stranger,
                Relay() as there,
            ):
                there.target = node.media_addresses[0]
                here, said = "home", 0

                def token() -> str:
                    nonlocal said
                    said += 1
                    return "alice"

                keys = [base64.b64encode(identity.kept(tmp_path / "node").public_key().public_bytes_raw()).decode()]
                ways = Ways.known([there.point], [], keys, None, "phone", None, network=lambda: here)
                way = media_way.Way(ways, token)
                async with way.open():
                    async with way.request("HEAD", f"{media_way.BASE}/uploads/none", fine=(404,)):
                        assert said == 1
                    here, there.target = "hotel", stranger.media_addresses[0]
                    there.cut()
                    with pytest.raises(WayError, match="somebody else"):
                        async with way.request("HEAD", f"{media_way.BASE}/uploads/none", fine=(404,)):
                            pass
                    assert said == 1

        uvloop.run(work())

    def test_what_was_damaged_on_its_way_is_not_kept(self, tmp_path: Path) -> None:
        async def work() -> None:
            (tmp_path / "clip").write_bytes(SMALL)
            async with serving(tmp_path) as node, client(node) as alice:
                reference = await alice.upload(tmp_path / "clip")
                other = msgspec.structs.replace(reference, sha256="0" * 64)
                with pytest.raises(MediaDamaged):
                    await alice.download(other, tmp_path / "got")
                assert not [name for name in os.listdir(tmp_path) if name.startswith("got")]

        uvloop.run(work())


class TestBreaks:
    @pytest.mark.parametrize("far", [False, True], ids=["one connection", "parts at once"])
    def test_it_goes_on_where_it_was_when_connections_are_cut(
        self, tmp_path: Path, far: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each connection is cut after some megabytes, in either direction."""
        if far:
            monkeypatch.setattr("imcore.client.media_up.FAR_S", 0.0)

        async def work() -> None:
            (tmp_path / "clip").write_bytes(BIG)
            async with (
                serving(tmp_path) as node,
                Slow(node.addresses[0], cut_after=3_000_000) as slow,
                client(node, media=[slow.address]) as alice,
            ):
                reference = await alice.upload(tmp_path / "clip")
                assert slow.cuts
                slow.cuts = 0
                await alice.download(reference, tmp_path / "got")
                assert slow.cuts
                assert (tmp_path / "got").read_bytes() == BIG
                assert slow.passed < 4 * len(BIG)

        uvloop.run(work())

    def test_parts_are_used_where_the_round_trip_is_long(self) -> None:
        assert parts_for(100 * PART_LEAST, 0.001) == 1
        assert parts_for(100 * PART_LEAST, 0.2) == 4
        assert parts_for(2 * PART_LEAST, 0.2) == 2
        assert parts_for(0, 0.2) == 1

    @pytest.mark.parametrize("way", ["up", "down"])
    def test_the_next_process_goes_on_where_a_killed_one_was(self, tmp_path: Path, way: str) -> None:
        async def work() -> None:
            (tmp_path / "clip").write_bytes(BIG)
            async with serving(tmp_path) as node, client(node) as alice:
                target = tmp_path / "got"
                reference = None if way == "up" else await alice.upload(tmp_path / "clip")
                async with Slow(node.addresses[0], rate=8_000_000) as slow:
                    code = UP if way == "up" else DOWN
                    arguments = [slow.address, str(tmp_path), "" if reference is None else reference.encode().decode()]
                    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, *arguments)
                    await until(lambda: slow.passed > 6_000_000)
                    process.send_signal(signal.SIGKILL)
                    await process.wait()
                async with Slow(node.addresses[0]) as slow, client(node, "alice", "desk", [slow.address]) as again:
                    if reference is None:
                        reference = await again.upload(tmp_path / "clip", state=tmp_path / "state")
                        assert not (tmp_path / "state").exists()
                    else:
                        assert target.with_name("got.part").exists()
                        await again.download(reference, target)
                    assert slow.passed < len(BIG) - 3_000_000
                await alice.download(reference, target)
                assert target.read_bytes() == BIG

        uvloop.run(work())

    def test_an_upload_that_the_service_forgot_begins_anew(self, tmp_path: Path) -> None:
        async def work() -> None:
            (tmp_path / "clip").write_bytes(SMALL)
            state = tmp_path / "state"
            async with serving(tmp_path) as node, client(node) as alice:
                reference = await alice.upload(tmp_path / "clip")
                path = f"{media_way.BASE}/uploads/{'0' * 32}"
                state.write_bytes(
                    msgspec.json.encode({"size": len(SMALL), "sha256": reference.sha256, "parts": [[path, len(SMALL)]]})
                )
                again = await alice.upload(tmp_path / "clip", state=state)
                assert again.id != reference.id
                assert again.sha256 == reference.sha256

        uvloop.run(work())


class TestGivingWay:
    def test_messages_are_timed_while_a_file_moves_and_it_slows_down_when_they_take_long(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("imcore.client.media.EVERY_S", 0.01)
        real = Connection.round_trip
        trips: list[float] = []
        rates: list[float] = []

        async def round_trip(connection: Connection) -> float | None:
            took = await real(connection)
            if took is None:
                return None
            trips.append(took)
            return took + 0.1 * len(rates)  # a queue that builds up

        monkeypatch.setattr(Connection, "round_trip", round_trip)

        async def work() -> None:
            (tmp_path / "clip").write_bytes(BIG)
            async with (
                serving(tmp_path) as node,
                Slow(node.addresses[0], rate=20_000_000) as slow,
                client(node, media=[slow.address]) as alice,
            ):
                await until(lambda: alice.state is State.OPEN)

                def progress(over: int, size: int) -> None:
                    assert alice._media.yielding is not None
                    rates.append(alice._media.yielding.rate)

                await alice.upload(tmp_path / "clip", progress=progress, timeout=50)
            assert all(0 < took < 10 for took in trips)
            assert rates[0] == inf
            assert min(rates) < inf

        uvloop.run(work())


class TestPieces:
    def test_what_is_missing_is_what_is_not_done(self) -> None:
        done: list[tuple[int, int]] = []
        for start, stop in ((5, 8), (0, 2), (8, 9), (1, 3), (4, 4)):
            done = with_piece(done, start, stop)
        assert done == [(0, 3), (5, 9)]
        assert missing(done, 12) == [(3, 5), (9, 12)]
        assert missing([], 3) == [(0, 3)]
        assert missing([(0, 3)], 3) == []
        assert missing([], 0) == []


UP = """
import asyncio, sys, imcore
async def main():
    async with imcore.Client([sys.argv[1]], "alice", "laptop") as im:
        await im.upload(sys.argv[2] + "/clip", state=sys.argv[2] + "/state")
asyncio.run(main())
"""
DOWN = """
import asyncio, sys, imcore
async def main():
    async with imcore.Client([sys.argv[1]], "alice", "laptop") as im:
        await im.download(imcore.Reference.decode(sys.argv[3]), sys.argv[2] + "/got")
asyncio.run(main())
"""


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - whatever brings it about tells nobody
            await asyncio.sleep(0.01)
