"""The client through real proxies, one or two behind each other: which mode is right there, seen by a measure that is
not the client's; how soon the client has found it; and what became of a thousand messages each way.

`python -m tests.proxies.passing [PAGE]`: every one alone, and every ordered pair; PAGE gets the table.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

from imcore.client import Client
from imcore.ways.learned import Learned, Manner, Mode
from imcore.ways.memory import Memory
from tests.gateway.exchanges import Tunnel, down, frames, post
from tests.gateway.running import Running, run, running, until
from tests.gateway.wire import PING
from tests.proxies.lossy import Figures
from tests.proxies.servers import FORWARD, REVERSE, Kind, serving

__all__ = ["COUNT", "FOUND_S", "Known", "Passed", "behind", "passes"]

COUNT = 1000
FOUND_S = 3.0
"""How soon the right mode is to be found."""
ALONE_MS = 20
SINGLES = 5
BEGIN, END = "<!-- proxies -->\n", "<!-- /proxies -->\n"


class Known(Memory):
    """What is known of the way to a gateway, and of how proxies are passed."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, Learned] = {}

    def keep(self, way: str, learned: Learned) -> None:
        super().keep(way, learned)
        self.kept[way] = learned

    @property
    def mode(self) -> Mode:
        return next((learned.mode for way, learned in self.kept.items() if " through " not in way), "stream")

    @property
    def passages(self) -> set[str]:
        return {learned.passage for way, learned in self.kept.items() if " through " in way}


class Way(NamedTuple):
    """To a gateway. port: of the first proxy. proxy: what the client is told of it."""

    here: Running
    port: int
    point: str
    proxy: str | bool


class Passed(NamedTuple):
    """right: the mode that a plain measure finds. found, found_s: the client's, and when it had shown that it holds,
    seconds from its start. first_s: when the message came that had waited for it. single_ms: from a push to its
    arrival, one at a time. up, down: what became of the messages."""

    right: Mode
    found: Mode
    found_s: float
    first_s: float
    single_ms: float
    up: Figures
    down: Figures

    @property
    def whole(self) -> bool:
        return not any(each.lost or each.doubled or each.reordered for each in (self.up, self.down))

    def __str__(self) -> str:
        return (
            f"{self.found} after {self.found_s:.2f} s (right: {self.right}), the first message after "
            f"{self.first_s:.2f} s, each one in {self.single_ms:.0f} ms; {COUNT} each way: "
            + ", ".join(
                f"{name} {each.lost} lost, {each.doubled} doubled, {each.reordered} reordered"
                for name, each in (("up", self.up), ("down", self.down))
            )
        )


@asynccontextmanager
async def behind(folder: Path, *kinds: Kind, scheme: str = "http") -> AsyncIterator[Way]:
    """A gateway behind proxies, the first of which is the client's."""
    async with running(folder / "data") as here, AsyncExitStack() as stack:
        port = int(here.address.rpartition(":")[2])
        proxy: str | bool = False
        point = port
        for at, kind in enumerate(reversed(kinds)):
            port = await stack.enter_async_context(serving(kind, folder / str(at), port))
            if kind.forward:
                proxy = f"http://user:secret@127.0.0.1:{port}"
            else:
                point = port
        yield Way(here, port, f"{scheme}://127.0.0.1:{point}", proxy)


async def passes(folder: Path, *kinds: Kind) -> Passed:
    """Send and receive so many messages through these."""
    ways = Known()
    bodies = [b"%d" % number for number in range(1, COUNT + 1)]
    loop = asyncio.get_running_loop()
    async with behind(folder, *kinds) as way:
        right = await _measured(way)
        await way.here.service.push("bob", "chat", bodies[0])
        began = loop.time()
        with _watched(ways) as found:
            async with Client([way.point], "bob", "phone", proxy=way.proxy, memory=ways) as im:
                first = asyncio.create_task(im.send("note", bodies[0], timeout=None))
                messages = aiter(im)
                came = [(await anext(messages)).body]
                first_s = loop.time() - began
                await first
                await until(lambda: ways.mode in found)
                sending = asyncio.gather(*(im.send("note", body, timeout=None) for body in bodies[1:]))
                for body in bodies[1:]:
                    await way.here.service.push("bob", "chat", body)
                while len(came) < COUNT:
                    came.append((await anext(messages)).body)
                await sending
                single_s = []
                for _ in range(SINGLES):
                    pushed = loop.time()
                    await way.here.service.push("bob", "chat", b"more")
                    await anext(messages)
                    single_s.append(loop.time() - pushed)
        await until(lambda: len(way.here.seen) >= COUNT)
        up, down = Figures(), Figures()
        up.judge(bodies, [message.body for message in way.here.seen])
        down.judge(bodies, came)
        found_s = found[ways.mode] - began
        return Passed(right, ways.mode, found_s, first_s, statistics.median(single_s) * 1000, up, down)


