"""What happens to a phone that talks: links freeze, networks change, machines die, portals open; some of it heals."""

from __future__ import annotations

import signal
import time

from .network import GATEWAYS, PHONE
from .phone import Phone
from .world import World

__all__ = [
    "answers_lost", "asleep", "awake", "back", "drains", "frozen", "hole", "killed", "leaves", "moved", "opens", "out",
]  # fmt: skip


def opens(world: World, phone: Phone) -> None:
    """What stood in the way lets everybody pass from now on: the portal, or the proxy and its filter."""
    world.carrier.iptables("-t nat -F PREROUTING")
    world.carrier.iptables("-F FORWARD")


def frozen(world: World, phone: Phone) -> None:
    """Connections that there are pass no more."""
    world.air["wifi"].change(freeze_old=1)


def answers_lost(world: World, phone: Phone) -> None:
    """What the phone says arrives for a second, and nothing that is said to it; then its connections pass no more."""
    world.air["wifi"].change(deaf=True)
    time.sleep(1.0)
    world.air["wifi"].change(deaf=False, freeze_old=1)


def moved(world: World, phone: Phone) -> None:
    """From Wi-Fi to mobile: another route, and nothing comes to the old address, which stays."""
    world.be_on("mobile")


def leaves(world: World, phone: Phone) -> None:
    """The same, and the old address is gone."""
    world.be_on("mobile")
    world.phone.ip("addr", "del", f"{PHONE['wifi']}/24", "dev", "wifi")


def asleep(world: World, phone: Phone) -> None:
    """The phone sleeps. Its process stands still while the clock goes on, as CLOCK_BOOTTIME does in a sleep."""
    phone.signal(signal.SIGSTOP)


def awake(world: World, phone: Phone) -> None:
    """And wakes."""
    phone.signal(signal.SIGCONT)


def out(world: World, phone: Phone) -> None:
    """No way at all, as in a lift."""
    world.air["wifi"].change(dead=True)


def back(world: World, phone: Phone) -> None:
    """And out of it."""
    world.air["wifi"].change(dead=False)


def killed(world: World, phone: Phone) -> None:
    """The gateway that the phone is at dies. If it is the only one, it comes again at once."""
    at = _at(world, phone)
    world.kill(at)
    if len(world.gateways) == 1:
        world.serve(at)


def drains(world: World, phone: Phone) -> None:
    """The gateway that the phone is at is told to go, and sends everybody away. The only one comes again."""
    at = _at(world, phone)
    world.drain(at)
    if len(world.gateways) == 1:
        time.sleep(3.0)
        world.kill(at)
        world.serve(at)


def hole(world: World, phone: Phone) -> None:
    """Nothing comes to the gateway that the phone is at any more, and nobody is told."""
    world.carrier.iptables(f"-I FORWARD -d {GATEWAYS[_at(world, phone)]} -j DROP")


def _at(world: World, phone: Phone) -> int:
    """The number of the machine that the phone is at."""
    return int(phone.at.removeprefix("gateway")) - 1 if len(world.gateways) > 1 else 0
