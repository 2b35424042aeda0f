"""The demo of roles apart: gateways and services as processes over a redis-server, and what business restarts do.

While messages flow the service is killed and started, replaced by another version beside it, and away for a minute. No
link may drop, and nothing may be lost, doubled or reordered.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from .account import Break
from .crowd import Crowd
from .terminal import Failed, reason_of

__all__ = ["Split"]

START_S = 20.0
LAST_S = 60.0
"""How long the last messages may take."""

CONFIG = """\
[node]
name = "{name}"
data = "{name}"
roles = [{roles}]

[[listen]]
address = "127.0.0.1:0"

[bus]
engine = "redis"
url = "{url}"
"""


class Program:
    """A process of ours, which says a line when it is ready."""

    def __init__(self, name: str, *words: str, folder: Path) -> None:
        self.name = name
        self._words = words
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, ready: str = "") -> str:
        """Start it; the rest of the line that begins with `ready`. Raises `Failed`."""
        with (self._folder / f"{self.name}.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._words, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=log,
                cwd=self._folder,
            )  # fmt: skip
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(START_S):
                while line := (await self._process.stdout.readline()).decode():
                    if ready in line:
                        return line.partition(ready)[2].strip()
        except TimeoutError:
            pass
        raise Failed(f"{self.name} did not start: {(self._folder / f'{self.name}.log').read_text()[-300:]}")

    async def kill(self) -> None:
        """SIGKILL."""
        await self._end(lambda process: process.kill())

    async def stop(self) -> None:
        """SIGTERM, and wait until it has ended in good order."""
        await self._end(lambda process: process.terminate())

    async def _end(self, by: Callable[[asyncio.subprocess.Process], None]) -> None:
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                by(process)
            await process.communicate()


class Split:
    """users: at least 2. messages: in all. seconds: over which they are sent. away_s: how long the service is away.
    tell: told what happens, for people."""

    def __init__(
        self, folder: Path, *, users: int, messages: int, seconds: float, away_s: float, tell: Callable[[str], None]
    ) -> None:
        self.crowd = Crowd(users)
        self.breaks: list[Break] = []
        self.drops = 0
        """Links that were lost, of all users."""
        self._folder = folder
        self._count = users
        self._messages = messages
        self._seconds = seconds
        self._away_s = away_s
        self._tell = tell

    async def run(self) -> None:
        """Send everything through every break, and wait for what is still on its way."""
        async with AsyncExitStack() as stack:
            url = await self._redis(stack)
            service = self._program("service", '"service"', url, stack)
            newer = self._program("service-2", '"service"', url, stack)
            await service.start("serving")
            points = []
            for name, role in (("down", '"downlink"'), ("up", '"uplink"')):
                points.append(await self._program(name, role, url, stack).start("listening on "))
            self._tell(
                f"a redis-server, a service, a gateway for what comes down at {points[0]}, for up at {points[1]}"
            )
            for _ in range(self._count):
                await self.crowd.join(points, None, stack)
            await self._whole()
            await self._through("the service runs", self._nothing)
            self.breaks.clear()
            await self._through("the service was killed and started", lambda: self._killed(service))
            await self._through("a new version came, and the old one went", lambda: self._upgraded(service, newer))
            await self._through(f"the service was away for {self._away_s:g} s", lambda: self._away(newer), self._away_s)
            await asyncio.sleep(0.2)  # what comes twice would come now
            self.drops = sum(user.drops for user in self.crowd.users)

    async def _through(self, what: str, happens: Callable[[], Awaitable[None]], lasts: float = 0.0) -> None:
        """Send a quarter of the messages while it happens, and wait until all have come. lasts: seconds."""
        start = time.monotonic()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.crowd.talk(self._messages // 4, max(self._seconds / 4, lasts)))
                await asyncio.sleep(self._seconds / 16)
                await happens()
        except ExceptionGroup as failed:
            raise reason_of(failed) from None
        await self._whole()
        self.breaks.append(self.crowd.survived(what, start))
        self._tell(f"{what}: all that was sent has come, {time.monotonic() - start:.1f} s after it began")

    async def _nothing(self) -> None:
        """All is well."""

    async def _killed(self, service: Program) -> None:
        await service.kill()
        await service.start("serving")

    async def _away(self, service: Program) -> None:
        await service.kill()
        await asyncio.sleep(self._away_s)
        await service.start("serving")

    async def _upgraded(self, service: Program, newer: Program) -> None:
        await newer.start("serving")
        await asyncio.sleep(self._seconds / 8)
        await service.stop()

    async def _whole(self) -> None:
        with suppress(TimeoutError):  # then the account shows what is missing
            await self.crowd.whole(LAST_S)

    def _program(self, name: str, roles: str, url: str, stack: AsyncExitStack) -> Program:
        file = self._folder / f"{name}.toml"
        file.write_text(CONFIG.format(name=name, roles=roles, url=url))
        program = Program(
            name, sys.executable, "-m", "imcore", "serve", "--anonymous", "--config", str(file), folder=self._folder
        )
        stack.push_async_callback(program.kill)
        return program

    async def _redis(self, stack: AsyncExitStack) -> str:
        found = shutil.which("redis-server") or shutil.which("valkey-server")
        if found is None:
            raise Failed("there is no redis-server here: apt-get install redis-server")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        os.makedirs(self._folder / "redis", exist_ok=True)
        words = f"--port {port} --bind 127.0.0.1 --dir {self._folder / 'redis'} --appendonly yes --save".split()
        redis = Program("redis-server", found, *words, "", folder=self._folder)
        stack.push_async_callback(redis.kill)
        await redis.start("Ready to accept connections")
        return f"redis://127.0.0.1:{port}/0"