@contextmanager
def _watched(ways: Known) -> Iterator[dict[Mode, float]]:
    """When each mode had shown that it holds; of `poll`, when it was chosen."""
    found: dict[Mode, float] = {}
    loop = asyncio.get_running_loop()
    streams, keep = Manner.streams, ways.keep

    def told(manner: Manner) -> None:
        found.setdefault(manner.now.mode, loop.time())
        streams(manner)

    def kept(way: str, learned: Learned) -> None:
        if learned.mode == "poll":
            found.setdefault("poll", loop.time())
        keep(way, learned)

    with patch.object(Manner, "streams", told), patch.object(ways, "keep", kept):
        yield found


async def _measured(way: Way) -> Mode:
    """The first mode in which the second ping comes within a second of when it is sent."""
    target, more = "/im", ""
    if way.proxy:
        target = f"{way.point}/im"
        more = "Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n"
    for mode, wishes in (("stream", {}), ("padded", {"pad": 4096})):
        async with Tunnel(f"127.0.0.1:{way.port}") as tunnel:
            tunnel.say(post(down("measure", 0, **wishes), target=target, more=more))
            try:
                async with asyncio.timeout(1.3):
                    await _second(tunnel)
            except TimeoutError:
                continue
            return "padded" if mode == "padded" else "stream"
    return "poll"


async def _second(tunnel: Tunnel) -> None:
    """Returns with the second ping."""
    status, fields, _ = await tunnel.head()
    assert status == 200, fields
    data = b""
    while True:
        chunked = "transfer-encoding" in fields
        data += await tunnel.piece() if chunked else await tunnel.reader.read(65536)
        if any(got.type == PING and got.id > 1 for got in frames(_whole(data))):
            return


def _whole(data: bytes) -> bytes:
    """The whole frames that it begins with."""
    at = 0
    while at + 16 <= len(data) and at + 16 + (size := int.from_bytes(data[at + 4 : at + 8])) <= len(data):
        at += 16 + size
    return data[:at]


CHOSEN = ["squid", "tinyproxy", "nginx", "nginx, streaming", "haproxy", "haproxy, http-no-delay", "apache", "varnish"]
"""What is paired: those that have a client's and a gateway's side are on the side that they stand on."""


def _chosen(first: bool) -> dict[str, Kind]:
    kinds = {kind.name.removesuffix(", in front"): kind for kind in REVERSE}
    if first:
        kinds |= {kind.name: kind for kind in FORWARD}
    return {name: kinds[name] for name in CHOSEN}


def _cell(passed: Passed) -> str:
    late = f" +{passed.single_ms:.0f} ms" if passed.single_ms > ALONE_MS else ""
    name = "" if passed.found == "stream" else f"{passed.found} "
    return f"{name}{passed.found_s:.1f} s{late}"


def _table(rows: dict[str, list[Passed]]) -> str:
    head = ["the first", "alone", *(f"> {name}" for name in CHOSEN)]
    lines = [head, ["---"] * len(head), *([name, *map(_cell, cells)] for name, cells in rows.items())]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> int:
    wrong: list[str] = []
    rows: dict[str, list[Passed]] = {}
    for name, kind in _chosen(first=True).items():
        rows[name] = []
        for kinds in [(kind,), *((kind, other) for other in _chosen(first=False).values())]:
            with tempfile.TemporaryDirectory() as folder:
                passed = run(passes(Path(folder), *kinds))
            rows[name].append(passed)
            good = passed.whole and passed.found == passed.right and passed.found_s < FOUND_S
            line = f"{' > '.join(map(str, kinds))}: {passed}"
            print(line if good else f"WRONG {line}", flush=True)
            if not good:
                wrong.append(line)
    table = _table(rows)
    print(table)
    if len(sys.argv) > 1:
        page = Path(sys.argv[1])
        before, _, rest = page.read_text().partition(BEGIN)
        page.write_text(before + BEGIN + table + END + rest.partition(END)[2])
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
