"""One server on its core, one load on the other, and what both say: a sample.

The server's processor time is taken where the load says `begin` and `end`, so that neither start nor hellos count.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..peers.base import Mode, Peer
from .figures import Sample
from .machine import cores, cpu_seconds, foreign_seconds, free_port, waited_seconds
from .programs import REPOSITORY, WORK, program

__all__ = [
    "Failed",
    "Load",
    "Server",
    "blob",
    "interleaved",
    "lasting",
    "number",
    "sample",
    "shared",
    "string",
    "talk",
    "undisturbed",
    "wireload",
]

DISTURBED = 0.1
"""What other programs may take away, in cores, before a run is made again."""
START_S = 60.0
LOAD_S = 180.0


class Failed(Exception):
    """A run gave no sample; the text says why."""


def number(value: int) -> bytes:
    """For a generator: 32 bits in the machine's order."""
    return struct.pack("=I", value)


def string(value: bytes) -> bytes:
    """For a generator: its length, then itself."""
    return number(len(value)) + value


def pinned(core: int) -> Callable[[], None]:
    """For a child before it becomes a program: only this core."""

    def pin() -> None:
        os.sched_setaffinity(0, {core})

    return pin


class Server:
    """`with Server(peer, mode) as server:`; its files are gone afterwards. where: they are in a folder here. Raises
    `Failed` if it does not listen."""

    def __init__(self, peer: Peer, mode: Mode, where: Path = WORK) -> None:
        self.peer = peer
        self.mode = mode
        self._where = where

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.peer.name.split()[0]}-", dir=self._where))
        self.folder.chmod(0o755)
        self.port = free_port()
        self._said = self.folder / "said"
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                self.peer.command(self.folder, self.port, self.mode),
                stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd=REPOSITORY, env=_environment(),
                preexec_fn=pinned(cores()[0]),
            )  # fmt: skip
        try:
            self._wait()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self.folder)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def said(self) -> str:
        """The end of what it wrote to its terminal."""
        return self._said.read_text(errors="replace").strip()[-300:]

    def _wait(self) -> None:
        until = time.monotonic() + START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if self._process.poll() is not None:
                    raise Failed(f"the server ended, exit code {self._process.returncode}: {self.said}") from None
                if time.monotonic() > until:
                    raise Failed(f"the server does not listen after {START_S:g} s: {self.said}") from None
                time.sleep(0.05)


def _environment() -> dict[str, str]:
    """GOMAXPROCS: Go's scheduler must know that there is one core."""
    return {**os.environ, "GOMAXPROCS": "1"}


class Load:
    """A generator on the load's core. `lines` are what it says as it goes; the last one is `result`."""

    def __init__(self, name: str, *words: object) -> None:
        self._name = name
        command = [str(program(name)), *map(str, words)]
        self._errors = tempfile.TemporaryFile(dir=WORK)  # noqa: SIM115  # closed in __exit__
        try:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
                preexec_fn=pinned(cores()[1]),
            )  # fmt: skip
        except OSError as error:
            self._errors.close()
            raise Failed(f"{name} can't be run: {error.strerror}") from None
        self._timer = threading.Timer(LOAD_S, self.process.kill)
        self._timer.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self._errors):
            assert pipe is not None
            with suppress(BrokenPipeError):  # it ended before it had taken everything: the exit code says why
                pipe.close()

    def tell(self, data: bytes) -> None:
        """Hand over bytes; one that has ended already tells why when it is heard."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(data)
            self.process.stdin.flush()

    def hear(self) -> str:
        """The next line. Raises `Failed` if there is none."""
        assert self.process.stdout is not None
        line: bytes = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self._errors.seek(0)
            why = self._errors.read().decode(errors="replace").strip()[-300:]
            if code == -signal.SIGKILL:
                why = f"it did not end within {LOAD_S:g} s"
            raise Failed(f"{self._name}: {why or f'exit code {code}'}")
        return line.decode().strip()

    def result(self) -> dict[str, Any]:
        """What it found, which is its last line."""
        found: dict[str, Any] = json.loads(self.hear())
        return found


@contextmanager
def lasting(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs as long as this is entered: one that ends by itself was not there all the time, and raises
    `Failed`."""
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=quiet, stderr=quiet, stdin=quiet)
    try:
        yield process
        if process.poll() is not None:
            raise Failed(f"{command[0]} ended too early: exit code {process.returncode}")
    finally:
        process.kill()
        process.wait()


