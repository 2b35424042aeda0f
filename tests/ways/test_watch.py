"""Another network, or a sleep, is noticed when it is looked at; and it is looked at when the kernel says so."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from contextlib import ExitStack

import pytest

from imcore.ways import watch
from imcore.ways.watch import Watch, leaves_from, never, stranded
from tests.gateway.running import until


class Here:
    """A machine that moves and sleeps as a test wants."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.where: tuple[object, ...] = ("home",)
        self.asleep_s = 5.0
        self.told: list[str] = []
        monkeypatch.setattr(watch, "_where", lambda: self.where)
        monkeypatch.setattr(watch, "_asleep_s", lambda: self.asleep_s)

    def watch(self) -> Watch:
        return Watch(lambda: self.told.append("moved"), lambda: self.told.append("woke"))


def test_each_change_is_told_once_and_a_sleep_before_another_network(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        here = Here(monkeypatch)
        with here.watch() as one:
            one.look()
            assert here.told == []
            here.where = ("away",)
            one.look()
            one.look()
            assert here.told == ["moved"]
            here.where, here.asleep_s = ("home",), 905.0
            one.look()
            assert here.told == ["moved", "woke", "moved"]
            here.asleep_s += 0.01  # the two clocks are not read at once
            one.look()
            assert len(here.told) == 3

    asyncio.run(main())


def test_what_the_kernel_says_is_looked_at_once_for_all_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        here = Here(monkeypatch)
        monkeypatch.setattr(watch, "SETTLE_S", 0.5)  # a busy machine is slow with what the kernel says at once
        left, right = socket.socketpair()
        with left, right, here.watch() as one:
            left.setblocking(False)
            asyncio.get_running_loop().add_reader(left, one._told, left.fileno())
            here.where = ("away",)
            looks = 0
            look = one.look

            def counted() -> None:
                nonlocal looks
                looks += 1
                look()

            monkeypatch.setattr(one, "look", counted)
            for _ in range(5):
                right.send(b"an address, a route")
                await asyncio.sleep(0.01)
            await until(lambda: here.told, 10)
            asyncio.get_running_loop().remove_reader(left)
            assert here.told == ["moved"]
            assert looks == 1

    asyncio.run(main())


def test_nothing_is_told_when_it_is_over_and_where_the_kernel_can_t_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError

    async def main() -> None:
        here = Here(monkeypatch)
        with monkeypatch.context() as patch:
            patch.setattr(Watch, "_listen", forbidden)
            patch.setattr(Watch, "_hang_on_the_clock", forbidden)
            with here.watch() as one:
                one._told(-1)
        here.where = ("away",)
        await asyncio.sleep(0.2)
        assert here.told == []

    asyncio.run(main())


def test_the_clock_is_hung_on_by_a_time_that_the_c_library_can_hold() -> None:
    assert struct.unpack("=4i", never(4)) == (0, 0, 2**31 - 1, 0), "where a long has four bytes"
    assert struct.unpack("=4q", never(8)) == (0, 0, 2**40, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="a Linux kernel tells of its clock")
def test_the_kernel_takes_it() -> None:
    async def main() -> None:
        with ExitStack() as stack:
            Watch(lambda: None, lambda: None)._hang_on_the_clock(stack)

    asyncio.run(main())


def test_a_connection_is_stranded_when_packets_to_its_other_side_leave_from_another_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        for own, expected in (("127.0.0.1", False), ("127.0.0.77", True)):
            with socket.create_connection(server.getsockname(), source_address=(own, 0)) as there:
                assert stranded(there.fileno()) is expected
    assert stranded(-1) is False
    with socket.socket() as unconnected:
        assert stranded(unconnected.fileno()) is False
    assert leaves_from(socket.AF_INET, "127.0.0.1") == "127.0.0.1"
