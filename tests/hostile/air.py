"""The air between a phone and its network: packets pass from one tun device to another, late, lost, or not at all.

A program, so that its work delays nobody else's: `python -m tests.hostile.air`, told by lines of JSON on standard input
what the air is like from now on (`Air`). It looks at packets only to tell flows apart, for what freezes them.
"""

from __future__ import annotations

import fcntl
import heapq
import itertools
import json
import os
import random
import select
import struct
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

from .namespaces import Host, inside

__all__ = ["Air", "Link", "tun"]

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 1, 0x1000
MTU = 1500
MOST_WAITING = 1000
"""Packets that wait in each direction; more are dropped, as a modem does."""


@dataclass
class Air:
    """What it is like. Both directions are alike, but for what freezes, and where one is deaf."""

    delay_ms: float = 0
    """One way."""
    jitter_ms: float = 0
    loss: float = 0
    """Share of the packets, each way, 0 to 1."""
    rate: float = 0
    """Bytes a second each way; 0 = without limit."""
    dead: bool = False
    """Nothing passes, and nobody is told."""
    deaf: bool = False
    """What goes up passes, and what comes down does not."""
    freeze_after: int = -1
    """A TCP flow passes no more, either way, once so many bytes of payload have come down; -1 = never."""
    freeze_but: int = 0
    """To this port they pass on all the same, 0 = to none."""
    freeze_old: int = 0
    """Raised: flows that there are pass no more."""


def tun(host: Host, name: str) -> int:
    """A tun device in the host: what is sent over it is read from the descriptor, and the other way round."""
    with inside(host):
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return descriptor


class Link:
    """A radio between two hosts. address: of the phone, and of its network, as `10.1.0.2/24`."""

    def __init__(self, phone: Host, network: Host, name: str, addresses: tuple[str, str]) -> None:
        ends = tun(phone, name), tun(network, name)
        try:
            for host, address in zip((phone, network), addresses, strict=True):
                host.ip("addr", "add", address, "dev", name)
                host.ip("link", "set", name, "up", "mtu", str(MTU))
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.hostile.air", *map(str, ends)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=ends,
                start_new_session=True,
            )  # fmt: skip
        finally:
            for end in ends:
                os.close(end)
        self._air = Air()

    def change(self, **air: Any) -> None:
        """From now on it is like this, in so far as it is named."""
        self._air = Air(**{**asdict(self._air), **air})
        self._tell("air")

    def carried(self) -> tuple[int, int]:
        """Bytes of IP packets that have gone up, and down."""
        self._tell("carried")
        assert self._process.stdout is not None
        up, down = self._process.stdout.readline().split()
        return int(up), int(down)

    def close(self) -> None:
        """No more of it."""
        Host.end(self._process)

    def _tell(self, what: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({what: asdict(self._air)}) + "\n")
        self._process.stdin.flush()


class _Way:
    """One direction: a queue in front of a narrow place, then a delay."""

    def __init__(self, source: int, target: int) -> None:
        self.source, self.target = source, target
        self.free_at = 0.0
        self.waiting = 0
        self.carried = 0
        self.last_at = 0.0


class _Relay:
    def __init__(self, phone: int, network: int, orders: int) -> None:
        self.up, self.down = _Way(phone, network), _Way(network, phone)
        self._orders = orders
        self._heard = b""
        self._air = Air()
        self._due: list[tuple[float, int, _Way, bytes]] = []
        self._numbers = itertools.count()
        self._flows: dict[bytes, int] = {}
        self._frozen: set[bytes] = set()
        self._dice = random.Random(1)

    def run(self) -> None:
        """Until there are no more orders."""
        ways = {self.up.source: self.up, self.down.source: self.down}
        poll = select.poll()
        for descriptor in (*ways, self._orders):
            poll.register(descriptor, select.POLLIN)
        while True:
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                self._deliver(*heapq.heappop(self._due)[2:])
            wait = None if not self._due else max(0.0, (self._due[0][0] - now) * 1000)
            for descriptor, _ in poll.poll(wait):
                way = ways.get(descriptor)
                if way is not None:
                    self._take(way)
                elif not (heard := os.read(descriptor, 65536)):
                    return
                else:
                    *lines, self._heard = (self._heard + heard).split(b"\n")
                    for line in lines:
                        self._obey(json.loads(line))

    def _obey(self, order: dict[str, Any]) -> None:
        if "carried" in order:
            print(self.up.carried, self.down.carried, flush=True)
            return
        air = Air(**order["air"])
        if air.freeze_old != self._air.freeze_old:
            self._frozen.update(self._flows)
        self._air = air

    def _take(self, way: _Way) -> None:
        for _ in range(64):
            try:
                packet = os.read(way.source, MTU + 64)
            except BlockingIOError:
                return
            now, air = time.monotonic(), self._air
            way.carried += len(packet)
            deaf = air.deaf and way is self.down
            if (
                air.dead
                or deaf
                or way.waiting >= MOST_WAITING
                or self._dice.random() < air.loss
                or self._freezes(way, packet)
            ):
                continue
            if air.rate:
                way.free_at = max(now, way.free_at) + len(packet) / air.rate
            else:
                way.free_at = now
            at = way.free_at + (air.delay_ms + self._dice.random() * air.jitter_ms) / 1000
            way.last_at = at = max(at, way.last_at)  # late, but in order
            way.waiting += 1
            heapq.heappush(self._due, (at, next(self._numbers), way, packet))

    def _deliver(self, way: _Way, packet: bytes) -> None:
        way.waiting -= 1
        if not self._air.dead:
            try:
                os.write(way.target, packet)
            except OSError:  # the device is down
                return

    def _freezes(self, way: _Way, packet: bytes) -> bool:
        """Whether the packet is of a TCP flow that passes no more."""
        if packet[0] >> 4 != 4 or packet[9] != 6:
            return False
        at = (packet[0] & 15) * 4
        ends = packet[12:16] + packet[at : at + 2], packet[16:20] + packet[at + 2 : at + 4]
        flow = b"".join(ends if way is self.up else reversed(ends))
        if way is self.down:
            payload = len(packet) - at - (packet[at + 12] >> 4) * 4
            self._flows[flow] = self._flows.get(flow, 0) + payload
        else:
            self._flows.setdefault(flow, 0)
        if 0 <= self._air.freeze_after < self._flows[flow] and int.from_bytes(flow[10:12]) != self._air.freeze_but:
            self._frozen.add(flow)
        return flow in self._frozen


if __name__ == "__main__":
    _Relay(int(sys.argv[1]), int(sys.argv[2]), sys.stdin.fileno()).run()
