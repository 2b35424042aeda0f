"""The gateway's side of the tunnel behind real proxies, met by a client that was written against the wire alone."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.gateway.running import run, running, until
from tests.proxies.device import Device
from tests.proxies.servers import ALONE, Kind, needs, serving

COUNT = 1000
HOLDS_BACK = {"nginx, deaf"}
"""What streams through these comes in the end, all at once."""


@pytest.mark.parametrize("kind", ALONE, ids=str)
def test_a_thousand_messages_each_way_come_once_and_in_order(tmp_path: Path, kind: Kind) -> None:
    needs(kind)

    async def main() -> None:
        async with running(tmp_path / "data") as here, AsyncExitStack() as stack:
            target = int(here.address.rpartition(":")[2])
            port = await stack.enter_async_context(serving(kind, tmp_path / "proxy", target))
            where = f"http://127.0.0.1:{target}/im" if kind.forward else "/im"
            login = "Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n" if "with a login" in kind.name else ""
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
            if kind.name not in HOLDS_BACK:
                await device.stream(COUNT)
            else:
                await device.poll(lambda: len(device.taken) >= COUNT)
            assert device.taken == bodies

    run(main())
