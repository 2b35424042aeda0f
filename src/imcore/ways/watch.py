"""Notices at once that this device is on another network, or that it slept. It polls nothing and sends nothing.

On Linux the kernel says so: of addresses and routes over rtnetlink(7), which anybody may listen to; of a sleep by a
timer that is cancelled when the clock is set, as it is on waking (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET). Where it
can't be asked, nothing is noticed here: the program that has it from its system says so (`Client.network_changed`).
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from .network import current

__all__ = ["Watch", "leaves_from", "never", "stranded"]

SETTLE_S = 0.1
"""A change comes in several parts, of which the last counts: addresses, then routes. Seconds."""
SLEPT_S = 1.0
"""By how much the clock that counts sleep must be ahead."""

_GROUPS = 0x10 | 0x40 | 0x100 | 0x400  # RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, and the same of IPv6: linux/rtnetlink.h
_CANCEL_ON_SET = 1 << 0 | 1 << 1  # TFD_TIMER_ABSTIME, TFD_TIMER_CANCEL_ON_SET: linux/timerfd.h
_LONG = struct.calcsize("l")
_ABROAD = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}  # for documentation: nothing is sent there


class Watch:
    """`with Watch(moved, woke):` within a loop. moved: called when the network is another one. woke: after a sleep."""

    def __init__(self, moved: Callable[[], None], woke: Callable[[], None]) -> None:
        self._moved = moved
        self._woke = woke
        self._loop = asyncio.get_running_loop()
        self._where = _where()
        self._asleep_s = _asleep_s()
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            if sys.platform == "linux":
                for begin in (self._listen, self._hang_on_the_clock):
                    try:
                        begin(stack)
                    except OSError:
                        continue  # the system does not let us, as in some containers
                    except AttributeError:
                        continue  # this C library or Python has no such call
                    except NotImplementedError:
                        continue  # this loop waits for no descriptors
            stack.callback(self._rest)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def look(self) -> None:
        """Compare with what was before, now."""
        self._rest()
        asleep_s, before_s = _asleep_s(), self._asleep_s
        self._asleep_s = asleep_s
        if asleep_s > before_s + SLEPT_S:
            self._woke()
        where, before = _where(), self._where
        self._where = where
        if where != before:
            self._moved()

    def _listen(self, stack: ExitStack) -> None:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        stack.callback(sock.close)
        sock.bind((0, _GROUPS))
        self._read(stack, sock.fileno())

    def _hang_on_the_clock(self, stack: ExitStack) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = libc.timerfd_create(time.CLOCK_REALTIME, os.O_NONBLOCK | os.O_CLOEXEC)
        if descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        stack.callback(os.close, descriptor)
        if libc.timerfd_settime(descriptor, _CANCEL_ON_SET, never(_LONG), None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")
        self._read(stack, descriptor)

    def _read(self, stack: ExitStack, descriptor: int) -> None:
        self._loop.add_reader(descriptor, self._told, descriptor)
        stack.callback(self._loop.remove_reader, descriptor)

    def _told(self, descriptor: int) -> None:
        """Something has changed: what, it is better to see for oneself."""
        try:
            while os.read(descriptor, 65536):
                pass
        except OSError:  # nothing more; or too much at once, or a clock that was set
            pass
        if self._timer is None:
            self._timer = self._loop.call_later(SETTLE_S, self.look)

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def never(size: int) -> bytes:
    """A time that a timer does not come to (struct itimerspec), where the C library's long has so many bytes."""
    seconds = min(1 << 40, (1 << 8 * size - 1) - 1)  # since 1970
    return b"".join(number.to_bytes(size, sys.byteorder) for number in (0, 0, seconds, 0))


def leaves_from(family: int, address: str) -> str:
    """The address of this device that packets to `address` would leave from now; "" = no network leads there."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((address, 9))
            return str(sock.getsockname()[0])
    except OSError:
        return ""


def stranded(descriptor: int) -> bool:
    """This connection's own address is not the one by which its other side is reached now."""
    if descriptor < 0:
        return False
    try:
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            own, other = sock.getsockname(), sock.getpeername()
            return leaves_from(sock.family, other[0]) not in ("", own[0])
    except OSError:
        return False


def _where() -> tuple[object, ...]:
    return current(), *(leaves_from(family, address) for family, address in _ABROAD.items())


def _asleep_s() -> float:
    """How long this machine has slept since it was started, seconds, where it counts that."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return 0.0 if boot is None else time.clock_gettime(boot) - time.clock_gettime(time.CLOCK_MONOTONIC)
