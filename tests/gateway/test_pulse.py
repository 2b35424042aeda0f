"""A node tells how it does: while it lives, truly, and at once when it is about to stop."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from imcore.bus.embedded.loads import LocalLoads
from imcore.bus.ports import Load
from imcore.gateway import pulse
from imcore.gateway.pulse import Pulse
from tests.gateway.running import run, running, until
from tests.gateway.wire import Wire


def test_a_gateway_reports_its_links_and_that_it_drains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "REPORT_S", 0.2)

    async def main() -> None:
        async with running(tmp_path) as node:
            told: list[Load] = []
            node.bus.loads.watch(told.append)
            async with Wire(node.address) as wire:
                await wire.greet()
                await until(lambda: told and told[-1].links)
                assert (told[-1].node, told[-1].links, told[-1].draining) == ("test", 1, False)
                assert 0 < told[-1].memory < 1
        assert told[-1].draining

    run(main())


def test_it_tells_what_the_process_used_of_a_core_and_how_late_the_loop_was() -> None:
    async def main() -> None:
        told: list[Load] = []
        loads = LocalLoads()
        loads.watch(told.append)
        heart = Pulse(loads, "n", lambda: 7)
        beating = asyncio.create_task(heart.beat())
        await asyncio.sleep(pulse.BEAT_S)
        until_s = time.process_time() + 0.3
        while time.process_time() < until_s:  # the loop stands still, and the core is busy
            pass
        await asyncio.sleep(2 * pulse.BEAT_S)
        heart.report()
        beating.cancel()
        assert told[-1].links == 7
        assert told[-1].cpu > 0.1
        assert told[-1].lag_ms > 150
        heart.report()
        assert told[-1].lag_ms == 0  # since the last one

    run(main())


def test_a_node_that_stopped_is_silent(tmp_path: Path) -> None:
    async def main() -> None:
        told: list[Load] = []
        async with running(tmp_path) as node:
            node.bus.loads.watch(told.append)
        before = len(told)
        await asyncio.sleep(3 * pulse.BEAT_S)
        assert len(told) == before

    run(main())
