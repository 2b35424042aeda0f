"""The gateway as an independent client meets it (wire: "The life of a link")."""

from __future__ import annotations

import asyncio
import gc
import json
import struct
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest

from imcore.errors import EngineError, Unauthorized
from imcore.gateway.limits import Limits
from imcore.gateway.link import ServerLink
from imcore.gateway.uplink import Up
from tests.gateway.running import Running, run, running, until
from tests.gateway.wire import (
    ACK,
    DUP,
    ERROR,
    FAILED,
    GOAWAY,
    HELLO,
    JOIN,
    LEAVE,
    MSG,
    PAD,
    PING,
    PONG,
    ROOM,
    WELCOME,
    Wire,
    frame,
    hello,
)


def chat(to: str, text: str) -> bytes:
    return json.dumps({"to": to, "text": text}).encode()


@pytest.fixture(params=[True, False], ids=["epoll", "transports"])
def native(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


class TestHello:
    def test_welcome_says_where_the_device_stands(self, tmp_path: Path, native: bool) -> None:
        async def main() -> None:
            async with running(tmp_path, native=native) as here, Wire(here.address) as wire:
                welcome = await wire.greet("alice")
                assert welcome["user"] == "alice"
                assert welcome["node"] == "test"
                assert (welcome["head"], welcome["first"], welcome["accepted"]) == (0, 1, 0)
                assert welcome["resumed"] is True
                assert welcome["heartbeat"] == [30, 600]
                assert (welcome["idle_s"], welcome["max_frame"]) == (120, 65536)
                assert welcome["session"]
                assert welcome["epoch"]

        run(main())

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"token": ""}, "unauthorized"),
            ({"token": "x" * 2049}, "bad_hello"),
            ({"token": 7}, "bad_hello"),
            ({"device": "d" * 65}, "bad_hello"),
            ({"role": "sideways"}, "bad_hello"),
            ({"resume": {"epoch": "e"}}, "bad_hello"),
            ({"resume": {"epoch": "e", "seq": -1}}, "bad_hello"),
            ({"accepts": ["x"] * 9}, "bad_hello"),
            ({"accepts": ["x" * 17]}, "bad_hello"),
            ({"fresh": "middle"}, "bad_hello"),
        ],
    )
    def test_a_wrong_map_is_named(self, tmp_path: Path, change: dict[str, Any], code: str) -> None:
        async def main() -> None:
            async with running(tmp_path) as here, Wire(here.address) as wire:
                wire.say(hello(**change))
                got = await wire.hear()
                assert got.type == ERROR
                assert got.map["code"] == code
                assert got.map["retry_ms"] is None
                await wire.hear_end()

        run(main())

    @pytest.mark.parametrize("body", [b"", b"\xc1", b"\x93\x01\x02\x03", b"\x81\xa5token", b"\xff" * 100])
    def test_a_body_that_is_no_map_is_bad_hello(self, tmp_path: Path, body: bytes) -> None:
        async def main() -> None:
            async with running(tmp_path) as here, Wire(here.address) as wire:
                wire.say(frame(HELLO, body=body))
                assert (await wire.hear()).map["code"] == "bad_hello"

        run(main())

    def test_unknown_keys_are_ignored(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with running(tmp_path) as here, Wire(here.address) as wire:
                await wire.greet("alice", colour="blue")

        run(main())

    def test_a_silent_or_dribbling_connection_is_told_timeout(self, tmp_path: Path) -> None:
        async def main() -> None:
            limits = Limits(handshake_s=0.4, drain_s=0)
            async with (
                running(tmp_path, limits=limits) as here,
                Wire(here.address) as silent,
                Wire(here.address) as slow,
            ):
                for byte in hello()[:12]:
                    slow.say(bytes([byte]))
                    await asyncio.sleep(0.05)
                for wire in (silent, slow):
                    got = await wire.hear()
                    assert (got.type, got.map["code"]) == (ERROR, "timeout")
                    await wire.hear_end()

        run(main())

    @pytest.mark.parametrize(
        ("first", "code"),
        [
            (frame(MSG, 1, "note", b"x"), "bad_frame"),
            (frame(PING), "bad_frame"),
            (frame(WELCOME), "bad_frame"),
            (b"\xa2" + bytes(15), "version"),
            (b"\xa1\x01\x00\x00" + struct.pack(">IQ", 4097, 0), "too_large"),
            (b"\xa1\x01\x00\x00" + struct.pack(">IQ", 0x80000010, 0), "too_large"),
            (b"\xa1\x0c\x00\x00" + bytes(12), "bad_frame"),
            (b"\xa1\x01\x08\x00" + bytes(12), "bad_frame"),
            (b"\xa1\x01\x00\x05" + struct.pack(">IQ", 4, 0), "bad_frame"),
        ],
    )
    def test_what_may_not_come_first_is_named(self, tmp_path: Path, first: bytes, code: str) -> None:
        async def main() -> None:
            async with running(tmp_path) as here, Wire(here.address) as wire:
                wire.say(first)
                got = await wire.hear()
                assert (got.type, got.map["code"]) == (ERROR, code)
                await wire.hear_end()

        run(main())

    def test_frames_behind_hello_in_the_same_segment_are_taken_under_the_new_limit(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with running(tmp_path) as here, Wire(here.address) as wire:
                body = b"x" * 60_000
                wire.say(hello() + frame(MSG, 1, "note", body) + frame(MSG, 2, "note", b"y"))
                assert [(await wire.hear()).type for _ in range(3)] == [WELCOME, ACK, ACK]
                await until(lambda: len(here.seen) == 2)
                assert [message.body for message in here.seen] == [body, b"y"]

        run(main())

    def test_one_hello_a_link(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with running(tmp_path) as here, Wire(here.address) as wire:
                await wire.greet()
                wire.say(hello())
                assert (await wire.hear()).map["code"] == "bad_frame"

        run(main())

    def test_an_authenticator_that_waits_and_says_no(self, tmp_path: Path) -> None:
        async def slow(token: str) -> str:
            await asyncio.sleep(0.01)
            if token != "right":
                raise Unauthorized("past its time", "expired")
            return "carol"

        async def main() -> None:
            async with running(tmp_path, authenticate=slow) as here:
                async with Wire(here.address) as wire:
                    assert (await wire.greet("right"))["user"] == "carol"
                async with Wire(here.address) as wire:
                    wire.say(hello("wrong"))
                    assert (await wire.hear()).map["code"] == "expired"

        run(main())

    def test_what_fails_inside_is_told_as_internal_and_costs_one_link(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def main() -> None:
            async with running(tmp_path) as here:
                with monkeypatch.context() as broken:
                    broken.setattr(here.gateway, "_moves", {})
                    async with Wire(here.address) as wire:
                        wire.say(hello())
                        got = await wire.hear()
                        assert (got.type, got.map["code"], got.map["retry_ms"]) == (ERROR, "internal", 1000)
                        await wire.hear_end()
                async with Wire(here.address) as wire:
                    await wire.greet()

        run(main())


class TestMessages:
    def test_a_message_goes_the_whole_way(self, tmp_path: Path, native: bool) -> None:
        async def main() -> None:
            async with running(tmp_path, native=native) as here, Wire(here.address) as alice, Wire(here.address) as bob:
                await alice.greet("alice")
                await bob.greet("bob")
                alice.say(frame(MSG, 1, "chat", chat("bob", "hello")))
                got = await alice.hear()
                assert (got.type, got.id, got.flags, got.body) == (ACK, 1, 0, b"")
                got = await bob.hear()
                assert (got.type, got.id, got.route) == (MSG, 1, "chat")
                assert json.loads(got.body) == {"from": "alice", "text": "hello"}
                bob.say(frame(ACK, 1))
                await bob.quiet()

        run(main())

    def test_repeats_are_answered_and_not_processed_again(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with running(tmp_path) as here, Wire(here.address) as wire:
                await wire.greet()
                wire.say(*(frame(MSG, id, "note", b"%d" % id) for id in (3, 5)))
                wire.say(*(frame(MSG, id, "note", b"again", DUP) for id in (3, 4, 5)), frame(MSG, 6, "note", b"6"))
                assert [(got.type, got.id) for got in [await wire.hear() for _ in range(6)]] == [
                    (ACK, id) for id in (3, 5, 3, 4, 5, 6)
                ]
                await until(lambda: len(here.seen) == 3)
                assert [message.id for message in here.seen] == [3, 5, 6]
            async with running(tmp_path) as here, Wire(here.address) as wire:
                assert (await wire.greet())["accepted"] == 6

        run(main())

    def test_behind_a_refusal_everything_waits_until_it_is_given_up(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with running(tmp_path) as here, Wire(here.address) as wire:
                await wire.greet()
                wire.say(*(frame(MSG, id, route, b"x") for id, route in ((1, "note"), (2, "nowhere"), (3, "note"))))
                one, two, three = [await wire.hear() for _ in range(3)]
                assert (one.id, one.flags) == (1, 0)
                assert (two.id, two.flags, two.map["code"], two.map["retry_ms"]) == (2, FAILED, "no_route", None)
                assert "note" in two.map["text"]
                assert (three.id, three.flags, three.map["retry_ms"]) == (3, FAILED, 0)
                wire.say(
                    frame(MSG, 1, "note", b"repeat", DUP), frame(MSG, 2, flags=FAILED), frame(MSG, 3, "note", b"3")
                )
                assert [(got.id, got.flags) for got in [await wire.hear() for _ in range(3)]] == [
                    (1, 0),
                    (2, 0),
                    (3, 0),
                ]
                await until(lambda: len(here.seen) == 2)
                assert [message.id for message in here.seen] == [1, 3]

        run(main())

    @pytest.mark.parametrize(
        "body", [b"", b"junk", b"[]", b'{"to": "bob"}', b'{"to": 7, "text": "x"}', b'{"to": "", "text": "x"}']
    )
    def test_chat_refuses_what_it_does_not_expect_and_says_what_it_does(self, tmp_path: Path, body: bytes) -> None:
        async def main() -> None:
            async with running(tmp_path) as here, Wire(here.address) as wire:
                await wire.greet()
                wire.say(frame(MSG, 1, "chat", body))
                got = await wire.hear()
                assert (got.type, got.id, got.flags) == (ACK, 1, FAILED)
                assert '"to"' in got.map["text"]
                assert '"text"' in got.map["text"]
                assert got.map["retry_ms"] is None

        run(main())

    @pytest.mark.parametrize(
        "wrong",
        [
            frame(MSG, 0, "note", b"x"),
            frame(ACK, 1),
            frame(WELCOME),
            frame(GOAWAY),
            frame(MSG, 1, "", b"x", FAILED),
            frame(MSG, 1, "room", b"x", ROOM | FAILED),
            frame(PING, 1, "", b"x"),
            frame(PAD, body=bytes(4097)),
            b"\xa1\x05\x00\x00" + struct.pack(">IQ", 65537, 1),
        ],
    )
    def test_what_may_not_come_ends_the_link_with_its_code(self, tmp_path: Path, wrong: bytes) -> None:
        async def main() -> None:
            async with running(tmp_path) as here, Wire(here.address) as wire:
                await wire.greet()
                wire.say(wrong)
                got = await wire.hear()
                assert got.type == ERROR
                assert got.map["code"] in ("bad_frame", "too_large")
                await wire.hear_end()

        run(main())

    @pytest.mark.parametrize(
        ("role", "wrong"), [("up", frame(JOIN, 1, "r")), ("up", frame(ACK, 0)), ("down", frame(MSG, 1, "note"))]
    )
    def test_a_role_bounds_what_may_come(self, tmp_path: Path, role: str, wrong: bytes) -> None:
        async def main() -> None:
            async with running(tmp_path) as here, Wire(here.address) as wire:
                await wire.greet(role=role)
                wire.say(wrong)
                assert (await wire.hear()).map["code"] == "bad_frame"

        run(main())

    def test_an_uplink_is_told_the_inbox_number_with_each_ack(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with running(tmp_path) as here, Wire(here.address) as up, Wire(here.address) as down:
                await down.greet(role="down")
                await up.greet(role="up")
                await here.service.push("alice", "chat", b"x")
                up.say(frame(MSG, 1, "note", b"x"))
                got = await up.hear()
                assert (got.type, got.id, got.body) == (ACK, 1, struct.pack(">Q", 1))
                assert (await down.hear()).id == 1  # and the two links stand beside each other
                down.say(frame(PING, 9))
                assert (await down.hear())[:3] == (PONG, 0, 9)

        run(main())


class TestDelivery:
    def test_what_came_while_away_follows_in_order_then_what_is_live(self, tmp_path: Path, native: bool) -> None:
        async def main() -> None:
            async with running(tmp_path, native=native) as here:
                for n in range(300):  # more than a window
                    await here.service.push("bob", "chat", b"%d" % n)
                async with Wire(here.address) as bob:
                    welcome = await bob.greet("bob")
                    assert (welcome["head"], welcome["first"], welcome["resumed"]) == (300, 1, True)
                    for n in range(300):
                        got = await bob.hear()
                        assert (got.type, got.id, got.body) == (MSG, n + 1, b"%d" % n)
                        bob.say(frame(ACK, got.id))
                    await here.service.push("bob", "chat", b"live")
                    assert (await bob.hear()).body == b"live"

        run(main())

    def test_a_window_bounds_what_is_sent_unacknowledged(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with running(tmp_path, limits=Limits(window=3, drain_s=0)) as here, Wire(here.address) as bob:
                await bob.greet("bob")
                for n in range(10):
                    await here.service.push("bob", "chat", b"%d" % n)
                assert [(await bob.hear()).id for _ in range(3)] == [1, 2, 3]
                await bob.quiet()
                bob.say(frame(ACK, 2))
                assert [(await bob.hear()).id for _ in range(2)] == [4, 5]
                await bob.quiet()

        run(main())

    def test_resume_goes_on_behind_its_point_and_so_does_a_remembered_device(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with running(tmp_path) as here:
                async with Wire(here.address) as bob:
                    epoch = (await bob.greet("bob"))["epoch"]
                    for n in range(5):
                        await here.service.push("bob", "chat", b"%d" % n)
                    assert [(await bob.hear()).id for _ in range(5)] == [1, 2, 3, 4, 5]
                    bob.say(frame(ACK, 2), frame(PING))
                    await bob.hear()
                async with Wire(here.address) as bob:  # no resume point: behind what it acknowledged
                    assert (await bob.greet("bob"))["first"] == 3
                    assert (await bob.hear()).id == 3
                async with Wire(here.address) as bob:
                    welcome = await bob.greet("bob", resume={"epoch": epoch, "seq": 4})
                    assert (welcome["first"], welcome["resumed"]) == (5, True)
                    assert (await bob.hear()).id == 5
                for point in ({"epoch": "other", "seq": 4}, {"epoch": epoch, "seq": 6}):
                    async with Wire(here.address) as bob:
                        welcome = await bob.greet("bob", device=f"d{point['seq']}", resume=point)
                        assert welcome["resumed"] is False
                        assert (await bob.hear()).id == welcome["first"]

        run(main())

    def test_the_window_counts_from_where_the_link_began(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with running(tmp_path, limits=Limits(window=2, drain_s=0)) as here:
                async with Wire(here.address) as bob:
                    await bob.greet("bob")
                    for n in range(9):
                        await here.service.push("bob", "chat", b"%d" % n)
                        bob.say(frame(ACK, (await bob.hear()).id))
                    bob.say(frame(PING))
                    await bob.hear()
                async with Wire(here.address) as bob:
                    assert (await bob.greet("bob"))["first"] == 10
                    for n in range(3):
                        await here.service.push("bob", "chat", b"%d" % n)
                    assert [(await bob.hear()).id for _ in range(2)] == [10, 11]
                    await bob.quiet()

        run(main())

    def test_a_fresh_device_begins_where_it_asks(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with running(tmp_path) as here, Wire(here.address) as first:
                await first.greet("bob", device="first")
                for n in range(3):
                    await here.service.push("bob", "chat", b"%d" % n)
                async with Wire(here.address) as head:
                    assert (await head.greet("bob", device="head", fresh="head"))["first"] == 4
                    await head.quiet()
                async with Wire(here.address) as oldest:
                    assert (await oldest.greet("bob", device="oldest"))["first"] == 1

        run(main())

    def test_every_device_of_a_user_gets_its_copy(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with running(tmp_path) as here, Wire(here.address) as phone, Wire(here.address) as desk:
                await phone.greet("bob", device="phone")
                await desk.greet("bob", device="desk")
                await here.service.push("bob", "chat", b"x")
                assert (await phone.hear()).id == (await desk.hear()).id == 1

        run(main())

    def test_a_newer_link_of_the_device_takes_over(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with running(tmp_path) as here, Wire(here.address) as old, Wire(here.address) as new:
                await old.greet("bob")
                await new.greet("bob")
                got = await old.hear()
                assert (got.type, got.map["code"], got.map["retry_ms"]) == (ERROR, "superseded", None)
                await old.hear_end()
                await here.service.push("bob", "chat", b"x")
                assert (await new.hear()).id == 1

        run(main())

    def test_the_last_of_many_links_of_one_device_stays(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with running(tmp_path) as here:
                wires = [Wire(here.address) for _ in range(20)]
                for wire in wires:
                    await wire.__aenter__()
                    wire.say(hello("bob"))  # not waiting for the answers
                    await asyncio.sleep(0)
                await asyncio.sleep(0.3)
                await here.service.push("bob", "chat", b"x")
                delivered = 0
                for wire in wires:
                    got = await wire.hear()
                    if got.type == WELCOME:
                        got = await wire.hear()
                    delivered += got.type == MSG
                    assert got.type == MSG or got.map["code"] == "superseded"
                    await wire.__aexit__(None, None, None)
                assert delivered == 1

        run(main())


class TestHeartbeat:
    def test_a_ping_is_answered_with_its_token_and_the_head(self, tmp_path: Path, native: bool) -> None:
        async def main() -> None:
            async with running(tmp_path, native=native) as here, Wire(here.address) as wire:
                await wire.greet()
                wire.say(frame(PING, 2**64 - 1), frame(PAD, body=b"z" * 4096), frame(PONG, 3))
                got = await wire.hear()
                assert (got.type, got.id, got.body) == (PONG, 2**64 - 1, struct.pack(">Q", 0))

        run(main())

    def test_silence_beyond_what_was_promised_ends_the_link(self, tmp_path: Path) -> None:
        async def main() -> None:
            limits = Limits(heartbeat=(1, 60), drain_s=0)
            async with running(tmp_path, limits=limits) as here, Wire(here.address) as wire:
                await wire.greet()
                wire.say(frame(PING, 1, body=struct.pack(">H", 1)))
                assert (await wire.hear()).type == PONG
                began = asyncio.get_running_loop().time()
                got = await wire.hear()
                assert got.map["code"] == "timeout"
                assert 1.4 < asyncio.get_running_loop().time() - began < 3

        run(main())

    def test_an_idle_uplink_is_closed_without_a_word(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with running(tmp_path, limits=Limits(idle_s=1, drain_s=0)) as here, Wire(here.address) as wire:
                await wire.greet(role="up")
                await wire.hear_end()

        run(main())


class TestRooms:
    def test_members_hear_services_and_each_other(self, tmp_path: Path, native: bool) -> None:
        async def main() -> None:
            async with running(tmp_path, native=native) as here, Wire(here.address) as alice, Wire(here.address) as bob:
                for wire, user in ((alice, "alice"), (bob, "bob")):
                    await wire.greet(user)
                    wire.say(frame(JOIN, 7, "lobby"))
                    assert (await wire.hear())[:3] == (ACK, 0, 7)
                await here.service.broadcast("lobby", b"welcome")
                for wire in (alice, bob):
                    assert await wire.hear() == (MSG, ROOM, 0, "lobby", b"welcome")
                alice.say(frame(MSG, 0, "lobby", b"hi", ROOM), frame(MSG, 11, "lobby", b"there", ROOM))
                for wire in (alice, bob):
                    heard = [await wire.hear() for _ in range(3 if wire is alice else 2)]
                    assert [got.body for got in heard if got.type == MSG] == [b"hi", b"there"]
                    assert [got.id for got in heard if got.type == ACK] == ([11] if wire is alice else [])
                bob.say(frame(LEAVE, 8, "lobby"))
                assert (await bob.hear())[:3] == (ACK, 0, 8)
                alice.say(frame(MSG, 0, "lobby", b"alone", ROOM))
                assert (await alice.hear()).body == b"alone"
                await bob.quiet()
            assert len(here.gateway.rooms) == 0

        run(main())

    def test_only_members_may_publish(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with running(tmp_path) as here, Wire(here.address) as alice, Wire(here.address) as bob:
                await alice.greet("alice")
                await bob.greet("bob")
                bob.say(frame(JOIN, 1, "lobby"))
                await bob.hear()
                alice.say(frame(MSG, 5, "lobby", b"x", ROOM), frame(MSG, 0, "lobby", b"x", ROOM))
                got = await alice.hear()
                assert (got.type, got.id, got.flags) == (ACK, 5, FAILED)
                assert "JOIN" in got.map["text"]
                await alice.quiet()
                await bob.quiet()

        run(main())

    def test_where_only_services_publish_members_may_not(self, tmp_path: Path) -> None:
        async def main() -> None:
            limits = Limits(publish="none", drain_s=0)
            async with running(tmp_path, limits=limits) as here, Wire(here.address) as alice:
                await alice.greet("alice")
                alice.say(frame(JOIN, 1, "lobby"), frame(MSG, 5, "lobby", b"x", ROOM))
                assert (await alice.hear()).flags == 0
                assert (await alice.hear()).flags == FAILED
                await here.service.broadcast("lobby", b"news")
                assert (await alice.hear()).body == b"news"

        run(main())

    def test_a_link_is_in_a_bounded_number_of_rooms(self, tmp_path: Path) -> None:
        async def main() -> None:
            limits = Limits(rooms_per_link=2, drain_s=0)
            async with running(tmp_path, limits=limits) as here, Wire(here.address) as wire:
                await wire.greet()
                wire.say(*(frame(JOIN, n, f"r{n}") for n in (1, 2, 3)), frame(JOIN, 4, "r1"), frame(JOIN, 5, ""))
                flags = {got.id: got.flags for got in [await wire.hear() for _ in range(5)]}
                assert flags == {1: 0, 2: 0, 3: FAILED, 4: 0, 5: FAILED}

        run(main())

    def test_an_uplink_publishes_where_its_device_listens(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with running(tmp_path) as here, Wire(here.address) as up, Wire(here.address) as down:
                await up.greet(role="up")
                await down.greet(role="down")
                up.say(frame(MSG, 1, "lobby", b"early", ROOM))
                assert (await up.hear()).flags == FAILED
                down.say(frame(JOIN, 1, "lobby"))
                await down.hear()
                up.say(frame(MSG, 2, "lobby", b"now", ROOM))
                assert (await up.hear()).flags == 0
                assert (await down.hear()).body == b"now"

        run(main())


class TestEnd:
    def test_a_drain_asks_links_to_leave_and_new_ones_to_go_elsewhere(self, tmp_path: Path) -> None:
        async def main() -> None:
            wire = Wire("127.0.0.1:0")
            async with running(tmp_path, limits=Limits(drain_s=2, spread_s=3)) as here:
                wire = Wire(here.address)
                await wire.__aenter__()
                await wire.greet()
                drain = asyncio.create_task(here.gateway.drain())
                got = await wire.hear()
                assert (got.type, got.map["drain_ms"], got.map["spread_ms"]) == (GOAWAY, 2000, 3000)
                await wire.__aexit__(None, None, None)
                async with asyncio.timeout(1):  # it ends with the last link, not with the time
                    await drain

        run(main())

    def test_who_waits_for_welcome_when_a_drain_begins_is_told_to_go_elsewhere(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not asked to leave: GOAWAY may not come before WELCOME."""

        async def main() -> None:
            async with running(tmp_path, limits=Limits(drain_s=2)) as here, Wire(here.address) as wire:
                begun, never = asyncio.Event(), asyncio.Event()

                async def opens(*args: object, **more: object) -> NoReturn:
                    begun.set()
                    await never.wait()
                    raise EngineError("too late")

                monkeypatch.setattr(here.bus.inbox, "open", opens)
                wire.say(hello("bob"))
                await begun.wait()
                await here.gateway.drain()
                got = await wire.hear()
                assert (got.type, got.map["code"], got.map["retry_ms"]) == (ERROR, "draining", 0)
                await wire.hear_end()
                never.set()

        run(main())

    def test_the_clients_error_ends_the_link(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with running(tmp_path) as here, Wire(here.address) as wire:
                await wire.greet()
                wire.say(frame(ERROR, body=msgspec.msgpack.encode({"code": "internal", "text": "", "retry_ms": None})))
                await wire.hear_end()
                await until(lambda: here.gateway.hub.links == 0)

        run(main())

    def test_the_last_word_reaches_a_client_that_is_still_talking(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with running(tmp_path) as here, Wire(here.address) as wire:
                await wire.greet()
                wire.say(frame(MSG, 0, "note", b"x"), *(frame(MSG, n, "note", bytes(30_000)) for n in range(1, 200)))
                got = await wire.hear()
                assert (got.type, got.map["code"]) == (ERROR, "bad_frame")

        run(main())


def test_nothing_is_left_of_links_that_came_and_went(tmp_path: Path) -> None:
    async def visit(here: Running, n: int) -> None:
        async with Wire(here.address) as wire:
            await wire.greet(f"u{n % 7}", device=f"d{n % 3}")
            wire.say(frame(JOIN, 1, f"r{n % 5}"))

    async def main() -> None:
        async with running(tmp_path) as here:
            for start in range(0, 200, 20):
                await asyncio.gather(*(visit(here, n) for n in range(start, start + 20)))
            await until(lambda: here.gateway.hub.links == 0)
            assert len(here.gateway.rooms) == 0
            assert here.gateway.users == 0

    run(main())


def test_what_a_link_leaves_is_nothing_for_the_collector(tmp_path: Path) -> None:
    """`imcore serve` has the collector leave alone what has lived for a while."""

    async def main() -> None:
        async with running(tmp_path) as here:
            gc.collect()
            gc.disable()
            try:
                async with Wire(here.address) as wire:
                    await wire.greet("bob")
                    wire.say(frame(JOIN, 1, "r"), frame(MSG, 1, "chat", chat("bob", "hi")), frame(MSG, 2, "nowhere"))
                    got = {(await wire.hear()).type for _ in range(4)}
                    assert got == {ACK, MSG}
                    assert [each for each in gc.get_objects() if isinstance(each, ServerLink | Up)]
                await until(lambda: here.gateway.users == 0)
                await asyncio.sleep(0.1)
                assert not [each for each in gc.get_objects() if isinstance(each, ServerLink | Up)]
            finally:
                gc.enable()

    run(main())
