"""Handlers: in order for a device, at once for different ones, again when they failed, and put aside in the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from imcore.bus.embedded import EmbeddedBus
from imcore.bus.ports import Uplink
from imcore.errors import ConfigError, EncodeError
from imcore.service import Service
from tests.bus.engines import Link, Taker, run, until, uplink


@asynccontextmanager
async def serving(
    place: Path, *register: Callable[[Service], None], **options: Any
) -> AsyncIterator[tuple[EmbeddedBus, Service]]:
    """A bus and its service, with handlers."""
    bus = EmbeddedBus(place)
    await bus.start()
    service = Service(bus, **options)
    for each in register:
        each(service)
    await service.start()
    try:
        yield bus, service
    finally:
        await service.close()
        await bus.close()


def test_messages_of_a_device_are_handled_in_order_and_one_at_a_time(tmp_path: Path) -> None:
    handled: list[int] = []
    running = 0

    def register(service: Service) -> None:
        @service.on("chat")
        async def chat(message: Uplink) -> None:
            nonlocal running
            running += 1
            assert running == 1
            await asyncio.sleep(0.001 * (message.id % 3))
            handled.append(message.id)
            running -= 1

    async def main() -> None:
        async with serving(tmp_path, register) as (bus, _):
            for id in range(1, 41):
                bus.queue.put(uplink(id), Link())
            await until(lambda: len(handled) == 40)
            assert handled == list(range(1, 41))
            await until(lambda: not bus.queue.unsettled)

    run(main())


def test_different_devices_are_handled_at_once_up_to_the_bound(tmp_path: Path) -> None:
    running = peak = done = 0

    def register(service: Service) -> None:
        @service.on("chat")
        async def chat(message: Uplink) -> None:
            nonlocal running, peak, done
            running += 1
            peak = max(peak, running)
            await asyncio.sleep(0.01)
            running -= 1
            done += 1

    async def main() -> None:
        async with serving(tmp_path, register, parallel=5) as (bus, service):
            for n in range(20):
                bus.queue.put(uplink(1, user=f"user{n}"), Link())
            await until(lambda: done == 20)
            assert peak == 5
            lanes = service._lanes
            assert lanes is not None
            await until(lambda: not lanes.running)
            assert not len(lanes)  # nothing stays behind for a device that is idle

    run(main())


def test_handlers_that_never_wait_let_the_loop_go_round(tmp_path: Path) -> None:
    turns = handled = 0

    def register(service: Service) -> None:
        @service.on("chat")
        async def chat(message: Uplink) -> None:
            nonlocal handled
            handled += 1

    async def main() -> None:
        nonlocal turns
        async with serving(tmp_path, register) as (bus, _):
            await bus.inbox.open("alice", "phone", None, "oldest")
            for id in range(1, 1001):
                bus.queue.put(uplink(id), Link())
            while handled < 1000:
                await asyncio.sleep(0)
                turns += bool(handled)
            assert turns >= 1000 / 64

    run(main())


def test_a_handler_that_raises_runs_again_and_what_follows_waits(tmp_path: Path) -> None:
    handled: list[int] = []
    tries = 0

    def register(service: Service) -> None:
        @service.on("chat")
        async def chat(message: Uplink) -> None:
            nonlocal tries
            if message.id == 2:
                tries += 1
                if tries == 1:
                    raise ValueError("not yet")
                if tries == 2:
                    raise asyncio.CancelledError  # as from something that it waited for
            handled.append(message.id)

    async def main() -> None:
        async with serving(tmp_path, register, retry_s=0.01) as (bus, _):
            for id in (1, 2, 3):
                bus.queue.put(uplink(id), Link())
            bus.queue.put(uplink(9, user="bob"), Link())
            await until(lambda: len(handled) == 4)
            assert [id for id in handled if id != 9] == [1, 2, 3]
            assert handled.index(9) < 2  # others did not wait
            assert bus.counters["settled"] == 4

    run(main())


def test_a_message_whose_handler_keeps_failing_is_put_aside_with_its_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[tuple[int, float]] = []

    def register(service: Service) -> None:
        @service.on("chat")
        async def chat(message: Uplink) -> None:
            tried.append((message.id, asyncio.get_running_loop().time()))
            if message.id == 1:
                raise ValueError("never")

    async def main() -> None:
        async with serving(tmp_path, register, retry_s=0.01, max_tries=4) as (bus, _):
            bus.queue.put(uplink(1), Link())
            bus.queue.put(uplink(2), Link())
            await until(lambda: len(tried) == 5)
            assert [id for id, _ in tried] == [1, 1, 1, 1, 2]
            waits = [after - before for (_, before), (_, after) in pairwise(tried[:4])]
            assert all(wait >= 0.0095 * 2**n for n, wait in enumerate(waits)), waits
            await until(lambda: bus.counters["settled"] == 1)
            assert bus.counters["dead"] == 1
        async with serving(tmp_path, register) as (bus, _):
            core = bus._core
            assert core is not None
            rows = await core.reader.ask(lambda c: c.execute("SELECT error FROM dead").fetchall())
            assert rows == [("ValueError: never",)]
            assert not bus.queue.unsettled

    with caplog.at_level(logging.WARNING, "imcore.service"):
        run(main())
    assert "failed 4 times" in caplog.text
    assert "Traceback" in caplog.text


def test_a_handler_that_runs_again_pushes_once(tmp_path: Path) -> None:
    tries = 0

    def register(service: Service) -> None:
        @service.on("chat")
        async def chat(message: Uplink) -> None:
            nonlocal tries
            tries += 1
            assert await service.push("bob", "chat", b"hello", key=message.key) == 1
            if tries < 3:
                raise RuntimeError("after the push")

    async def main() -> None:
        async with serving(tmp_path, register, retry_s=0.001) as (bus, _):
            bus.queue.put(uplink(1), Link())
            await until(lambda: bus.counters["settled"] == 1)
            assert tries == 3
            assert [m.body for m in await bus.inbox.read("bob", 0, 9, 999)] == [b"hello"]

    run(main())


def test_close_waits_for_handlers_and_what_it_cuts_off_comes_again(tmp_path: Path) -> None:
    events: list[str] = []

    def register(service: Service) -> None:
        @service.on("chat")
        async def chat(message: Uplink) -> None:
            try:
                await asyncio.sleep(0.05 if message.user == "quick" else 30)
            except asyncio.CancelledError:
                events.append(f"{message.user} cut off")
                raise
            events.append(f"{message.user} done")

    async def main() -> None:
        async with serving(tmp_path, register, grace_s=0.2) as (bus, service):
            bus.queue.put(uplink(1, user="quick"), Link())
            bus.queue.put(uplink(1, user="slow"), Link())
            bus.queue.put(uplink(2, user="slow"), Link())
            lanes = service._lanes
            assert lanes is not None
            await until(lambda: lanes.running == 2)
        assert events == ["quick done", "slow cut off"]
        bus = EmbeddedBus(tmp_path)
        await bus.start()
        assert [(m.user, m.id) for m in Taker().attach(bus).messages] == [("slow", 1), ("slow", 2)]
        await bus.close()

    run(main())


def test_a_broadcast_goes_to_the_nodes(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as (bus, service):
            taker = Taker()
            bus.push.attach("n", taker.wakes.extend, lambda room, body: taker.rooms.append((room, body)))
            await service.broadcast("hall", b"hello")
            assert taker.rooms == [("hall", b"hello")]

    run(main())


def test_a_route_has_one_handler_and_handlers_come_before_start(tmp_path: Path) -> None:
    async def handler(message: Uplink) -> None:
        """Do nothing."""

    async def main() -> None:
        async with serving(tmp_path) as (_, service):
            with pytest.raises(ConfigError, match="runs already"):
                service.on("mail")
        service = Service(EmbeddedBus(tmp_path))
        service.on("chat")(handler)
        with pytest.raises(ConfigError, match="has a handler already"):
            service.on("chat")
        with pytest.raises(ConfigError, match="at most 255 bytes"):
            service.on("x" * 256)

    run(main())


def test_a_push_that_no_frame_could_carry_says_what_was_expected(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, max_frame=1000) as (bus, service):
            wrong: list[tuple[Any, Any, str]] = [
                ("text", None, "expects a body of bytes, got str"),
                (b"x", 7, "expects a key of str or None, got int"),
                (b"x" * 997, None, "at most 1000 bytes with its body, got 4 and 1001"),
            ]
            for body, key, text in wrong:
                with pytest.raises(EncodeError, match=text):
                    await service.push("bob", "chat", body, key=key)
            with pytest.raises(EncodeError, match="a route of at most 255 bytes"):
                await service.push("bob", "é" * 128, b"x")
            assert await service.push("bob", "chat", b"x" * 996) == 1
            assert bus.counters["appended"] == 1

    run(main())
