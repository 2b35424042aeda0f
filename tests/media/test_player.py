"""A browser's player: it reads what it needs by ranges, and jumps to where nothing was loaded yet."""

from __future__ import annotations

import asyncio
import os
import wave
from pathlib import Path

from tests.browser import needs_chromium, opened
from tests.media.running import run, serving

SECONDS, JUMP = 180, 150
PAGE = """<video id="v" src="{link}" muted></video><script>
v.onloadedmetadata = () => v.currentTime = {jump};
v.onseeked = () => document.title = v.duration + " " + v.currentTime;
v.onerror = () => document.title = v.error.message;
</script>"""


@needs_chromium
def test_a_browser_plays_and_jumps(tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    with wave.open(str(path), "wb") as out:
        out.setnchannels(2)
        out.setsampwidth(2)
        out.setframerate(44_100)
        out.writeframes(os.urandom(44_100 * 4 * SECONDS))

    async def work() -> None:
        async with serving(tmp_path / "media") as service:
            alice = service.person()
            link = await alice.link(await alice.put(path.read_bytes(), filetype="audio/x-wav"))
            page = tmp_path / "page.html"
            page.write_text(PAGE.format(link=service.base + link, jump=JUMP))
            async with asyncio.timeout(50), opened(page.as_uri()) as [tab]:
                assert await tab.until("document.title") == f"{SECONDS} {JUMP}"

    run(work())
