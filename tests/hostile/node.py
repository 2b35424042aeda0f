"""The gateway of a case, in a process that may be killed: `python -m tests.hostile.node FOLDER NAME`.

It listens on the ports that are known to pass: 80, 8080 and 14000 for frames and HTTP, 443 for the same over TLS. What
is sent to `echo` comes back, and a user who has said `news` is told a number every so often. It prints `READY`.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from pathlib import Path

import uvloop

from imcore import Config, Node, Uplink
from imcore.config import Limits, Listen, Tls
from imcore.config import Node as NodeConfig

__all__ = ["NEWS_S", "last"]

PORTS = (80, 8080, 14000)
NEWS_S = 0.5


def last(told: Path) -> int:
    """The number of the last news, 0 = none."""
    return int(told.read_text()) if told.exists() else 0


async def main(folder: Path) -> None:
    """Serve until killed."""
    tls = Tls(certificate=str(folder / "gateway.pem"), key=str(folder / "gateway.key"))
    listen = [Listen(address=f"0.0.0.0:{port}") for port in PORTS]
    node = Node(
        Config(
            node=NodeConfig(name="gateway", data=str(folder / "data")),
            listen=[*listen, Listen(address="0.0.0.0:443", tls=tls)],
            limits=Limits(drain_s=0.5, spread_s=1.0),
        ),
        authenticate=lambda token: token,
    )

    @node.service.on("echo")
    async def echo(message: Uplink) -> asyncio.Future[int]:
        return node.service.push(message.user, "echo", message.body, key=message.key)

    told = folder / "news"
    async with asyncio.TaskGroup() as tasks, node:
        tasks.create_task(news(node, told))
        print("READY", flush=True)
        await node.serve_forever()


async def news(node: Node, told: Path) -> None:
    """Numbers that rise over the deaths of this process."""
    for number in itertools.count(last(told) + 1):
        await asyncio.sleep(NEWS_S)
        await node.service.push("phone", "news", b"%d" % number, key=f"news {number}")
        told.write_text(str(number))  # noqa: ASYNC240


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1])))
