"""Up and down apart: a link down that stays, and one up when there is something to send. What holds for one link holds
for two, and across a change from one to two and back."""

from __future__ import annotations

import asyncio
import socket
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from imcore._codec import ACK, GOAWAY, HELLO, JOIN, MSG, PING, PONG, WELCOME
from imcore.cli.relay import Relay
from imcore.client import Client, State, backoff, heartbeat
from imcore.client.connection import Channels
from imcore.errors import ConfigError, Unknown
from imcore.gateway.limits import Limits
from imcore.messages import GoAway, Hello, Welcome, pack, unpack
from tests.client import http_relays
from tests.client.peer import Conversation, first, peer, pong, run, until
from tests.gateway.running import run as run_gateway
from tests.gateway.running import running

pytestmark = pytest.mark.usefixtures("quick")

DATA_SEGS_IN = 152
"""Where Linux's `struct tcp_info` says how many segments with data have come."""


class Roles:
    """A script that plays another one for each role."""

    def __init__(self, up: Any, down: Any) -> None:
        self.scripts = {"up": up, "down": down}
        self.hellos: list[Hello] = []

    async def __call__(self, link: Conversation) -> None:
        frame = await link.expect(HELLO)
        hello = unpack(frame.body, Hello)
        self.hellos.append(hello)
        await self.scripts[hello.role](link, hello)

    @property
    def roles(self) -> list[str]:
        return [hello.role for hello in self.hellos]


def greet(
    link: Conversation, *, head: int = 0, first: int = 1, accepted: int = 0, heartbeat: tuple[int, int] = (30, 600)
) -> None:
    link.say(
        WELCOME, body=pack(Welcome("s", "alice", "peer", "e", head, first, True, accepted, heartbeat, 120, 65536, 0))
    )


async def quiet(link: Conversation, hello: Hello) -> None:
    greet(link)
    await pong(link)


def split(address: str, **more: Any) -> Client:
    return Client([address], "alice", "phone", **more)


def test_the_link_up_is_opened_when_there_is_something_to_send_and_closed_by_the_gateway(tmp_path: Path) -> None:
    async def work() -> None:
        async with (
            asyncio.timeout(20),
            running(tmp_path, limits=Limits(idle_s=1, drain_s=0.2)) as there,
            split(there.address) as im,
        ):
            await until(lambda: im.state is State.OPEN)
            assert [link.role for link in there.gateway.links("alice")] == ["down"]
            await until(lambda: im.up_state is State.IDLE)
            await im.send("note", b"1")
            assert sorted(str(link.role) for link in there.gateway.links("alice")) == ["down", "up"]
            assert im.up_state is State.OPEN
            await until(lambda: len(there.gateway.links("alice")) == 1)
            await until(lambda: im.up_state is State.IDLE)
            assert im.state is State.OPEN
            await im.send("note", b"2")
            assert [uplink.body for uplink in there.seen] == [b"1", b"2"]

    run_gateway(work())


def test_hello_and_the_first_messages_are_one_segment_when_the_count_is_known() -> None:
    heard: list[int] = []
    segments: list[int] = []

    async def up(link: Conversation, hello: Hello) -> None:
        heard.extend([(await link.expect(MSG)).id for _ in range(3)])  # before any WELCOME of this link
        if sys.platform == "linux":
            info = link.writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160)
            segments.append(int.from_bytes(info[DATA_SEGS_IN : DATA_SEGS_IN + 4], sys.byteorder))
        greet(link)
        for number in heard:
            link.say(ACK, number, body=bytes(8))
        await pong(link)

    async def work() -> None:
        async with asyncio.timeout(10), peer(Roles(up, quiet)) as address, split(address) as im:
            await until(lambda: im.state is State.OPEN)  # the link down told the count
            receipts = await asyncio.gather(*(im.send("r", b"x") for _ in range(3)))
            assert [receipt.id for receipt in receipts] == heard
            assert segments == [1] * (sys.platform == "linux")

    run(work())


def test_a_link_up_shows_no_signs_of_life_by_itself() -> None:
    frames: list[int] = []
    pings = 0

    async def up(link: Conversation, hello: Hello) -> None:
        greet(link, heartbeat=(1, 1))
        while (frame := await link.frame()) is not None:
            frames.append(frame.type)
            if frame.type == MSG:
                link.say(ACK, frame.id, body=bytes(8))
            elif frame.type == PING:
                link.say(PONG, frame.id)

    async def down(link: Conversation, hello: Hello) -> None:
        nonlocal pings
        greet(link, heartbeat=(1, 1))
        while (frame := await link.frame()) is not None:
            if frame.type == PING:
                pings += 1
                link.say(PONG, frame.id)

    async def work() -> None:
        async with asyncio.timeout(20), peer(Roles(up, down)) as address, split(address) as im:
            await im.send("r", b"x")
            before = pings
            await until(lambda: pings >= before + 2)  # the link down does
            assert frames == [MSG]

    run(work())


