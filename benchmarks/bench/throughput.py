"""Rows 1, 2 and tls: messages to everyone in a room, and back to oneself."""

from __future__ import annotations

from functools import partial

from ..peers.base import Mode, Peer
from ..peers.frames import Imcore, Limit
from ..peers.mqtt import Mosquitto
from ..peers.text import Nats, Redis
from ..peers.websocket import Picows, Websockets
from .figures import Figure, Verdict, at_least
from .plan import OURS, US, CaseResult, Column, Contender, Plan, RowResult, run_case
from .programs import certificate, program
from .running import wireload

__all__ = ["COLUMNS", "PER_CPU", "echo", "fan_out", "over_tls"]

PER_CPU = "messages_per_cpu_s"
COLUMNS = [
    Column(PER_CPU, "thousand messages per server CPU second", 1e3),
    Column("messages_per_s", "thousand messages a second", 1e3),
    Column("p50_us", "p50, ms", US, 2),
    Column("p99_us", "p99, ms", US, 2),
]
FAN_OUT_WINDOWS = (1, 10, 100)
ECHO_WINDOWS = (1, 10)


def limit() -> Peer:
    return Limit(program("limit"))


def _case(plan: Plan, peers: list[Peer], mode: Mode, count: int, window: int) -> CaseResult:
    contenders: list[Contender] = [
        (peer.name, partial(wireload, peer, mode, count, window, plan.seconds)) for peer in plan.able(peers)
    ]
    return run_case(plan, f"window {window}", contenders, COLUMNS, PER_CPU)


def fan_out(plan: Plan) -> RowResult:
    """Row 1."""
    peers = [limit(), Imcore(), Redis(), Nats(), Mosquitto(), Picows(), Websockets()]
    cases = [_case(plan, peers, "fanout", plan.sizes.members + 1, window) for window in FAN_OUT_WINDOWS]
    verdicts: list[Verdict] = []
    for case in cases:
        verdicts.append(at_least(f"{case.name}: ÷ limit, per CPU second", 0.85, case.ratio("limit", PER_CPU)))
        name, value = _nearest(case)
        verdicts.append(at_least(f"{case.name}: ÷ the best peer ({name}), per CPU second", 1.0, value))
    title = f"room fan-out by client publish, {plan.sizes.members:,} members, 100 bytes"
    return RowResult("1", title, cases, verdicts)


def _nearest(case: CaseResult) -> tuple[str, Figure | None]:
    """The peer that comes closest to us, and our ratio to it."""
    ratios = {name: case.ratio(name, PER_CPU) for name in case.samples if name not in (OURS, "limit")}
    known = {name: value for name, value in ratios.items() if value is not None}
    if not known:
        return "none here", None
    name = min(known, key=lambda each: known[each].median)
    return name, known[name]


def echo(plan: Plan) -> RowResult:
    """Row 2."""
    peers = [limit(), Imcore(), Picows(), Nats()]
    cases = [_case(plan, peers, "echo", plan.sizes.echo, window) for window in ECHO_WINDOWS]
    verdicts = []
    for case in cases:
        verdicts.append(at_least(f"{case.name}: ÷ limit, per CPU second", 0.85, case.ratio("limit", PER_CPU)))
        verdicts.append(at_least(f"{case.name}: ÷ picows' echo, per CPU second", 1.2, case.ratio("picows", PER_CPU)))
    title = f"echo through a room of one's own, {plan.sizes.echo:,} links, 100 bytes"
    return RowResult("2", title, cases, verdicts)


def over_tls(plan: Plan) -> RowResult:
    """Rows 1 and 2 over TLS, beside the same without."""
    files = certificate(plan.folder)
    cases = []
    rows: list[tuple[Mode, int, tuple[int, ...]]] = [
        ("fanout", plan.sizes.members + 1, FAN_OUT_WINDOWS),
        ("echo", plan.sizes.echo, ECHO_WINDOWS),
    ]
    for mode, count, windows in rows:
        for window in windows:
            contenders: list[Contender] = [
                ("imcore", partial(wireload, Imcore(), mode, count, window, plan.seconds)),
                (
                    "imcore TLS",
                    partial(wireload, Imcore("imcore TLS", tls=files), mode, count, window, plan.seconds, tls=True),
                ),
            ]
            name = f"{'fan-out' if mode == 'fanout' else 'echo'}, window {window}"
            cases.append(run_case(plan, name, contenders, COLUMNS, PER_CPU))
    ratios = [f"{case.name}: plain ÷ TLS {_shown(case.ratio('imcore TLS', PER_CPU))}" for case in cases]
    return RowResult("tls", "rows 1 and 2 over TLS 1.3, the ratio to plain", cases, [], ["; ".join(ratios)])


def _shown(value: Figure | None) -> str:
    return "?" if value is None else f"{value.median:.2f}"
