"""`make bench`: run rows of the table, show them, and write docs/benchmarks.json, its pictures and tables.

`python -m benchmarks.bench --rows 1,2 --runs 5 --seconds 2`. What each row measures, and how, is in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from ..peers.base import Peer
from ..peers.frames import Imcore
from ..peers.mqtt import Mosquitto
from ..peers.nginx import Nginx
from ..peers.text import Nats, Redis
from ..peers.websocket import Picows, Websockets
from . import (
    apart,
    behaviour,
    core,
    durable,
    fairness,
    floods,
    growth,
    links,
    lists,
    media,
    over_redis,
    short,
    split_picture,
    throughput,
)
from .machine import cores, facts
from .picture import draw
from .plan import Plan, RowResult, Sizes
from .programs import REPOSITORY, build, install
from .report import merged, show, write
from .running import shared
from .tables import fill

__all__ = ["ROWS", "main"]

ROWS: dict[str, Callable[[Plan], RowResult]] = {
    "1": throughput.fan_out,
    "2": throughput.echo,
    "3": durable.row,
    "4": links.idle,
    "5": core.wheel,
    "6": core.decode,
    "7": links.accept,
    "8": links.heartbeat,
    "9": growth.row,
    "tls": throughput.over_tls,
    "slow": behaviour.slow,
    "big": behaviour.big,
    "fair": fairness.row,
    "http": core.http,
    "redis": over_redis.row,
    "short": short.row,
    "split": apart.row,
    "media": media.row,
    "lists": lists.row,
    "floods": floods.row,
}
SYSTEM_PEERS = (Redis, Nats, Mosquitto, Nginx)
FILE_WIDTH = 140


def rows_of(text: str) -> list[str]:
    """`1,2,tls` or `all`."""
    names = list(ROWS) if text == "all" else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in ROWS:
            raise argparse.ArgumentTypeError(f"no row {name!r}; there are {', '.join(ROWS)}")
    return names


def main(argv: Sequence[str] | None = None) -> int:
    """Run; the exit code says whether the bench could run, not whether the targets are met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description="Measure imcore beside its peers.")
    parser.add_argument("--rows", type=rows_of, default="all", help=f"of {', '.join(ROWS)}; default all")
    parser.add_argument("--runs", type=int, default=5, help="of each contender; at least 5 for figures that are shown")
    parser.add_argument("--seconds", type=float, default=2.0, help="measured in each run")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs", help="folder of benchmarks.json and .svg")
    parser.add_argument("--install", action="store_true", help="install missing peers, where root and apt allow")
    parser.add_argument("--small", action="store_true", help="few links: to see that it works")
    args = parser.parse_args(argv)
    console = Console()
    if not console.is_terminal:
        console = Console(width=FILE_WIDTH)
    if sys.platform != "linux":
        console.print("the bench reads /proc and speaks epoll: it runs on Linux only")
        return 2
    if args.install:
        packages = [peer.package for peer in (kind() for kind in SYSTEM_PEERS) if peer.missing() and peer.package]
        why = install(packages)
        if why is not None:
            console.print(f"[yellow]{why}[/yellow]")
    unbuilt = build()
    server, load = cores()
    if server == load:
        console.print("[yellow]one core: server and load share it, wall-clock figures mean little[/yellow]")
    os.sched_setaffinity(0, {load})
    versions = {peer.name: peer.version() for peer in _everyone() if peer.missing() is None}
    began = time.monotonic()
    with shared("run") as folder, console.status("…") as status:
        machine = facts(folder)
        about = {"runs": args.runs, "seconds": args.seconds, "machine": machine, "versions": versions}
        plan = Plan(args.runs, args.seconds, Sizes.small() if args.small else Sizes(), folder, status.update)
        done: list[RowResult] = []
        path = args.out / "benchmarks.json"
        for name in args.rows:
            result = ROWS[name](plan.within(f"row {name}"))
            show(console, result)
            done.append(result)
            before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            content = merged(before, [result], about, list(ROWS))
            write(path, content)  # after each row: an interrupted run keeps what it has
            _picture(args.out, content)
    for line in [*unbuilt, *(f"{name} was left out: {why}" for name, why in plan.left_out.items())]:
        console.print(f"[yellow]{line}[/yellow]")
    verdicts = [verdict for row in done for verdict in row.verdicts]
    met = sum(verdict.met is True for verdict in verdicts)
    console.print(f"\n{met} of {len(verdicts)} targets met; {time.monotonic() - began:.0f} s; {path}")
    return 0


def _picture(folder: Path, content: dict[str, Any]) -> None:
    """What is drawn and filled in from the figures."""
    (folder / "benchmarks.svg").write_text(draw(content), encoding="utf-8")
    for row in content["rows"]:
        if row["row"] == "split":
            (folder / "split.svg").write_text(split_picture.draw(row), encoding="utf-8")
    for document in folder.glob("*.md"):
        text = document.read_text(encoding="utf-8")
        filled = fill(text, content)
        if filled != text:
            document.write_text(filled, encoding="utf-8")


def _everyone() -> list[Peer]:
    return [Imcore(), Redis(), Nats(), Mosquitto(), Picows(), Websockets(), Nginx()]


if __name__ == "__main__":
    sys.exit(main())