def test_a_link_up_that_died_unnoticed_costs_one_resend_and_no_error() -> None:
    numbers: list[list[int]] = []

    async def up(link: Conversation, hello: Hello) -> None:
        mine: list[int] = []
        numbers.append(mine)
        accepted = numbers[0][0] if len(numbers) > 1 else 0
        greet(link, accepted=accepted)
        while (frame := await link.frame()) is not None:
            if frame.type == MSG:
                mine.append(frame.id)
                if len(numbers) == 1 and len(mine) == 2:
                    return  # it had been dead all the time, but only now that shows
                link.say(ACK, frame.id, body=bytes(8))

    async def work() -> None:
        states: list[State] = []
        script = Roles(up, quiet)
        async with (
            asyncio.timeout(10),
            peer(script) as address,
            split(address, on_state=lambda state, _: states.append(state)) as im,
        ):
            await im.send("r", b"1")
            await im.send("r", b"2")
        assert numbers[0][1] == numbers[1][0]
        assert script.roles.count("up") == 2
        assert states == [State.CONNECTING, State.OPEN, State.CLOSED]

    run(work())


def test_a_silent_link_up_is_asked_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "PATIENCE_S", 0.2)
    links = 0

    async def up(link: Conversation, hello: Hello) -> None:
        nonlocal links
        links += 1
        greet(link)
        if links == 1:
            await link.rest()  # no answer, to nothing
        while (frame := await link.frame()) is not None:
            if frame.type == MSG:
                link.say(ACK, frame.id, body=bytes(8))
            elif frame.type == PING:
                link.say(PONG, frame.id)

    async def work() -> None:
        async with asyncio.timeout(10), peer(Roles(up, quiet)) as address, split(address) as im:
            await im.send("r", b"1")
        assert links == 2

    run(work())


async def confirms_and_has_one(link: Conversation, hello: Hello) -> None:
    """Each message that comes up; and the inbox has one."""
    greet(link)
    while (frame := await link.frame()) is not None:
        if frame.type == MSG:
            link.say(ACK, frame.id, body=(1).to_bytes(8))


def test_an_answer_to_what_went_up_shows_that_the_link_down_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "PATIENCE_S", 0.3)
    downs = 0

    async def down(link: Conversation, hello: Hello) -> None:
        nonlocal downs
        downs += 1
        greet(link, head=downs - 1)
        if downs == 1:
            link.say(PONG, (await link.expect(PING)).id, body=bytes(8))
            await link.rest()  # dead from here on; the next heartbeat is half a minute away
        link.say(MSG, 1, "r", b"here")
        await pong(link, 1)

    async def work() -> None:
        async with asyncio.timeout(5), peer(Roles(confirms_and_has_one, down)) as address, split(address) as im:
            await until(lambda: im.state is State.OPEN)
            await asyncio.sleep(0.1)
            await im.send("r", b"x")
            assert [message.body for message in await first(im, 1)] == [b"here"]

    run(work())


def test_answers_in_quick_succession_do_not_show_that_a_message_was_lost_on_its_way_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heartbeat, "OVERDUE_S", 60.0)

    async def down(link: Conversation, hello: Hello) -> None:
        greet(link)
        link.say(PONG, (await link.expect(PING)).id, body=bytes(8))
        for _ in range(3):
            link.say(PONG, (await link.expect(PING)).id, body=(1).to_bytes(8))
        link.say(MSG, 1, "r", b"here")
        await pong(link, 1)

    async def work() -> None:
        roles = Roles(confirms_and_has_one, down)
        async with asyncio.timeout(20), peer(roles) as address, split(address) as im:
            coming = asyncio.create_task(first(im, 1))
            while not coming.done():
                await im.send("r", b"x")
                await asyncio.sleep(0.01)
            assert [message.body for message in coming.result()] == [b"here"]
            assert sorted(roles.roles) == ["down", "up"], "one link each"

    run(work())


@pytest.mark.parametrize("receive", [True, False])
@pytest.mark.parametrize("http", [True, False], ids=["the tunnel", "two links"])
def test_what_finds_nobody_at_first_goes_up_when_somebody_is_there(receive: bool, http: bool, tmp_path: Path) -> None:
    async def work() -> None:
        async with asyncio.timeout(20), running(tmp_path) as there, Relay() as network:
            network.target = there.address
            point = f"http://{network.point}" if http else network.point
            async with Client([point], "alice", "phone", receive=receive) as im:
                await im.send("note", b"1")
                network.target = None
                network.cut()
                sending = asyncio.create_task(im.send("note", b"2"))
                await until(lambda: im.up_state is State.WAITING)
                network.target = there.address
                await sending
            assert [uplink.body for uplink in there.seen] == [b"1", b"2"]

    run_gateway(work())


