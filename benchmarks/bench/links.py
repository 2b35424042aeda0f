"""Rows 4, 7 and 8: the memory of idle links, new links, and the answer to a heartbeat under load."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from ..peers.base import Mode, Peer
from ..peers.frames import Imcore
from ..peers.mqtt import Mosquitto
from ..peers.text import Nats
from ..peers.websocket import Picows
from .durable import WINDOW, person_to_person
from .durable import blob as pairs_blob
from .figures import Figure, Sample, at_least, at_most, figure
from .machine import resident
from .plan import US, WAITS, CaseResult, Column, Contender, Plan, RowResult, run_case
from .running import Failed, Load, Server, blob, number, sample, string, talk, wireload

__all__ = ["accept", "beating", "heartbeat", "idle"]

SETTLE_S = 1.5
FLIGHT = 64
FIRST_ROUNDS = 40
BEAT_US = 5000
PROBE = 900_000
"""The number of the probe's connection: a user that no other connection has."""
LOAD = 0.7


@contextmanager
def _resting(peer: Peer, count: int) -> Iterator[tuple[Callable[[], float], Load]]:
    """So many links that have said hello, and what each has cost the server in memory by now. Raises `Failed`."""
    with Server(peer, "apart") as server:
        time.sleep(0.5)
        before = resident(server.pid)
        with Load("idle", "127.0.0.1", server.port, count) as load:
            hellos, beat = (peer.hello("apart", i) for i in range(count)), peer.beat()
            load.tell(b"".join(string(hello.data) + number(hello.wait) for hello in hellos))
            load.tell(string(beat.data) + number(beat.answer))
            load.hear()
            time.sleep(SETTLE_S)
            yield (lambda: (resident(server.pid) - before) / count), load


def _memory(peer: Peer, count: int) -> Sample:
    with _resting(peer, count) as (bytes_a_link, _):
        return {"bytes_a_link": bytes_a_link()}


def _hour(count: int, rounds: int, quiet_s: float) -> Sample:
    """Memory before so many rounds of heartbeats, after the first ones, and after all."""
    with _resting(Imcore(), count) as (bytes_a_link, load):

        def beat(times: int) -> float:
            """Returns what that took, in milliseconds."""
            took = 0.0
            for _ in range(times):
                load.tell(b"\n")
                took += float(load.hear().split()[1])
            return took

        time.sleep(quiet_s)
        before = bytes_a_link()
        took = beat(min(FIRST_ROUNDS, rounds))
        first = bytes_a_link()
        took += beat(rounds - min(FIRST_ROUNDS, rounds))
        after = bytes_a_link()
    return {
        "bytes_a_link": before,
        "bytes_a_link_first": first,
        "bytes_a_link_after": after,
        "growth_a_link": after - first,
        "beats_per_s": rounds * count / took * 1e3,
    }


def idle(plan: Plan) -> RowResult:
    """Row 4."""
    count, rounds, quiet_s = plan.sizes.idle, plan.sizes.rounds, plan.sizes.quiet_s
    peers = plan.able([Imcore(), Mosquitto(), Nats(), Picows()])
    contenders: list[Contender] = [(peer.name, partial(_memory, peer, count)) for peer in peers]
    bytes_a_link = Column("bytes_a_link", "bytes a link")
    hour = [
        bytes_a_link,
        Column("bytes_a_link_first", f"after the first {FIRST_ROUNDS} heartbeats"),
        Column("bytes_a_link_after", "after all"),
        Column("growth_a_link", "growth between the two, bytes a link", 1, 1),
        Column("beats_per_s", "heartbeats a second"),
    ]
    beating: list[Contender] = [("imcore", partial(_hour, count, rounds, quiet_s))]
    cases = [
        run_case(plan, f"{count:,} links", contenders, [bytes_a_link]),
        run_case(replace(plan, runs=1), f"{rounds} heartbeats each", beating, hour),
    ]
    verdicts = [
        at_most("bytes of process memory a link", 1536, cases[0].figure("imcore", "bytes_a_link")),
        at_most("the same after the heartbeats", 1536, cases[1].figure("imcore", "bytes_a_link_after")),
        at_most("growth over the heartbeats, bytes a link", 8, cases[1].figure("imcore", "growth_a_link")),
    ]
    notes = [
        f"{rounds} rounds, one run: every link sends a PING and has its PONG before the next round. A client that "
        f"beats as often as it may (every 30 s) beats 120 times an hour, so this is {rounds * 30 / 3600:.1f} hours of "
        f"the most frequent heartbeats, or {rounds * 600 / 3600:.0f} hours of the rarest (600 s). They begin "
        f"{quiet_s:g} s after the links are up, when the engine has written the new users to its tables. The first "
        f"{FIRST_ROUNDS} rounds make what a turn with heartbeats needs, some hundred KiB, once for all links; growth "
        f"is what comes after them. 8 bytes a link are {count * 8 >> 10:,} KiB in all: some pages of noise."
    ]
    return RowResult("4", "memory of idle, authenticated links with heartbeat", cases, verdicts, notes)


def _knocking(peer: Peer, users: int, seconds: float) -> Sample:
    """New links a second, by so many users in turn. Raises `Failed`."""
    hellos = [peer.hello("apart", i) for i in range(users)]
    data = number(users) + number(hellos[0].wait) + b"".join(string(hello.data) for hello in hellos)
    with Server(peer, "apart") as server, Load("accept", "127.0.0.1", server.port, FLIGHT, seconds) as load:
        return sample(talk(load, data, server), "links")


