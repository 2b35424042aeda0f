"""What a chaos run happens to: node and devices as processes, the network between them, and the promise about it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from imcore.bus.books import Books
from imcore.bus.embedded.audit import audit
from imcore.bus.redis.audit import audit as audit_redis
from tests.redis_server import RedisCluster, RedisServer

from .model import Broken, Counts, Promise
from .relay import Relay

__all__ = ["DEVICES", "World"]

DEVICES = {"alice": ["alice/phone", "alice/desk"], "bob": ["bob/phone"], "carol": ["carol/phone"]}
TUNNEL = {"alice/desk", "carol/phone"}
"""Those that go through the HTTP tunnel; the others' frames have a connection to themselves."""
START_S = 30.0
CALM_S = 0.5
"""How long nothing comes when it is quiet."""
REPOSITORY = Path(__file__).parents[2]


class Program:
    """A process that is told things line by line, and says things line by line."""

    def __init__(self, module: str, *words: str, heard: Callable[[str], None], env: dict[str, str]) -> None:
        self._ready = threading.Event()
        self._said = ""
        self._heard = heard
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"tests.chaos.{module}", *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, env=os.environ | env,
        )  # fmt: skip
        self._thread = threading.Thread(target=self._hear, daemon=True)
        self._thread.start()

    def ready(self) -> str:
        """Wait until it has said so; what it said with it."""
        if not self._ready.wait(START_S):
            raise TimeoutError(f"it was not ready within {START_S:g} s")
        return self._said

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def tell(self, **order: Any) -> None:
        """One line; to who is dead it says nothing."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError, ValueError):
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()

    def kill(self) -> None:
        """SIGKILL; what it had said until then has been heard when this returns."""
        self._process.kill()
        self._end()

    def wait(self) -> int:
        """Until it has ended by itself."""
        code = self._process.wait(START_S)
        self._end()
        return code

    def _end(self) -> None:
        self._process.wait(START_S)
        self._thread.join(START_S)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()

    def _hear(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("READY"):
                self._said = line.removeprefix("READY").strip()
                self._ready.set()
            elif line.endswith("\n"):  # what a kill cut in two was not said
                self._heard(line.rstrip())
        self._ready.set()


class World:
    """mutation: how the node breaks the promise on purpose, "" = not at all. still_s: how long nothing may come while
    something is missing. engine: on which the node runs."""

    def __init__(self, mutation: str, still_s: float, engine: str = "embedded") -> None:
        self.promise = Promise(DEVICES)
        self.counts = Counts()
        self._folder = Path(tempfile.mkdtemp(prefix="imcore-chaos-"))
        self._mutation = mutation
        self._still_s = still_s
        self._number = 0
        self._lock = threading.Lock()
        self._moved = threading.Event()
        self._lines = 0
        self._gaps: list[str] = []
        self._began = time.monotonic()
        self.story: list[str] = []
        """What happened, for whom it may concern."""
        self.still = False
        """Redis does not answer."""
        self.relay = Relay()
        self._programs: dict[str, Program] = {}
        # What Redis has answered must not be lost when it is killed, or clients would be told of a gap.
        self._redis = RedisServer(sync="always") if engine == "redis" else None
        self._cluster = RedisCluster(replica=True, sync="always") if engine == "redis-cluster" else None
        self._url = store.url if (store := self._redis or self._cluster) is not None else ""
        self._node = self._serve()
        for names in DEVICES.values():
            for name in names:
                self._programs[name] = self._device(name)
        for program in self._programs.values():
            program.ready()
        self._wait(lambda: self._cursors() == sum(map(len, DEVICES.values())), "every device to be known")

    # What happens.

    def send(self, sender: str, to: str) -> None:
        """A device sends the next number."""
        self._number += 1
        program = self._programs[sender]
        if program.alive:
            self._note_that(f"{sender} sends {self._number} to {to}")
            self.promise.sends(sender, self._number, to)
            program.tell(send=self._number, to=to)

    def cut(self) -> None:
        """Every connection breaks now."""
        self._note_that("every connection is cut")
        self.counts.cuts += self.relay.cut()

    def cut_after(self, size: int) -> None:
        """The connection breaks over which so many more bytes have gone."""
        self.counts.cuts += 1
        self._note_that(f"a connection will be cut after {size} bytes")
        self.relay.cut_after(size)

    def network(self, on: bool) -> None:
        """Nobody gets through, or everybody does again."""
        self._note_that(f"the network {'is back' if on else 'goes'}")
        self.relay.open = on
        if not on:
            self.cut()

    def kill_node(self) -> None:
        """Gateway, service and engine die together, and come again."""
        self.counts.kills += 1
        self._note_that("the node is killed")
        self._node.kill()
        if self.still:  # without it a node can't start
            self.stop_store(False)
        self._node = self._serve()

    def kill_store(self) -> None:
        """Redis dies, and comes again with what was on its disk."""
        assert self._redis is not None
        self.counts.kills += 1
        self._note_that("Redis is killed")
        self._redis.kill()
        self._redis.start()

    def stop_store(self, on: bool) -> None:
        """Redis does not answer, or does again."""
        assert self._redis is not None
        self._note_that(f"Redis {'stands still' if on else 'goes on'}")
        self._redis.stop(on)
        self.still = on

    def fail_over(self) -> None:
        """A replica takes over from its master, in good order: else what it had not got would be lost."""
        assert self._cluster is not None
        self.counts.failovers += 1
        self._note_that("a replica takes over")
        self._cluster.fail_over()

    def revive(self) -> None:
        """Start the node again if its own handler took it down."""
        if not self._node.alive:
            self.kill_node()

    def kill_device(self, name: str) -> None:
        """An application dies and is started again, with the files that it left."""
        self.counts.kills += 1
        self._note_that(f"{name} is killed")
        self._programs[name].kill()
        with self._lock:
            self.promise.killed(name)
        self._programs[name] = self._device(name)
        self._programs[name].ready()

    def reading(self, name: str, on: bool) -> None:
        """An application takes no messages, or takes them again."""
        self._note_that(f"{name} {'reads' if on else 'stops reading'}")
        self._programs[name].tell(read=on)

    def clock(self, off_s: float) -> None:
        """The node's wall clock is wrong."""
        self._note_that(f"the clock is off by {off_s:g} s")
        self._node.tell(clock=off_s)

    def handler(self, how: str, count: int) -> None:
        """The node's business misbehaves."""
        self._note_that(f"the handler will {how}, {count} times")
        self._node.tell(handler=how, count=count)

    # What came of it.

    def settle(self) -> Counts:
        """Mend everything, wait until it is quiet, and look. Raises `Broken`."""
        self._note_that("everything is mended")
        if self.still:
            self.stop_store(False)
        self.relay.mend()
        for name, program in self._programs.items():
            if not program.alive:
                raise Broken(f"{name} has ended by itself")
            program.tell(read=True)
        late = ""
        try:
            self._wait(self._quiet, "everything to arrive")
        except TimeoutError as error:
            late = f"{error}; "
        with self._lock:
            counts = self.promise.verdict()
            missing = [*self._gaps, *self.promise.waiting(), *self.promise.missing()]
        counts.cuts, counts.kills, counts.failovers = self.counts.cuts, self.counts.kills, self.counts.failovers
        self.counts = counts
        if missing or counts.doubled or counts.reordered:
            raise Broken(
                f"lost {counts.lost}, doubled {counts.doubled}, reordered {counts.reordered}; "
                f"{late}{'; '.join(missing[:5])}"
            )
        books = self._books()
        if books.faults:
            raise Broken(f"the books do not add up: {'; '.join(books.faults)}")
        return counts

    def close(self) -> None:
        """Nothing is left of it."""
        for program in (self._node, *self._programs.values()):
            program.kill()
        self.relay.close()
        for store in (self._redis, self._cluster):
            if store is not None:
                store.close()
        shutil.rmtree(self._folder)

    def _books(self) -> Books:
        if self._url:
            return audit_redis(self._url, "imcore")
        return audit(self._folder / "data")

    def _quiet(self) -> bool:
        """Nothing is missing, and nothing comes any more: what comes twice would come now."""
        self.revive()
        before = self._lines
        if self.promise.waiting() or self.promise.missing():
            return False
        time.sleep(CALM_S)
        with self._lock:
            return self._lines == before and not self.promise.missing()

    def _cursors(self) -> int:
        with suppress(Exception):
            return self._books().devices
        return 0

    def _serve(self) -> Program:
        data = str(self._folder / "data")
        env = {"CHAOS_MUTATION": self._mutation, "CHAOS_REDIS": self._url}
        node = Program("node", data, heard=lambda line: None, env=env)
        self.relay.target = int(node.ready() or "0")
        return node

    def _device(self, name: str) -> Program:
        user, _, device = name.partition("/")
        point = f"{'http://' if name in TUNNEL else ''}127.0.0.1:{self.relay.port}"
        words = (point, user, device, str(self._folder))
        return Program("device", *words, heard=lambda line: self._note(name, line), env={})

    def _note(self, name: str, line: str) -> None:
        what, *words = line.split()
        with self._lock:
            self._lines += 1
            if what == "G":
                self._gaps.append(f"{name} was told of a gap: {' '.join(words)}")
            elif what == "H":
                self.promise.hears(name, words[0], int(words[1]))
            elif what in ("C", "R"):
                self.promise.told(name, int(words[0]), "confirmed" if what == "C" else "refused")
            self._moved.set()

    def _note_that(self, what: str) -> None:
        self.story.append(f"{time.monotonic() - self._began:7.3f}  {what}")

    def _wait(self, holds: Callable[[], bool], what: str) -> None:
        lines, since = self._lines, time.monotonic()
        while not holds():
            if self._lines != lines:
                lines, since = self._lines, time.monotonic()
            if time.monotonic() > since + self._still_s:
                raise TimeoutError(f"waited for {what}, and for {self._still_s:g} s nothing came any more")
            self._moved.wait(0.1)
            self._moved.clear()
