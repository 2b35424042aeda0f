"""Heartbeats keep within the gateway's bounds, and patience follows the measured round trip."""

from __future__ import annotations

import socket
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imcore.client.backoff import FIRST_S, LIVED_S, MOST_S, Backoff
from imcore.client.heartbeat import OVERDUE_S, PATIENCE_S, Heartbeat, acknowledged, unsent
from imcore.ways.still import Still


@given(st.integers(1, 65535), st.integers(0, 65535), st.floats(0, 60))
def test_pings_keep_within_the_bounds_and_announce_the_next_sign_of_life(least: int, more: int, rtt: float) -> None:
    most = min(least + more, 65535)
    beat = Heartbeat(least, most, rtt)
    token, body = beat.ping(100.0)
    assert beat.pong(token, 100.0 + rtt)
    pause = beat.pause(100.0 + rtt)
    assert 0.8 * least <= pause <= 0.9 * most
    announced = int.from_bytes(body)
    assert announced >= min(pause, 65535)
    assert announced == 65535 or announced >= min(pause + PATIENCE_S - 1, 65535)


def test_patience_follows_the_round_trip() -> None:
    beat = Heartbeat(30, 600, 0.01)
    assert beat.patience == PATIENCE_S
    now = 0.0
    for _ in range(30):
        token, _ = beat.ping(now)
        now += 4.0
        assert beat.pong(token, now)
    assert beat.rtt == pytest.approx(4.0, rel=0.01)
    assert beat.patience == pytest.approx(20.0, rel=0.01)


def test_an_answer_is_overdue_later_on_a_slow_network_and_after_each_link_that_was_given_up_for_it() -> None:
    assert Heartbeat(30, 600, 0.01).overdue(0) == OVERDUE_S
    assert Heartbeat(30, 600, 2.0).overdue(0) == 10.0
    assert [Heartbeat(30, 600, 0.01).overdue(doubts) for doubts in (1, 2, 5, 9)] == [
        OVERDUE_S * factor for factor in (2, 4, 32, 32)
    ]


def test_between_pings_it_says_how_long_until_the_next() -> None:
    beat = Heartbeat(30, 30, 0.01)
    pause = beat.pause(100.0)
    assert beat.left(100.0) == pytest.approx(pause)
    assert beat.left(101.0) == pytest.approx(pause - 1)


def test_it_follows_what_the_network_stands_within_the_gateways_bounds() -> None:
    beat = Heartbeat(30, 600, 0.01)
    for holds_s, most_s in ((300.0, 300.0), (2000.0, 600.0), (5.0, 30.0)):
        beat.follow(Still(holds_s=holds_s))
        assert 0.8 * most_s <= beat.pause(0.0) <= 0.9 * most_s


def test_a_silence_is_from_one_answer_to_the_next_ping_and_a_sleep_is_none() -> None:
    beat = Heartbeat(30, 600, 0.1)
    beat.ping(0.0)
    assert beat.silence == 0, "nothing was answered before"
    assert beat.pong(1, 0.1)
    beat.ping(25.1)
    assert beat.silence == 25.0
    assert beat.pong(2, 25.2)
    beat.ping(3625.2)
    assert beat.silence == 0


def test_only_the_last_ping_is_answered_and_once() -> None:
    beat = Heartbeat(30, 600, 0.1)
    old, _ = beat.ping(0.0)
    new, _ = beat.ping(1.0)
    assert not beat.pong(old, 1.1)
    assert beat.waiting
    assert beat.pong(new, 1.1)
    assert not beat.pong(new, 1.2)


def test_a_push_is_lost_when_the_head_is_ahead_twice_with_a_while_between_in_which_nothing_came() -> None:
    beat = Heartbeat(30, 600, 0.1)
    assert not beat.doubt(5, 10.0)
    assert not beat.doubt(6, 20.0)
    assert not beat.doubt(6, 20.9), "asked again at once, it is on its way"
    assert beat.doubt(6, 21.1)
    beat.trust()
    assert not beat.doubt(6, 30.0)


def test_the_kernel_tells_what_is_on_its_way() -> None:
    left, right = socket.socketpair()
    with left, right:
        assert unsent(left.fileno()) == 0
        left.send(bytes(1000))
        if unsent(left.fileno()):  # where it can be asked
            right.recv(1000)
            assert unsent(left.fileno()) == 0
    assert unsent(-1) == 0


@pytest.mark.platform
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel can't be asked what was acknowledged")
def test_the_kernel_tells_how_much_was_acknowledged_while_more_is_on_its_way() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as left:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        left.connect(server.getsockname())
        right, _ = server.accept()
        with right:
            assert acknowledged(left.fileno()) <= 1  # the connection itself counts as one
            left.setblocking(False)
            sent = left.send(bytes(1 << 20))
            while acknowledged(left.fileno()) < 2048:
                pass
            before = acknowledged(left.fileno())
            assert 1 < before < sent
            right.recv(1 << 16, socket.MSG_WAITALL)
            while before == acknowledged(left.fileno()):
                pass
            assert acknowledged(left.fileno()) > before
    assert acknowledged(-1) == 0


def test_back_off_is_jittered_from_the_first_retry_doubles_and_ends_at_its_most() -> None:
    waits = [Backoff().next() for _ in range(200)]
    assert 0 <= min(waits) < FIRST_S / 4
    assert FIRST_S * 3 / 4 < max(waits) <= FIRST_S
    backoff = Backoff()
    for n in range(12):
        assert backoff.next(1.0) <= 1.0 + min(FIRST_S * 2**n, MOST_S)
    assert max(backoff.next() for _ in range(100)) > MOST_S / 2


def test_back_off_follows_advice() -> None:
    backoff = Backoff()
    for _ in range(12):
        backoff.next()
    backoff.follow(0.1, 2.0)
    assert max(backoff.next() for _ in range(100)) <= 2.0
    backoff.lived(LIVED_S)
    assert backoff.next() <= 0.1
    backoff.follow(5.0, 60.0)
    assert max(backoff.next() for _ in range(100)) > 5.0


def test_a_link_that_lived_begins_the_back_off_anew_and_one_that_did_not_does_not() -> None:
    backoff = Backoff()
    for _ in range(10):
        backoff.next()
    backoff.lived(LIVED_S / 2)
    assert max(backoff.next() for _ in range(50)) > 1.0
    backoff.lived(LIVED_S)
    assert backoff.next() <= FIRST_S
