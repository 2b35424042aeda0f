"""The rules of a chaos run: what may happen, in any order; hypothesis chooses."""

from __future__ import annotations

import time

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from .model import Broken, Counts
from .world import DEVICES, World

__all__ = ["ChaosMachine"]

names = st.sampled_from([name for devices in DEVICES.values() for name in devices])
users = st.sampled_from(list(DEVICES))


class ChaosMachine(RuleBasedStateMachine):
    """Connects, sends, cuts, kills, slow readers, clock jumps; at the end of each run the promise is looked at."""

    mutation = ""
    engine = "embedded"
    still_s = 15.0
    """How long nothing may come, once nothing is broken any more, while something is missing."""
    counts = Counts()
    """Of all runs."""
    broken: list[str]
    """What was not kept, and the story of that run; empty = all is well. Not raised: hypothesis would run it again,
    which takes long and, with real processes, rarely comes out the same."""

    def __init__(self) -> None:
        super().__init__()
        self._world: World | None = None
        self.down = False

    @property
    def world(self) -> World:
        """Made when something happens: hypothesis begins with a run of no steps."""
        if self._world is None:
            self._world = World(self.mutation, self.still_s, self.engine)
        return self._world

    @rule(sender=names, to=users, count=st.integers(1, 12))
    def send(self, sender: str, to: str, count: int) -> None:
        for _ in range(count):
            self.world.send(sender, to)

    @rule(count=st.integers(1, 5))
    def everybody_sends(self, count: int) -> None:
        for devices in DEVICES.values():
            for sender in devices:
                for _ in range(count):
                    for to in DEVICES:
                        self.world.send(sender, to)

    @rule(ms=st.integers(1, 150))
    def time_passes(self, ms: int) -> None:
        time.sleep(ms / 1000)
        self.world.revive()

    @rule()
    def cut(self) -> None:
        self.world.cut()

    @rule(size=st.integers(0, 600))
    def cut_at_a_byte(self, size: int) -> None:
        self.world.cut_after(size)

    @rule()
    @precondition(lambda self: not self.down)
    def network_goes(self) -> None:
        self.down = True
        self.world.network(False)

    @rule()
    @precondition(lambda self: self.down)
    def network_comes(self) -> None:
        self.down = False
        self.world.network(True)

    @rule()
    def kill_the_node(self) -> None:
        self.world.kill_node()

    @rule()
    @precondition(lambda self: self.engine == "redis" and not self.world.still)
    def kill_the_store(self) -> None:
        self.world.kill_store()

    @rule()
    @precondition(lambda self: self.engine == "redis" and not self.world.still)
    def store_stands_still(self) -> None:
        self.world.stop_store(True)

    @rule()
    @precondition(lambda self: self.engine == "redis" and self.world.still)
    def store_goes_on(self) -> None:
        self.world.stop_store(False)

    @rule()
    @precondition(lambda self: self.engine == "redis-cluster")
    def a_replica_takes_over(self) -> None:
        self.world.fail_over()

    @rule(name=names)
    def kill_an_application(self, name: str) -> None:
        self.world.kill_device(name)

    @rule(name=names, on=st.booleans())
    def reading(self, name: str, on: bool) -> None:
        self.world.reading(name, on)

    @rule(off_s=st.sampled_from([0.0, 3600.0, -3600.0, 86_400.0 * 400, -86_400.0 * 400]))
    def clock_jumps(self, off_s: float) -> None:
        self.world.clock(off_s)

    @rule(how=st.sampled_from(["raise", "slow", "die"]), count=st.integers(1, 3))
    def handler_fails(self, how: str, count: int) -> None:
        self.world.handler(how, 1 if how == "die" else count)

    def teardown(self) -> None:
        if self._world is not None:
            try:
                self._world.clock(0.0)
                self.counts.add(self._world.settle())
            except Broken as error:
                self.broken += [*self._world.story, f"BROKEN: {error}"]
                self.counts.add(self._world.counts)
            finally:
                self._world.close()
