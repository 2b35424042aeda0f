"""A client that was built with one address learns the points from the service, and tells it what it measured."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest

from imcore import Client
from imcore.access.ranking import Ranking
from imcore.gateway import identity
from tests.access.running import serving
from tests.gateway.running import run, until

SETTINGS = """
[node]
name = "gw-1"
roles = ["downlink", "uplink", "service", "access"]
[[listen]]
address = "127.0.0.1:0"
[[listen]]
address = "127.0.0.2:0"
[limits]
drain_s = 0.2
"""


def test_a_client_asks_for_the_list_races_and_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ranking, "_explore", lambda *_: None)
    key = base64.b64encode(identity.kept(tmp_path).public_key().public_bytes_raw()).decode()

    async def main() -> None:
        async with serving(tmp_path, SETTINGS) as here, asyncio.timeout(40):
            address = f"http://{here.node.addresses[0]}"
            async with Client([address], "alice", "phone", keys=[key], access=[address]) as im:
                await im.join("somewhere")
                counters = here.node.access.counters
                await until(lambda: counters["lists"] > 0 and counters["reports"] > 0, 20)
            assert len(here.node.access.figures) > 0

    run(main())
