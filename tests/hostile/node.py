"""A gateway of a case, or the business behind several, in a process that may be killed:
`python -m tests.hostile.node FOLDER [--several NAME] [--business] [--key FILE] [--data NAME] [--told FILE]`.

A gateway listens on the ports that are known to pass: 80, 8080 and 14000 for frames and HTTP, 443 for the same over
TLS. What is sent to `echo` comes back, and the user `phone` is told a number every so often, but while there is a file
`quiet`. Alone it does all that in one process, with SQLite; several share a Redis in the back. It prints `READY`, and
leaves in good order at SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import signal
from pathlib import Path
from typing import Literal

import uvloop

from imcore import Config, Node, Uplink
from imcore.config import Bus, Limits, Listen, Tls
from imcore.config import Node as NodeConfig

from .network import BACK

__all__ = ["NEWS_S", "REDIS_PORT", "last", "quiet"]

Role = Literal["downlink", "uplink", "service", "access", "media"]
PORTS = (80, 8080, 14000)
NEWS_S = 0.5
REDIS_PORT = 6379


def last(told: Path) -> int:
    """The number of the last news, 0 = none."""
    return int(told.read_text()) if told.exists() else 0


def quiet(told: Path) -> bool:
    """Nothing is to be told now."""
    return told.with_name("quiet").exists()


async def main(folder: Path, args: argparse.Namespace) -> None:
    """Serve until killed or told to go."""
    tls = Tls(certificate=str(folder / "gateway.pem"), key=str(folder / "gateway.key"))
    listen = [Listen(address=f"0.0.0.0:{port}") for port in PORTS]
    shared = Bus(engine="redis", url=f"redis://{BACK}:{REDIS_PORT}/0")
    name = "business" if args.business else args.several or "gateway"
    roles: list[Role] = ["service"] if args.business else ["downlink", "uplink"]
    if not (args.business or args.several):
        roles.append("service")
    node = Node(
        Config(
            node=NodeConfig(name=name, data=str(folder / args.data / name), key=str(folder / args.key), roles=roles),
            listen=[*listen, Listen(address="0.0.0.0:443", tls=tls)],
            bus=shared if args.several or args.business else Bus(),
            limits=Limits(drain_s=2.0, spread_s=2.0),
        ),
        authenticate=lambda token: token,
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, node.stop)
    async with asyncio.TaskGroup() as tasks:
        if "service" in roles:

            @node.service.on("echo")
            async def echo(message: Uplink) -> asyncio.Future[int]:
                return node.service.push(message.user, "echo", message.body, key=message.key)

        async with node:
            telling = tasks.create_task(news(node, folder / args.told)) if "service" in roles else None
            print("READY", flush=True)
            await node.serve_forever()
            if telling is not None:
                telling.cancel()


async def news(node: Node, told: Path) -> None:
    """Numbers that rise over the deaths of this process."""
    for number in itertools.count(last(told) + 1):
        await asyncio.sleep(NEWS_S)
        while quiet(told):  # noqa: ASYNC110 - it is a file
            await asyncio.sleep(NEWS_S)
        await node.service.push("phone", "news", b"%d" % number, key=f"news {number}")
        told.write_text(str(number))  # noqa: ASYNC240


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--several", default="", help="its name among them")
    parser.add_argument("--business", action="store_true")
    parser.add_argument("--key", default="gateways.pem")
    parser.add_argument("--data", default="data")
    parser.add_argument("--told", default="news", help="keeps the number of the last news over its deaths")
    given = parser.parse_args()
    uvloop.run(main(given.folder, given))
