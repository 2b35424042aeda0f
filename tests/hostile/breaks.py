"""What happens to a phone that talks: links freeze, networks change, machines die, portals open; some of it heals."""

from __future__ import annotations

import signal

from .phone import Phone
from .world import World

__all__ = ["asleep", "awake", "back", "frozen", "killed", "moved", "opens", "out"]


def opens(world: World, phone: Phone) -> None:
    """The portal lets everybody pass from now on."""
    world.carrier.iptables("-t nat -F PREROUTING")


def killed(world: World, phone: Phone) -> None:
    """The gateway dies and comes again."""
    world.kill()
    world.serve()


def frozen(world: World, phone: Phone) -> None:
    """Connections that there are pass no more."""
    world.air["wifi"].change(freeze_old=1)


def moved(world: World, phone: Phone) -> None:
    """From Wi-Fi to mobile: another address, and nothing comes to the old one."""
    world.be_on("mobile")


def asleep(world: World, phone: Phone) -> None:
    """The phone sleeps, and the NAT forgets it meanwhile."""
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
