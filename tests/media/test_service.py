"""The service beside everything else: little memory for many uploads, TLS, either event loop, and a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop

from imcore import Client, Node
from imcore.cli.certificate import self_signed
from imcore.config import Config, Listen, Media
from imcore.media.limits import Limits
from tests.media.running import Person, serving, sha256
from tests.media.test_upload import patch

DATA = os.urandom(3_000_000)
RUNNERS: list[Callable[[Coroutine[Any, Any, None]], None]] = [asyncio.run, uvloop.run]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_hundred_uploads_at_once_hold_little_memory(tmp_path: Path) -> None:
    """Each would have hundreds of kilobytes in buffers, were they read as aiohttp reads."""
    program = Path(__file__).with_name("many.py")
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path)], capture_output=True, text=True, timeout=50, check=False,
        env={**os.environ, "PYTHONPATH": str(program.parents[2])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 64


@pytest.mark.parametrize("runner", RUNNERS, ids=["asyncio", "uvloop"])
def test_either_event_loop_serves(tmp_path: Path, runner: Callable[[Coroutine[Any, Any, None]], None]) -> None:
    async def work() -> None:
        async with serving(tmp_path) as service:
            alice = service.person()
            reference = await alice.put(DATA)
            assert reference.sha256 == sha256(DATA)
            assert (await alice.get(reference)).body == DATA
            assert (await alice.get(reference, Range="bytes=1000000-2999999,0-9")).status == 206

    runner(work())


def test_tls_carries_files_too(tmp_path: Path) -> None:
    certificate, trusting = self_signed(tmp_path)
    (tmp_path / "clip").write_bytes(DATA)

    async def work() -> None:
        media = Media(listen=[Listen(address="127.0.0.1:0", tls=certificate)], rate=50_000_000)
        async with Node(Config(media=media), listen=["127.0.0.1:0"], data=tmp_path / "node") as node:
            points = [f"tls://{address}" for address in node.media_addresses]
            async with Client(node.addresses, "alice", "phone", media=points, tls=trusting) as alice:
                await alice.download(await alice.upload(tmp_path / "clip", timeout=20), tmp_path / "got")
            assert (tmp_path / "got").read_bytes() == DATA
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting)) as session:
                person = Person(session, f"https://{node.media_addresses[0]}", "alice")
                path = await person.begin(10)
                assert (await person.append(path, 0, b"12345678901")).status == 413
                reference = await person.put(DATA)
                assert (await person.get(reference, Range="bytes=5-1999999")).body == DATA[5:2_000_000]

    uvloop.run(work())


def test_a_head_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    async def work() -> None:
        async with serving(tmp_path, Limits(idle_s=0.3)) as service:
            for begun in (b"", b"GET / HTTP/1.1\r\nHost: x\r\n"):
                reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
                writer.write(begun)
                with contextlib.suppress(ConnectionError):
                    assert await asyncio.wait_for(reader.read(), 20) == b""
                writer.close()
            assert (await service.person().put(b"x")).size == 1

    uvloop.run(work())


def test_the_service_ends_while_files_are_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imcore.media.media.SHUTDOWN_S", 0.2)

    async def work() -> None:
        async with serving(tmp_path) as service:
            path = await service.person().begin(len(DATA))
            _, writer = await patch(service.port, path, len(DATA))
            writer.write(DATA[:1_000_000])
            await writer.drain()
            await asyncio.sleep(0.2)
        writer.close()
        async with serving(tmp_path) as service:
            alice = service.person()
            offset = await alice.offset(path)
            assert 0 < offset <= 1_000_000
            assert (await alice.append(path, offset, DATA[offset:])).status == 204
            assert (await alice.reference(path)).sha256 == sha256(DATA)

    uvloop.run(work())
