"""What a client finds out about a network that forgets who is still, beside a link that goes on undisturbed."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import pytest

from imcore.client import Client, State, heartbeat, spare
from imcore.gateway.limits import Limits
from imcore.ways import probe
from imcore.ways.candidate import Candidate
from imcore.ways.memory import Memory
from imcore.ways.network import current
from imcore.ways.still import CLOSE, Still
from tests.client.peer import run
from tests.gateway.running import running, until
from tests.ways.places import listening


@asynccontextmanager
async def forgetful(to: str, limit_s: float, *, guests_s: float | None = None) -> AsyncIterator[str]:
    """An address of the gateway at `to`, behind a NAT: a connection that was still for so long passes nothing more,
    either way, and nobody is told. guests_s: whoever is not the first is closed after so long."""
    host, port = to.rsplit(":", 1)
    earlier = itertools.count()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        now = asyncio.get_running_loop().time
        last = now()

        async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            nonlocal last
            with closing(target), suppress(OSError):
                while data := await source.read(65536):
                    if now() - last >= limit_s:
                        await asyncio.sleep(3600)
                    last = now()
                    target.write(data)

        async with asyncio.timeout(guests_s if next(earlier) else None):
            there, back = await asyncio.open_connection(host, int(port))
            async with asyncio.TaskGroup() as group:
                group.create_task(pump(reader, back))
                group.create_task(pump(there, writer))

    async with listening(talk, "127.0.0.1", 0) as own:
        yield f"127.0.0.1:{own}"


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spare, "SETTLE_S", 0.05)
    monkeypatch.setattr(probe, "LATE_S", 0.4)
    monkeypatch.setattr(heartbeat, "PATIENCE_S", 0.6)


def test_the_limit_is_found_on_spare_connections_and_the_link_is_not_disturbed(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path, limits=Limits(heartbeat=(1, 2), drain_s=0.2)) as here,
            forgetful(here.address, 1.6) as address,
        ):
            memory = Memory(tmp_path / "ways.json")
            memory.network(str(current()))
            memory.keep_still("", Still(1.0, 1.9, time.time() + 60))  # 1.38 s are tried, then 1.62
            said: list[State] = []
            async with Client(
                [address], "alice", "phone", memory=memory, on_state=lambda state, _: said.append(state)
            ) as im:
                await until(lambda: memory.still("").settled(2.0), 20)
                assert im.still_s < 1.6 <= im.still_s * CLOSE
                assert said == [State.CONNECTING, State.OPEN], "one link all the time"
            assert Memory(tmp_path / "ways.json").still("") == Still(), "of another network nothing is known"

    run(main())


def test_a_link_that_dies_in_a_silence_is_followed_by_one_with_more_signs_of_life(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path, limits=Limits(heartbeat=(1, 2), drain_s=0.2)) as here,
            forgetful(here.address, 1.8) as address,
        ):
            said: list[State] = []
            async with Client([address], "alice", "phone", on_state=lambda state, _: said.append(state)) as im:
                await until(lambda: said.count(State.OPEN) == 2, 20)
                assert im.still_s < 1.8
                lived = said.copy()
                await asyncio.sleep(2.2)  # longer than the network remembers
                assert said == lived

    run(main())


@pytest.mark.parametrize(("guests_s", "known"), [(0.05, Still(1.0)), (1.2, Still(1.0, 1.2))])
def test_a_spare_connection_that_somebody_closes_tells_nothing_of_less_than_what_is_known_to_hold(
    tmp_path: Path, guests_s: float, known: Still
) -> None:
    async def main() -> None:
        async with (
            running(tmp_path, limits=Limits(heartbeat=(1, 2), drain_s=0.2)) as here,
            forgetful(here.address, 60.0, guests_s=guests_s) as address,
        ):
            memory = Memory()
            memory.network(str(current()))
            memory.keep_still("", Still(1.0))
            async with Client([address], "alice", "phone", memory=memory) as im:
                came: list[bool | None] = []
                still = im._connection.spare._still

                async def heard(way: Candidate, seconds: float) -> tuple[bool | None, float]:
                    answer = await still(way, seconds)
                    came.append(answer[0])
                    return answer

                im._connection.spare._still = heard
                await until(lambda: came, 20)
                assert came == [False]
                await asyncio.sleep(0.3)
                now = memory.still("")
                assert now.holds_s == known.holds_s
                assert now.breaks_s == pytest.approx(known.breaks_s, abs=0.3)

    run(main())


def test_a_gateway_that_knows_no_silence_is_not_asked_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imcore.proof.STILL_PATH", "/im/other")
    monkeypatch.setattr(probe, "STILL_PATH", "/im/other")

    async def main() -> None:
        async with running(tmp_path) as here:
            memory = Memory()
            async with Client([here.address], "alice", "phone", memory=memory) as im:
                asked: list[float] = []
                still = im._connection.spare._still

                async def count(way: Candidate, seconds: float) -> tuple[bool | None, float]:
                    asked.append(seconds)
                    return await still(way, seconds)

                im._connection.spare._still = count
                await until(lambda: asked, 20)
                await asyncio.sleep(0.3)
                assert len(asked) == 1
                assert memory.still("") == Still()

    run(main())