def accept(plan: Plan) -> RowResult:
    """Row 7."""
    columns = [
        Column("links_per_s", "links a second"),
        Column("links_per_cpu_s", "per server CPU second"),
        Column("p50_us", "p50, ms", US, 2),
        Column("p99_us", "p99, ms", US, 2),
    ]
    peers = plan.able([Imcore(), Mosquitto(), Picows(), Nats()])
    known: list[Contender] = [(peer.name, partial(_knocking, peer, plan.sizes.users, plan.seconds)) for peer in peers]
    new: list[Contender] = [("imcore", partial(_knocking, Imcore(), plan.sizes.strangers, plan.seconds))]
    cases = [
        run_case(plan, f"{plan.sizes.users:,} users who come again and again", known, columns, "links_per_s"),
        run_case(plan, "users never seen before", new, columns),
    ]
    verdicts = [at_least("new links a second", 15_000, cases[0].figure("imcore", "links_per_s"))]
    notes = [
        f"Connect, hello, answer, reset; {FLIGHT} at once. imcore looks up the user and the device and claims the "
        "route; mosquitto opens a clean session; picows only upgrades."
    ]
    return RowResult("7", "accept and authenticate (anonymous)", cases, verdicts, notes)


def beating(peer: Peer, load: Load, data: bytes, server: Server, seconds: float) -> Sample:
    """Heartbeats of a link of its own while the load runs. Raises `Failed`."""
    hello, beat = peer.hello("apart", PROBE), peer.beat()
    found: Sample = {}

    def probe() -> None:
        with Load("probe", "127.0.0.1", server.port, BEAT_US, seconds, beat.answer) as listener:
            listener.tell(string(hello.data) + number(hello.wait) + string(beat.data))
            found.update({key: float(value) for key, value in json.loads(listener.hear()).items()})

    under = sample(talk(load, data, server, probe))
    if found["unanswered"]:
        raise Failed(f"{found['unanswered']:.0f} of {found['heartbeats']:.0f} heartbeats were not answered within 2 s")
    busy = under["cpu_s"] / under["wall_s"]
    return {**found, "messages_per_s": under["messages_per_s"], "busy": busy, "others": under["others"]}


def _beating_in_room(peer: Peer, mode: Mode, count: int, rate: float, seconds: float) -> Sample:
    """Heartbeats while so many messages a second are sent, a window at a time. Raises `Failed`."""
    with Server(peer, mode) as server:
        words = (mode, "127.0.0.1", server.port, count, seconds + 1, WINDOW, peer.answer_size(mode), rate)
        with Load("wireload", *words) as load:
            return beating(peer, load, blob(peer, mode, count), server, seconds)


def _beating_in_chat(peer: Peer, pairs: int, rate: float, seconds: float) -> Sample:
    with (
        Server(peer, "apart") as server,
        Load("p2p", "frames", "127.0.0.1", server.port, pairs, seconds + 1, WINDOW, rate) as load,
    ):
        return beating(peer, load, pairs_blob(peer, pairs), server, seconds)


def heartbeat(plan: Plan) -> RowResult:
    """Row 8."""
    columns = [
        *WAITS,
        Column("messages_per_s", "messages a second meanwhile"),
        Column("busy", "share of the server's core", 1, 2),
    ]
    sizes, seconds = plan.sizes, plan.seconds
    cases: list[CaseResult] = []
    modes: list[tuple[str, Mode, int, int]] = [
        ("row 1", "fanout", sizes.members + 1, sizes.members),
        ("row 2", "echo", sizes.echo, 1),
    ]
    for title, mode, count, each in modes:
        contenders: list[Contender] = []
        for peer in plan.able([Imcore(), Picows()]):
            rate = _most(plan, f"{title}: {peer.name}", partial(wireload, peer, mode, count, WINDOW, plan.seconds))
            contenders.append((peer.name, partial(_beating_in_room, peer, mode, count, rate / each * LOAD, seconds)))
        cases.append(run_case(plan, f"while {title} runs", contenders, columns))
    rate = _most(plan, "row 3: imcore", partial(person_to_person, Imcore(), sizes.pairs, plan.seconds))
    chat = partial(_beating_in_chat, Imcore(), sizes.pairs, rate * LOAD, seconds)
    cases.append(run_case(plan, "while row 3 runs", [("imcore", chat)], columns))
    verdicts = [at_most(f"{case.name}: p99, ms", 5, _ms(case)) for case in cases]
    notes = [
        f"A link of its own sends a PING every {BEAT_US / 1000:g} ms, whether the ones before were answered or not, at "
        f"real-time priority on the load's core. The load is an open loop: windows of {WINDOW} messages, evenly, at "
        f"{LOAD:.0%} of what the same server did just before in the closed loop; picows at {LOAD:.0%} of its own."
    ]
    return RowResult("8", f"p99 of a heartbeat's answer at {LOAD:.0%} load", cases, verdicts, notes)


def _most(plan: Plan, name: str, measure: Callable[[], Sample]) -> float:
    """Messages a second in the closed loop, the middle of three runs; 1 where it fails, so that the row says so."""
    done: list[float] = []
    for run in range(min(3, plan.runs)):
        plan.tell(f"the maximum of {name}, run {run + 1}")
        try:
            done.append(measure()["messages_per_s"])
        except Failed:
            return 1.0
    return sorted(done)[len(done) // 2]


def _ms(case: CaseResult) -> Figure | None:
    return figure([each["p99_us"] / 1000 for each in case.samples["imcore"] if each is not None])
