"""Too much to do: those who are on it come first. New links are refused for a while, inbox messages are never lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from imcore.gateway import pulse
from imcore.gateway.limits import Limits
from tests.gateway.running import run, running, until
from tests.gateway.wire import ERROR, MSG, WELCOME, Wire, hello


def test_beyond_its_links_a_node_refuses_new_ones_with_a_time_to_come_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, limits=Limits(links=2, drain_s=0.1)) as here:
            async with Wire(here.address) as one, Wire(here.address) as two, Wire(here.address) as three:
                await one.greet("alice")
                await two.greet("bob")
                three.say(hello("carol"))
                answer = await three.hear()
                assert (answer.type, answer.map["code"]) == (ERROR, "overloaded")
                assert 1000 <= answer.map["retry_ms"] <= 5000
                await here.service.push("bob", "chat", b"still")
                assert (await two.hear()).body == b"still"
            await until(lambda: here.gateway.users == 0)
            async with Wire(here.address) as three:
                await three.greet("carol")

    run(main())


def test_a_node_that_is_late_with_its_work_takes_no_new_links_and_serves_those_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "BEAT_S", 3600)  # it says what the test says

    async def main() -> None:
        async with running(tmp_path) as here, Wire(here.address) as bob:
            await bob.greet("bob")
            here.gateway._pulse.late_s = 1.5
            async with Wire(here.address) as late:
                late.say(hello("carol"))
                answer = await late.hear()
                assert (answer.type, answer.map["code"]) == (ERROR, "overloaded")
                assert "1.5 s late" in answer.map["text"]
                assert answer.map["retry_ms"]
            await here.service.push("bob", "chat", b"still")
            assert (await bob.hear()).type == MSG
            here.gateway._pulse.late_s = 0.0
            async with Wire(here.address) as late:
                late.say(hello("carol"))
                assert (await late.hear()).type == WELCOME

    run(main())
