"""The gateway's side of the tunnel behind real proxies, met by a client that was written against the wire alone."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.gateway.running import run, running, until
from tests.proxies.device import Device
from tests.proxies.servers import FORWARD, REVERSE, Kind, needs, serving

COUNT = 1000
ALONE = [*REVERSE, *FORWARD]
HOLDS_BACK = {"nginx, deaf"}
"""What streams through these comes in the end, all at once."""
PAIRS = [(each, REVERSE[(at + 2) % len(REVERSE)]) for at, each in enumerate(REVERSE)]
"""Every one of them in front of another one, and behind another one."""
PAIRS += [(FORWARD[0], REVERSE[0]), (FORWARD[1], REVERSE[3]), (FORWARD[3], REVERSE[6])]


@pytest.mark.parametrize("kinds", [*[(kind,) for kind in ALONE], *PAIRS], ids=lambda kinds: " > ".join(map(str, kinds)))
def test_a_thousand_messages_each_way_come_once_and_in_order(tmp_path: Path, kinds: tuple[Kind, ...]) -> None:
    needs(*kinds)

    async def main() -> None:
        async with running(tmp_path / "data") as here, AsyncExitStack() as stack:
            port = int(here.address.rpartition(":")[2])
            where = "/im"
            for at, kind in enumerate(reversed(kinds)):
                if kind.forward:
                    where = f"http://127.0.0.1:{port}/im"
                port = await stack.enter_async_context(serving(kind, tmp_path / str(at), port))
            login = "Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n" if "with a login" in kinds[0].name else ""
            device = Device("bob", port, target=where, more=login)
            bodies = [b"%d" % number for number in range(1, COUNT + 1)]
            await device.send(bodies, 1, 50)
            await until(lambda: len(here.seen) >= COUNT)
            assert [message.body for message in here.seen] == bodies

            for body in bodies[: COUNT // 2]:
                await here.service.push("bob", "chat", body)
            await device.poll(lambda: len(device.taken) >= COUNT // 2)
            for body in bodies[COUNT // 2 :]:
                await here.service.push("bob", "chat", body)
            if HOLDS_BACK.isdisjoint(kind.name for kind in kinds):
                await device.stream(COUNT)
            else:
                await device.poll(lambda: len(device.taken) >= COUNT)
            assert device.taken == bodies

    run(main())
