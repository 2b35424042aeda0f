"""The table of moves against the wire: written by hand from "Frames" and "The life of a link", not from the code."""

from __future__ import annotations

import pytest

from imcore import session
from imcore._codec import ACK, DUP, ERROR, FAILED, GOAWAY, HELLO, JOIN, LEAVE, MSG, PAD, PING, PONG, ROOM, WELCOME
from imcore._link import ANSWER, HAND, IGNORE, RELAY, TAKE
from imcore.session import Phase

NO = 0
TYPES = {HELLO: "HELLO", WELCOME: "WELCOME", PING: "PING", PONG: "PONG", MSG: "MSG", ACK: "ACK", JOIN: "JOIN",
         LEAVE: "LEAVE", GOAWAY: "GOAWAY", ERROR: "ERROR", PAD: "PAD"}  # fmt: skip

# A column for each phase: the gateway that waits for HELLO; its roles down, up, both; the client that waits for
# WELCOME; the client that was welcomed, on a connection and in the tunnel.
PHASES = [
    Phase.GATEWAY_NEW,
    Phase.GATEWAY_DOWN,
    Phase.GATEWAY_UP,
    Phase.GATEWAY_BOTH,
    Phase.CLIENT_NEW,
    Phase.CLIENT_OPEN,
    Phase.CLIENT_TUNNEL,
]
ANY_FLAGS: dict[int, list[int]] = {  # where no flag changes what the frame is
    HELLO: [HAND, NO, NO, NO, NO, NO, NO],  # one HELLO a link
    WELCOME: [NO, NO, NO, NO, HAND, NO, NO],
    PING: [
        NO,
        ANSWER,
        ANSWER,
        ANSWER,
        NO,
        ANSWER,
        HAND,
    ],  # nothing before HELLO and WELCOME but what breaks off, and PAD
    PONG: [NO, IGNORE, IGNORE, IGNORE, NO, HAND, NO],
    JOIN: [NO, HAND, NO, HAND, NO, NO, NO],
    LEAVE: [NO, HAND, NO, HAND, NO, NO, NO],
    GOAWAY: [NO, NO, NO, NO, NO, HAND, HAND],
    ERROR: [HAND, HAND, HAND, HAND, HAND, HAND, HAND],
    PAD: [IGNORE, IGNORE, IGNORE, IGNORE, IGNORE, IGNORE, IGNORE],
}
BY_FLAGS: dict[tuple[int, int], list[int]] = {
    (MSG, 0): [NO, NO, HAND, HAND, NO, HAND, HAND],
    (MSG, ROOM): [NO, NO, RELAY, RELAY, NO, HAND, HAND],
    (MSG, FAILED): [NO, NO, HAND, HAND, NO, NO, NO],  # "on MSG from a client"
    (MSG, ROOM | FAILED): [NO, NO, NO, NO, NO, NO, NO],  # what has no answer can't be given up
    (ACK, 0): [NO, TAKE, NO, TAKE, NO, HAND, HAND],
    (ACK, ROOM): [NO, TAKE, NO, TAKE, NO, HAND, HAND],
    (ACK, FAILED): [NO, NO, NO, NO, NO, HAND, HAND],  # only a gateway refuses
    (ACK, ROOM | FAILED): [NO, NO, NO, NO, NO, HAND, HAND],
}


def verdict(phase: Phase, type: int, flags: int) -> int:
    row = ANY_FLAGS.get(type) or BY_FLAGS[type, flags & ~DUP]
    return row[PHASES.index(phase)]


@pytest.mark.parametrize("phase", PHASES)
class TestEveryPhase:
    @pytest.mark.parametrize("flags", range(8))
    @pytest.mark.parametrize("type", TYPES, ids=TYPES.get)
    def test_has_the_wires_verdict_on_every_frame(self, phase: Phase, type: int, flags: int) -> None:
        assert session.moves(phase)[type << 3 | flags] == verdict(phase, type, flags)

    def test_refuses_what_is_no_type(self, phase: Phase) -> None:
        row = session.moves(phase)
        assert len(row) == 128
        assert all(row[type << 3 | flags] == NO for type in (0, 12, 13, 14, 15) for flags in range(8))

    def test_differs_without_relaying_only_in_who_decides_on_rooms(self, phase: Phase) -> None:
        with_relay, without = session.moves(phase), session.moves(phase, relay=False)
        assert without == bytes(HAND if move == RELAY else move for move in with_relay)


class TestTheTable:
    def test_covers_every_phase_and_nothing_else(self) -> None:
        assert set(session.LEGAL) == set(Phase) == set(PHASES)

    def test_the_limit_before_hello_is_the_wires(self) -> None:
        assert session.HELLO_LIMIT == 4096