def talk(load: Load, data: bytes, server: Server, during: Callable[[], None] | None = None) -> dict[str, Any]:
    """Hand the load its blob, and measure from `begin` to `end`: what it reports, with `cpu_s` of the server, `wall_s`,
    and `others`: how many cores' time went elsewhere while server or load waited for one. `during` is called at
    `begin`. Raises `Failed`."""
    pids = server.pid, load.process.pid, os.getpid()
    load.tell(data)
    while load.hear() != "begin":
        pass
    foreign, waited = foreign_seconds(*pids), waited_seconds(*pids)
    before, since = cpu_seconds(server.pid), time.perf_counter()
    if during is not None:
        during()
    while load.hear() != "end":
        pass
    used, took = cpu_seconds(server.pid) - before, time.perf_counter() - since
    others = max(0.0, min(foreign_seconds(*pids) - foreign, waited_seconds(*pids) - waited)) / took
    return {**load.result(), "cpu_s": used, "wall_s": took, "others": others}


def blob(peer: Peer, mode: Mode, count: int) -> bytes:
    """Wireload's: the hello of each connection, then the messages."""
    parts = []
    for i in range(count):
        hello = peer.hello(mode, i)
        parts += [string(hello.data), number(hello.wait)]
    parts += [string(peer.message(mode, i)) for i in range(1 if mode == "fanout" else count)]
    return b"".join(parts)


@contextmanager
def shared(folder_name: str) -> Iterator[Path]:
    """A folder for files that several servers read."""
    folder = Path(tempfile.mkdtemp(prefix=f"{folder_name}-", dir=WORK))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def wireload(
    peer: Peer, mode: Mode, count: int, window: int, seconds: float, *, rate: float = 0, tls: bool = False
) -> Sample:
    """A sample of fan-out or echo: messages a second, and a second of the server's processor. Raises `Failed`."""
    with Server(peer, mode) as server:
        name = "wireload-tls" if tls else "wireload"
        with Load(name, mode, "127.0.0.1", server.port, count, seconds, window, peer.answer_size(mode), rate) as load:
            return sample(talk(load, blob(peer, mode, count), server))


def sample(found: dict[str, Any], what: str = "messages") -> Sample:
    """Adds the figures a second of the server's processor. what: messages or links."""
    found = dict(found)
    done = found[f"{what}_per_s"] * found["seconds"]
    found[f"{what}_per_cpu_s"] = done / max(found["cpu_s"], 1e-9)
    found["cpu_ns"] = found["cpu_s"] / max(done, 1) * 1e9
    return {key: float(value) for key, value in found.items()}


def undisturbed(measure: Callable[[], Sample], tries: int, again: Callable[[], None] = lambda: None) -> Sample:
    """A sample of a run in which nobody else had the cores; the least disturbed of so many, if there is no such."""
    samples = [measure()]
    while samples[-1].get("others", 0) > DISTURBED and len(samples) < tries:
        again()
        samples.append(measure())
    return min(samples, key=lambda sample: sample.get("others", 0))


def interleaved(
    contenders: Sequence[tuple[str, Callable[[], Sample]]],
    runs: int,
    tries: int,
    tell: Callable[[str], None],
    keep_trying: Callable[[str], bool] = lambda _: False,
) -> tuple[dict[str, list[Sample | None]], dict[str, str]]:
    """A B C A B C …: samples by contender, one for each run, None where it failed; and why. tries: of a run that others
    disturb. Who has failed is not tried again, but for those that `keep_trying` names."""
    samples: dict[str, list[Sample | None]] = {name: [] for name, _ in contenders}
    errors: dict[str, str] = {}
    for run in range(runs):
        for name, measure in contenders:
            if name in errors and not keep_trying(name):
                samples[name].append(None)
                continue
            which = f"run {run + 1} of {runs}: {name}"
            tell(which)
            try:
                samples[name].append(undisturbed(measure, tries, partial(tell, f"{which}, again")))
            except Failed as error:
                errors[name] = " ".join(str(error).split())
                samples[name].append(None)
    return samples, errors
