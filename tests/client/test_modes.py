"""A device changes between one link and two while connections are cut and processes die: one order, nothing lost."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from imcore.client import Client, backoff
from imcore.client.connection import Channels
from imcore.errors import Unknown
from tests.client.peer import HonestGateway, device, kill, peer, run, until


class Life(NamedTuple):
    """One process of the device."""

    channels: Channels
    sends: int
    doomed: int
    """Which of its links is cut, from 1 on,"""
    said: int | None
    """after so many bytes of what the gateway says on it,"""
    heard: int | None
    """or of what it hears."""
    killed: bool
    """It dies as soon as one of its messages is confirmed; else it waits for all."""


CALM = [Life(channels, 1, 1, None, None, False) for channels in ("single", "split")]

behind_hello = st.none() | st.integers(80, 200)
behind_welcome = st.none() | st.integers(120, 260)
lives = st.builds(
    Life,
    st.sampled_from(["single", "split"]),
    st.integers(2, 5),
    st.integers(1, 2),
    behind_welcome,
    behind_hello,
    st.booleans(),
)


class Device:
    """What its lives share."""

    def __init__(self, folder: str) -> None:
        self.files = {name: Path(folder) / name for name in ("outbox", "state")}
        self.gateway = HonestGateway()
        self.given = 0
        self.confirmed: list[bytes] = []
        self.got: list[bytes] = []

    async def send(self, im: Client) -> None:
        body = b"%d" % self.given
        self.given += 1
        await im.send("r", body)
        self.confirmed.append(body)

    async def hear(self, im: Client) -> None:
        async for message in im:
            assert message.gap is None
            self.got.append(message.body)

    async def live(self, life: Life) -> None:
        gateway = self.gateway
        gateway.doomed, gateway.most_said, gateway.most_heard = gateway.links + life.doomed, life.said, life.heard
        gateway.inbox.append(b"to %d" % len(gateway.inbox))
        async with peer(gateway) as address:
            im = await device(address, channels=life.channels, **self.files).__aenter__()
            hearing = asyncio.create_task(self.hear(im))
            sending = [asyncio.create_task(self.send(im)) for _ in range(life.sends)]
            if life.killed:
                await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)
                await kill(im)
            else:
                await asyncio.gather(*sending)
                await until(lambda: len(self.got) == len(gateway.inbox) and not im.unconfirmed)
                await im.__aexit__(None, None, None)
            heard, *sent = await asyncio.gather(hearing, *sending, return_exceptions=True)
            assert heard is None
            assert all(end is None or (life.killed and isinstance(end, Unknown)) for end in sent)


@settings(max_examples=15, deadline=None)
@given(st.lists(lives, min_size=1, max_size=4), st.sampled_from(CALM))
def test_order_holds_and_nothing_is_lost_or_doubled_across_links_modes_and_deaths(
    story: list[Life], last: Life
) -> None:
    async def work(one: Device) -> None:
        async with asyncio.timeout(20):
            for life in [*story, last]:
                await one.live(life)

    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.multiple(backoff, FIRST_S=0.001, MOST_S=0.001),
    ):
        one = Device(folder)
        run(work(one))
    accepted = [int(body) for body in one.gateway.rule.log]
    assert accepted == sorted(set(accepted))
    assert set(one.confirmed) <= set(one.gateway.rule.log)
    assert one.got == one.gateway.inbox
