"""The demo's processes: one that does not start is told of once, with the reason."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from imcore.cli.split import Split
from imcore.cli.terminal import Failed


def test_a_process_that_does_not_start_while_messages_flow_is_one_reason(tmp_path: Path) -> None:
    async def does_not_start() -> None:
        raise Failed("service did not start: no port is free")

    split = Split(tmp_path, users=2, messages=0, seconds=0, away_s=0, tell=print)
    with pytest.raises(Failed, match="service did not start"):
        asyncio.run(split._through("the service was killed and started", does_not_start))
