"""Row redis: durable messages from person to person again, but kept by a redis-server beside the gateway."""

from __future__ import annotations

import os
from functools import partial

from tests import redis_server
from tests.redis_server import RedisServer

from ..peers.base import TEXT
from ..peers.frames import Imcore
from .durable import COLUMNS, WINDOW, person_to_person
from .figures import Sample, at_least, at_most, figure
from .machine import cores
from .plan import Contender, Plan, RowResult, run_case

__all__ = ["row"]


def over_redis(sync: str, pairs: int, seconds: float) -> Sample:
    """Gateway and service in one process on one core; Redis shares the other one with the load. Raises `Failed`."""
    server = RedisServer(sync=sync)
    try:
        os.sched_setaffinity(server.pid, {cores()[1]})
        settings = f'[bus]\nengine = "redis"\nurl = "{server.url}"\n'
        return person_to_person(Imcore(f"imcore, {sync}", settings), pairs, seconds)
    finally:
        server.close()


def row(plan: Plan) -> RowResult:
    """The row."""
    if redis_server.missing is not None:
        plan.left_out["redis-server"] = redis_server.missing
    contenders: list[Contender] = [
        (f"imcore, {sync}", partial(over_redis, sync, plan.sizes.pairs, plan.seconds))
        for sync in ("everysec", "always")
        if redis_server.missing is None
    ]
    case = run_case(plan, f"window {WINDOW}", contenders, COLUMNS)
    everysec = "imcore, everysec"
    faults = [each["faults"] for name, _ in contenders for each in case.samples[name] if each is not None]
    verdicts = [
        at_least(
            "messages per second of the gateway's core, everysec", 20_000, case.figure(everysec, "messages_per_cpu_s")
        ),
        at_most("lost, doubled, reordered, harmed, unanswered: the worst run", 0, figure(sorted(faults)[-1:])),
    ]
    notes = [
        "appendfsync everysec: Redis answers when its kernel has the message, and may lose a second with the power; "
        "always: when it is on disk. Redis and the load share one core, which is what bounds the rate on the clock."
    ]
    title = f"durable person to person over Redis, {plan.sizes.pairs:,} pairs, window {WINDOW}, {TEXT} bytes"
    return RowResult("redis", title, [case], verdicts, notes)
