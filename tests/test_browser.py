"""The page in examples/browser in a real browser: its frames are the wire's, and it sends and receives by fetch."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import imcore
from imcore import Frame
from tests.browser import Page, needs_chromium, opened
from tests.test_docs import EXAMPLES

SERVE = Path(__file__).parent.parent / "examples" / "browser" / "serve.py"

EDGES = [2**power - less for power in (0, 5, 7, 8, 15, 16, 31, 32, 53) for less in (0, 1, 2) if 2**power - less < 2**53]
VALUES: list[Any] = [
    None, True, False, *EDGES, *[-edge for edge in EDGES], "", "é日🙂",
    *["x" * size for size in (1, 31, 32, 255, 256, 65535, 65536)],
    *[[1] * size for size in (0, 1, 15, 16, 255, 256, 65535, 65536)],
    *[{str(n): n for n in range(size)} for size in (0, 1, 15, 16, 255, 256)],
    {"token": "t", "resume": {"epoch": "e", "seq": 7}, "accepts": ["a", "b"], "poll_ms": None},
]  # fmt: skip
"""As control maps have them, at the edges of MessagePack's sizes."""

SCRIPT = """    (async () => {
    const { FrameDecoder, encode, pack, unpack } = await import("/browser/frames.js");
    const hex = (bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    const bytes = (text) => new Uint8Array((text.match(/../g) ?? []).map((each) => parseInt(each, 16)));
    const decoder = new FrameDecoder();
    const [frames, values, packed] = GIVEN;
    const found = [];
    for (const byte of bytes(frames)) found.push(...decoder.feed(new Uint8Array([byte])));
    return [
        found.map((each) => [each.type, each.flags, String(each.id), each.route, hex(each.body)]),
        found.map((each) => hex(encode(each.type, each))).join(""),
        values.map((value) => hex(pack(value))),
        packed.map((each) => unpack(bytes(each))),
    ];
})()"""

pytestmark = [needs_chromium, pytest.mark.timeout(120)]


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """The example at work, on a free port."""
    command = [sys.executable, str(SERVE), "127.0.0.1:0"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = process.stdout.readline().decode()
        try:
            yield said.split()[-1]
        finally:
            process.terminate()


async def enter(page: Page, user: str) -> None:
    await page.run(f"document.forms.enter.user.value = '{user}'; document.forms.enter.requestSubmit()")
    await page.until("document.getElementById('state').textContent === 'connected'")


async def send(page: Page, to: str, text: str) -> None:
    await page.run(
        f"document.forms.write.to.value = {json.dumps(to)}; document.forms.write.text.value = {json.dumps(text)};"
        "document.forms.write.requestSubmit()"
    )


def line(text: str, small: str, kind: str = "") -> str:
    """An expression: whether this line is in the page."""
    return (
        f"[...document.querySelectorAll('#said li')].some(({{className, firstChild, lastChild}}) => "
        f"className === {json.dumps(kind)} && firstChild.textContent === {json.dumps(text)} && "
        f"lastChild.textContent.startsWith({json.dumps(small)}))"
    )


def test_a_page_and_a_client_talk_both_ways(address: str) -> None:
    async def main() -> None:
        point = address.removeprefix("http://")
        async with opened(address) as [page], imcore.Client([point], token="bob", device="phone") as bob:
            await enter(page, "alice")
            for number, text in enumerate(("hello", "<b>hé</b> 日本語 🙂", "x" * 20_000), start=1):
                await bob.send("chat", json.dumps({"to": "alice", "text": text}).encode())
                await page.until(line(text, f"bob · {number}"))
                await send(page, "bob", text)
                async with asyncio.timeout(20):
                    told = json.loads((await anext(aiter(bob))).body)
                assert told == {"from": "alice", "text": text}
                await page.until(line(text, "to bob · durable", "mine"))

    asyncio.run(main())


def test_many_messages_come_once_and_in_order_through_a_reload(address: str) -> None:
    async def main() -> None:
        point = address.removeprefix("http://")
        async with opened(address) as [page], imcore.Client([point], token="bob", device="phone") as bob:
            await enter(page, "alice")
            shown = "[...document.querySelectorAll('#said li')].map((each) => each.firstChild.textContent).join(' ')"
            for half in (range(150), range(150, 300)):  # more than a window: the stream ends, and the next goes on
                for number in half:
                    await bob.send("chat", json.dumps({"to": "alice", "text": str(number)}).encode())
                await page.until(f"{shown} === {json.dumps(' '.join(map(str, half)))}")
                await page.run("location.reload()")
                await page.until("document.readyState === 'complete' && !document.forms.enter.hidden")
                await enter(page, "alice")

    asyncio.run(main())


def test_what_is_refused_is_told_and_what_follows_goes_on(address: str) -> None:
    async def main() -> None:
        async with opened(address, address) as [page, other]:
            await enter(page, "alice")
            await enter(other, "bob")
            await send(page, "bob", "one")
            await page.run("document.forms.write.to.removeAttribute('required')")
            await send(page, "", "two")
            await send(page, "bob", "three")
            await page.until(line("two", "refused: ", "mine bad"))
            await other.until(line("three", "alice · 2"))
            assert await other.run("document.querySelectorAll('#said li').length") == 2
            if folder := os.environ.get("IMCORE_PICTURES"):  # to look at
                await send(other, "alice", "Got them, thank you!")
                await page.until(line("Got them, thank you!", "bob · 1"))
                (Path(folder) / "browser.png").write_bytes(await page.picture())

    asyncio.run(main())


def test_its_frames_and_its_messagepack_are_the_wires(address: str) -> None:
    frames = [(data, said) for data, said in EXAMPLES if "error" not in said]

    async def main() -> None:
        async with opened(address) as [page]:
            given = [b"".join(data for data, _ in frames).hex(), VALUES, list(map(hexed, VALUES))]
            told = await page.run(SCRIPT.replace("GIVEN", json.dumps(given)))
            decoded, encoded, packed, unpacked = told
            expected = [frame for data, _ in frames for frame in imcore.FrameDecoder().feed(data)]
            assert [
                Frame(kind, int(id), route, bytes.fromhex(body), flags) for kind, flags, id, route, body in decoded
            ] == expected
            assert bytes.fromhex(encoded) == b"".join(data for data, _ in frames)
            assert [msgspec.msgpack.decode(bytes.fromhex(each)) for each in packed] == VALUES
            assert unpacked == VALUES

    asyncio.run(main())


def hexed(value: Any) -> str:
    return msgspec.msgpack.encode(value).hex()