def test_a_link_down_that_is_back_ends_the_pause_before_the_next_try_up(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = [60.0]
    monkeypatch.setattr(backoff.Backoff, "next", lambda self, least=0.0: pauses.pop() if pauses else least)
    ups = 0

    async def up(link: Conversation, hello: Hello) -> None:
        nonlocal ups
        ups += 1
        if ups > 1:
            greet(link)
            link.say(ACK, (await link.expect(MSG)).id, body=bytes(8))
            await pong(link)

    async def work() -> None:
        async with asyncio.timeout(20), peer(Roles(up, quiet)) as address, split(address) as im:
            await until(lambda: im.state is State.OPEN)
            sending = asyncio.create_task(im.send("r", b"x"))
            await until(lambda: im.up_state is State.WAITING)
            down = im._connection.down
            assert down is not None
            down.abort()
            await sending

    run(work())


def test_who_waits_in_vain_is_told_what_is_wrong_with_the_way_up() -> None:
    async def up(link: Conversation, hello: Hello) -> None:
        link.error("overloaded", "not now", 60_000)

    async def work() -> None:
        async with asyncio.timeout(10), peer(Roles(up, quiet)) as address, split(address) as im:
            im.warm()
            await until(lambda: im.up_state is State.WAITING)
            with pytest.raises(Unknown, match="overloaded: not now"):
                await im.send("r", b"x", timeout=0.1)
            assert im.state is State.OPEN
            assert im.up_state is State.WAITING

    run(work())


def test_rooms_are_joined_where_messages_come_down_and_published_to_where_they_go_up() -> None:
    said: list[tuple[str, int, bytes]] = []

    async def up(link: Conversation, hello: Hello) -> None:
        greet(link)
        while (frame := await link.frame()) is not None:
            if frame.type == MSG:
                said.append(("up", frame.flags, frame.body))
                link.say(ACK, frame.id)

    async def down(link: Conversation, hello: Hello) -> None:
        greet(link)
        while (frame := await link.frame()) is not None:
            if frame.type == JOIN:
                said.append(("down", frame.flags, frame.route.encode()))
                link.say(ACK, frame.id)
            elif frame.type == PING:
                link.say(PONG, frame.id)

    async def work() -> None:
        async with asyncio.timeout(5), peer(Roles(up, down)) as address, split(address) as im:
            await im.join("lobby")
            await im.publish("lobby", b"hello", confirm=True)
            await im.publish("lobby", b"again")
            await until(lambda: len(said) == 3)
        assert said == [("down", 0, b"lobby"), ("up", 2, b"hello"), ("up", 2, b"again")]

    run(work())


def test_goaway_moves_the_link_down_and_leaves_the_one_up() -> None:
    moved = asyncio.Event()

    async def up(link: Conversation, hello: Hello) -> None:
        greet(link)
        while (frame := await link.frame()) is not None:
            if frame.type == MSG:
                link.say(ACK, frame.id)
                link.say(GOAWAY, body=pack(GoAway("draining", 5000, 100)))

    async def down(link: Conversation, hello: Hello) -> None:
        greet(link)
        if moved.is_set():
            await pong(link)
        moved.set()
        link.say(GOAWAY, body=pack(GoAway("draining", 5000, 100)))
        await pong(link)

    async def work() -> None:
        script = Roles(up, down)
        async with asyncio.timeout(5), peer(script) as address, split(address) as im:
            await im.send("r", b"1")
            await im.send("r", b"2")
            await until(lambda: script.roles.count("down") == 2)
            await im.send("r", b"3")
            assert script.roles.count("up") == 1

    run(work())


WAYS: list[dict[str, Any]] = [{"channels": "single"}, {"channels": "split"}, {"http": True}]


@pytest.mark.parametrize("before", WAYS, ids=["one link", "two links", "the tunnel"])
@pytest.mark.parametrize("after", WAYS, ids=["one link", "two links", "the tunnel"])
def test_order_numbers_and_the_place_in_the_inbox_go_on_when_the_way_changes(
    before: dict[str, Any], after: dict[str, Any], tmp_path: Path
) -> None:
    def client(address: str, http: bool = False, **more: Any) -> Client:
        point = f"http://{address}" if http else address
        return Client([point], "alice", "phone", state=tmp_path / "state", outbox=tmp_path / "outbox", **more)

    async def work() -> None:
        async with asyncio.timeout(20), running(tmp_path / "data") as there:
            ids: list[int] = []
            for part, way in enumerate([before, after, before]):
                for number in range(5):
                    await there.service.push("alice", "news", b"%d" % (part * 5 + number), key=f"{part} {number}")
                async with client(there.address, **way) as im:
                    receipts = await asyncio.gather(*(im.send("note", b"%d" % (part * 5 + each)) for each in range(5)))
                    ids += [receipt.id for receipt in receipts]
                    messages = await first(im, 5)
                assert [message.body for message in messages] == [b"%d" % (part * 5 + number) for number in range(5)]
                assert all(message.gap is None for message in messages)
            assert ids == sorted(set(ids))
            assert [uplink.body for uplink in there.seen] == [b"%d" % number for number in range(15)]

    run_gateway(work())


def test_an_answer_that_comes_when_one_link_does_both_by_now_changes_nothing(tmp_path: Path) -> None:
    moved, released = asyncio.Event(), asyncio.Event()

    async def slow_up(proxy: http_relays.Relay, asked: http_relays.Asked, writer: asyncio.StreamWriter) -> bool:
        if b"role\xa2up" not in asked.body:
            return not moved.is_set() and await http_relays.streams(proxy, asked, writer)
        await moved.wait()  # it may come to the gateway behind the other link, and take over from it
        head, body = await http_relays.whole(proxy, asked)
        await released.wait()
        writer.write(http_relays.response(head, body))
        return True

    async def work() -> None:
        async with (
            asyncio.timeout(20),
            running(tmp_path) as there,
            Relay() as raw,
            http_relays.relay(there.address, slow_up) as (point, proxy),
            Client([raw.point, point], "alice", "phone", channels="single") as im,
        ):
            await until(lambda: im.state is State.OPEN)
            first_one = asyncio.create_task(im.send("note", b"1"))
            await until(lambda: any(b"role\xa2up" in asked.body for asked in proxy.asked))
            raw.target = there.address
            moved.set()
            down = im._connection.down
            assert down is not None
            down.abort()  # the next one is raw
            await first_one
            released.set()
            await asyncio.sleep(0.1)
            for number in (b"2", b"3"):
                await im.send("note", number, timeout=3)
            assert [uplink.body for uplink in there.seen] == [b"1", b"2", b"3"]

    run_gateway(work())


@pytest.mark.parametrize("channels", ["single", "split"])
def test_a_client_moves_between_the_tunnel_and_other_ways_as_they_come_and_go(
    channels: Channels, tmp_path: Path
) -> None:
    async def work() -> None:
        async with asyncio.timeout(40), running(tmp_path) as there, Relay() as raw, Relay() as http:
            http.target = there.address
            roles: set[str] = set()
            told: list[bytes] = []
            async with Client([raw.point, f"http://{http.point}"], "alice", "phone", channels=channels) as im:

                async def hear() -> None:
                    async for message in im:
                        told.append(message.body)
                        roles.update(str(link.role) for link in there.gateway.links("alice"))

                hearing = asyncio.create_task(hear())
                sent = 0
                for turn in range(6):
                    sending = []
                    for _ in range(20):
                        sending.append(asyncio.create_task(im.send("note", b"%d" % sent)))
                        await there.service.push("alice", "news", b"%d" % sent, key=str(sent))
                        sent += 1
                        await asyncio.sleep(0.002)
                    away, here = (http, raw) if turn % 2 == 0 else (raw, http)
                    here.target = there.address
                    away.target = None  # in the middle of it
                    away.cut()
                    await asyncio.gather(*sending)
                    await until(partial(lambda want: len(told) == want, sent))
                hearing.cancel()
            assert ("both" in roles) == (channels == "single")
            assert "down" in roles
            assert told == [b"%d" % number for number in range(sent)]
            assert [uplink.body for uplink in there.seen] == told

    run_gateway(work())


def test_what_is_warm_is_open_before_anything_is_sent(tmp_path: Path) -> None:
    """The wait for a connection at the first message is over before somebody has typed it."""

    async def work() -> None:
        roles = Roles(up=quiet, down=quiet)
        async with peer(roles) as address, split(address) as im:
            await until(lambda: im.state is State.OPEN)
            assert im.up_state is State.IDLE
            im.warm()
            await until(lambda: im.up_state is State.OPEN)
            im.warm()  # it is open
            await asyncio.sleep(0.05)
            assert roles.roles == ["down", "up"]

    run(work())


def test_formats_that_no_hello_can_carry_are_refused() -> None:
    for accepts in (["x" * 17], [""], ["x"] * 9):
        with pytest.raises(ConfigError, match="accepts: expected at most 8 names"):
            split("127.0.0.1:1", accepts=accepts)


def test_what_a_client_accepts_is_in_its_hello() -> None:
    async def work() -> None:
        roles = Roles(up=quiet, down=quiet)
        async with peer(roles) as address, split(address, accepts=["3", "2"]):
            await until(lambda: bool(roles.hellos))
            assert roles.hellos[0].accepts == ["3", "2"]

    run(work())
