"""Serve a node with the built-in chat service, until SIGINT or SIGTERM; then drain, and leave.

Without a file: every role there is, anonymous, on 127.0.0.1:8080, with its data in the folder `data`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import signal
import sys

import msgspec
import uvloop

from .. import chat_service, config
from ..errors import ConfigError
from ..node import Node
from . import descriptors
from .terminal import Failed

__all__ = ["HELP", "add_arguments", "run"]

HELP = "serve a node"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--config", metavar="FILE", help="TOML file (docs/configuration.md)")
    parser.add_argument(
        "--listen",
        action="append",
        metavar="HOST:PORT",
        help="where to listen, instead of what the file says; repeatable",
    )
    parser.add_argument(
        "--anonymous", action="store_true", help="a token is the user's name, for trials; on loopback addresses only"
    )
    parser.add_argument("--data", metavar="DIR", help="folder of the embedded engine, instead of what the file says")


def run(args: argparse.Namespace) -> int:
    """Serve."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = config.load(args.config) if args.config is not None else config.Config()
    if args.anonymous:
        settings = msgspec.structs.replace(settings, auth=config.Auth(mode="anonymous"))
    node = Node(settings, listen=args.listen, data=args.data)
    if "service" in settings.node.roles:
        chat_service.register(node.service)
    if settings.auth.mode == "anonymous":
        print("imcore: anonymous: whoever can connect is who they say they are", file=sys.stderr)
    descriptors.allow_many()
    try:
        uvloop.run(_serve(node))
    except ConfigError as error:  # the configuration is well-formed; it is this machine that does not allow it
        raise Failed(str(error)) from None
    return 0


async def _serve(node: Node) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, node.stop)
    async with node:
        _collect_in_small_steps()
        for address in node.addresses:
            print(f"listening on {address}", flush=True)
        for address in node.media_addresses:
            if address not in node.addresses:
                print(f"media on {address}", flush=True)
        if not node.addresses:
            print("serving", flush=True)
        await node.serve_forever()


def _collect_in_small_steps() -> None:
    """See to it that no heartbeat waits for the garbage collector, however many links there are.

    A full collection looks at everything that it has not been told to leave alone, for seconds where there are millions
    of links. Here it comes often, and what has survived one is left alone from then on: links and users go when
    nobody knows them any more, not because the collector finds them. A step comes after 5,000 new objects, a quarter of
    a millisecond's work, rather than after 700: a message on its way to the disk is several, and none of them garbage.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 1, 1)
    gc.callbacks.append(_leave_survivors_alone)


def _leave_survivors_alone(phase: str, info: dict[str, int]) -> None:
    if phase == "stop" and info["generation"] == 2:
        gc.freeze()
