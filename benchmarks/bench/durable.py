"""Row 3: durable messages from person to person, each checked."""

from __future__ import annotations

from functools import partial

from ..peers.base import TEXT, Peer
from ..peers.frames import Imcore
from ..peers.mqtt import Mosquitto
from .figures import Sample, at_least, at_most, figure
from .plan import US, Column, Contender, Plan, RowResult, run_case
from .running import Failed, Load, Server, number, sample, string, talk

__all__ = ["COLUMNS", "FAULTS", "person_to_person", "row"]

WINDOW = 10
FAULTS = ("lost", "doubled", "reordered", "harmed", "gaps", "misanswered", "refused")
COLUMNS = [
    Column("messages_per_s", "messages a second"),
    Column("messages_per_cpu_s", "per server CPU second"),
    Column("cpu_ns", "server CPU a message, µs", 1000, 1),
    Column("p50_us", "p50, ms", US, 2),
    Column("p99_us", "p99, ms", US, 2),
    Column("faults", "faults"),
]
IN_MEMORY = "persistence true\nautosave_interval 1800\n"
SAVING = "persistence true\nautosave_interval 1\nautosave_on_changes true\n"


def blob(peer: Peer, pairs: int) -> bytes:
    """P2p's: where id and text lie in a message, then each pair's hellos and message."""
    first = peer.people(0)
    parts = [number(value) for value in (first.id_at, first.id_size, first.text_at, TEXT)]
    for i in range(pairs):
        people = peer.people(i)
        parts += [string(people.receiver), string(people.sender), string(people.message)]
    return b"".join(parts)


def person_to_person(peer: Peer, pairs: int, seconds: float) -> Sample:
    """A sample of the closed loop. Raises `Failed`."""
    protocol = "mqtt" if isinstance(peer, Mosquitto) else "frames"
    with Server(peer, "apart") as server:
        with Load("p2p", protocol, "127.0.0.1", server.port, pairs, seconds, WINDOW, 0) as load:
            found = talk(load, blob(peer, pairs), server)
        if not found["received"]:
            raise Failed(f"nothing arrived: {server.said}")
        unanswered = found["sent"] - found["answered"]
        return sample({**found, "faults": sum(found[name] for name in FAULTS) + abs(unanswered)})


def row(plan: Plan) -> RowResult:
    """Row 3."""
    peers = [Imcore(), Mosquitto("mosquitto", IN_MEMORY), Mosquitto("mosquitto, saving", SAVING)]
    contenders: list[Contender] = [
        (peer.name, partial(person_to_person, peer, plan.sizes.pairs, plan.seconds)) for peer in plan.able(peers)
    ]
    case = run_case(plan, f"window {WINDOW}", contenders, COLUMNS, "messages_per_s")
    faults = [each["faults"] for each in case.samples["imcore"] if each is not None]
    verdicts = [
        at_least("messages a second on one core", 30_000, case.figure("imcore", "messages_per_s")),
        at_most("lost, doubled, reordered, harmed, unanswered: the worst run", 0, figure(sorted(faults)[-1:])),
        at_least("÷ mosquitto (in memory)", 1.5, case.ratio("mosquitto", "messages_per_s")),
        at_least("÷ mosquitto, saving", 1.5, case.ratio("mosquitto, saving", "messages_per_s")),
    ]
    notes = [
        "imcore answers when the message is on disk (one fdatasync a batch). mosquitto answers QoS 1 at once: "
        "'mosquitto' keeps its persistent sessions in memory and saves them every half hour; 'mosquitto, saving' is as "
        "durable as it can be made (autosave_on_changes, every change): it writes its whole store behind the answers, "
        "so that what was answered last is still lost with the power."
    ]
    title = f"durable person to person, embedded engine, {plan.sizes.pairs:,} pairs, window {WINDOW}, {TEXT} bytes"
    return RowResult("3", title, [case], verdicts, notes)
