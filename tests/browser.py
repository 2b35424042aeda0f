"""A real Chromium without a window, over its DevTools protocol: opens pages, runs JavaScript in them, photographs."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse

from tests.others import ENVIRONMENT

__all__ = ["CHROMIUM", "Page", "needs_chromium", "opened"]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--window-size=900,760", "--remote-debugging-port=0", "--remote-allow-origins=*",
]  # fmt: skip
PATIENCE_S = 30.0

needs_chromium = pytest.mark.skipif(CHROMIUM is None and not os.environ.get("CI"), reason="chromium is not installed")


class Gone(Exception):
    """The page that was asked made room for another one."""


class Page:
    """One tab."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self._socket = socket
        self._count = 0

    async def run(self, script: str) -> Any:
        """The value of an expression, awaited if it is a promise. Raises what it threw, as text."""
        told = await self._ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    async def until(self, script: str) -> Any:
        """Wait, within the page, until the expression is true; its value. It may be another page by then."""
        wait = f"""(async () => {{
            const turn = () => new Promise((done) => setTimeout(done, 20));
            for (let n = 0; n < 100; n++, await turn()) if ({script}) return {script};
        }})()"""
        value = None
        async with asyncio.timeout(PATIENCE_S):
            while not value:
                with contextlib.suppress(Gone):
                    value = await self.run(wait)
        return value

    async def picture(self) -> bytes:
        """As PNG."""
        return base64.b64decode((await self._ask("Page.captureScreenshot"))["data"])

    async def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._count += 1
        await self._socket.send_json({"id": self._count, "method": method, "params": params})
        async with asyncio.timeout(PATIENCE_S):
            while (told := json.loads(await self._socket.receive_str())).get("id") != self._count:
                pass
        if "error" in told:
            raise Gone(told["error"]["message"])
        return dict(told["result"])


@asynccontextmanager
async def opened(*urls: str) -> AsyncIterator[list[Page]]:
    """A browser with an empty profile, and a tab for each address."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, env=ENVIRONMENT,
        )  # fmt: skip
        assert process.stderr is not None
        drain: asyncio.Task[bytes] | None = None
        try:
            address = ""
            async with asyncio.timeout(PATIENCE_S):
                while "DevTools listening on ws://" not in address:
                    address = (await process.stderr.readline()).decode()
                    assert address, "the browser ended"
            drain = asyncio.create_task(process.stderr.read())
            base = "http://" + address.split("ws://")[1].split("/")[0]
            async with ClientSession() as session:
                pages = []
                for url in urls:
                    async with session.put(f"{base}/json/new?{url}") as response:
                        target = await response.json(content_type=None)
                    pages.append(Page(await session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=2**26)))
                    await pages[-1].until("location.href !== 'about:blank' && document.readyState === 'complete'")
                yield pages
        finally:
            if process.returncode is None:
                process.terminate()
            async with asyncio.timeout(PATIENCE_S):
                await process.wait()
            if drain is not None:
                await drain
