"""How a client stays connected, and when it stops coming back."""

from __future__ import annotations

import asyncio
import socket
import sys

import pytest

from imcore._codec import ACK, ERROR, GOAWAY, HELLO, MSG, PING, PONG
from imcore.client import Client, State, heartbeat, opening
from imcore.errors import LinkClosed, LocalError, Unknown
from imcore.messages import Error, GoAway, Hello, Resume, pack, unpack
from tests.client.peer import NOWHERE, Conversation, accept, device, first, idle, peer, pong, run, until, with_client

pytestmark = pytest.mark.usefixtures("quick")


class TestEndings:
    @pytest.mark.parametrize(
        ("code", "advice"),
        [
            ("unauthorized", "check the token"),
            ("expired", "get a new token"),
            ("superseded", "give each one a name"),
            ("kicked", "does not want this device"),
            ("version", "update this client"),
            ("bad_hello", "check token and device"),
        ],
    )
    @pytest.mark.parametrize("welcomed", [False, True])
    def test_what_makes_no_sense_to_repeat_ends_the_client_with_advice(
        self, code: str, advice: str, welcomed: bool
    ) -> None:
        links = 0

        async def end(link: Conversation) -> None:
            nonlocal links
            links += 1
            if welcomed:
                await link.welcome()
            else:
                await link.expect(HELLO)
            link.error(code, "no")
            await link.rest()

        @with_client(end)
        async def _(im: Client) -> None:
            for _ in range(2):
                with pytest.raises(LinkClosed, match=f"{code}: no: .*{advice}"):
                    await first(im, 1)
            with pytest.raises(LinkClosed, match=code):
                await im.send("chat", b"x")
            with pytest.raises(LinkClosed, match=code):
                await im.join("lobby")
            assert im.state is State.CLOSED
            assert advice in im.state_text

        assert links == 1

    def test_what_was_sent_by_then_is_unknown_and_what_was_not_is_told_why(self) -> None:
        async def end(link: Conversation) -> None:
            await link.welcome()
            for _ in range(64):
                await link.expect(MSG)
            link.error("kicked")

        @with_client(end)
        async def _(im: Client) -> None:
            sends = [asyncio.create_task(im.send("chat", b"x")) for _ in range(70)]
            outcomes = await asyncio.gather(*sends, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [Unknown] * 64 + [LinkClosed] * 6

    @pytest.mark.parametrize("code", ["overloaded", "slow", "internal", "draining", "superseded"])
    def test_an_error_with_a_time_is_a_wait(self, code: str) -> None:
        async def busy(link: Conversation) -> None:
            await link.expect(HELLO)
            link.error(code, "later", 200)

        @with_client(busy, accept)
        async def _(im: Client) -> None:
            began = asyncio.get_running_loop().time()
            await im.send("chat", b"x")
            assert asyncio.get_running_loop().time() - began >= 0.2

    def test_a_callable_token_is_asked_anew_and_refused_only_twice_in_a_row(self) -> None:
        tokens = iter(["old", "new", "bad", "worse"])
        seen = []

        async def token() -> str:
            await asyncio.sleep(0)
            return next(tokens)

        async def check(link: Conversation) -> None:
            hello = unpack((await link.expect(HELLO)).body, Hello)
            seen.append(hello.token)
            link.error("expired", "too old")

        async def good(link: Conversation) -> None:
            seen.append((await link.welcome()).token)
            link.say(ACK, (await link.expect(MSG)).id)

        async def work() -> None:
            async with peer(check, good, check) as address, Client([address], token, "phone", channels="single") as im:
                await im.send("chat", b"x")
                with pytest.raises(LinkClosed, match="expired"):
                    await first(im, 1)

        run(work())
        assert seen == ["old", "new", "bad", "worse"]

    @pytest.mark.parametrize(
        "nonsense",
        [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xa1\x05" + bytes(14), b"\xa1\x02\0\0\0\0\0\x01" + bytes(8) + b"\xc0"],
    )
    def test_an_other_side_that_breaks_the_contract_is_told_and_left(self, nonsense: bytes) -> None:
        async def broken(link: Conversation) -> None:
            await link.expect(HELLO)
            link.writer.write(nonsense)
            error = unpack((await link.expect(ERROR)).body, Error)
            assert error.code in ("bad_frame", "bad_hello")

        @with_client(broken, accept)
        async def _(im: Client) -> None:
            await im.send("chat", b"x")

    def test_a_bug_of_the_client_is_raised_not_hidden(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def broken(*_: object) -> None:
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(opening, "dial", broken)

        async def work() -> None:
            async with device(NOWHERE) as im:
                with pytest.raises(LinkClosed, match="a bug"):
                    await im.send("chat", b"x")

        with pytest.raises(ZeroDivisionError):
            run(work())

    def test_cancellation_of_the_block_closes_and_is_not_swallowed(self) -> None:
        entered = asyncio.Event()

        async def body(address: str) -> None:
            async with device(address) as im:
                entered.set()
                await first(im, 1)

        async def work() -> None:
            async with peer(idle) as address:
                task = asyncio.create_task(body(address))
                await entered.wait()
                await asyncio.sleep(0.1)
                task.cancel()
                await asyncio.wait([task])
                assert task.cancelled()

        run(work())


class TestOnlySending:
    def test_has_an_uplink_and_no_place_in_the_inbox(self) -> None:
        hellos = []

        async def up(link: Conversation) -> None:
            hellos.append(await link.welcome(first=8, head=7))
            link.say(ACK, (await link.expect(MSG)).id, body=(9).to_bytes(8))

        @with_client(up, receive=False)
        async def _(im: Client) -> None:
            await im.send("chat", b"1")
            await im.send("chat", b"2")
            with pytest.raises(LocalError, match="nothing comes to a client that only sends"):
                await im.join("lobby")
            await im.leave("lobby")

        assert [(hello.role, hello.resume) for hello in hellos] == [("up", None)] * 2

    def test_is_told_when_the_server_wants_no_more_of_it(self) -> None:
        async def kick(link: Conversation) -> None:
            await link.welcome()
            link.error("kicked", "out")
            await link.rest()

        @with_client(kick, receive=False)
        async def _(im: Client) -> None:
            with pytest.raises(LinkClosed, match="kicked: out"):
                await first(im, 1)


class TestStayingConnected:
    def test_the_next_point_is_tried_when_one_fails_and_the_good_one_first_next_time(self) -> None:
        with socket.socket() as busy:
            busy.bind(("127.0.0.1", 0))  # bound, not listening: refuses
            dead = f"127.0.0.1:{busy.getsockname()[1]}"
            states: list[str] = []

            async def once(link: Conversation) -> None:
                await link.welcome()
                link.say(ACK, (await link.expect(MSG)).id)

            async def work() -> None:
                async with peer(once) as address:
                    im = Client(
                        [dead, address],
                        "alice",
                        "phone",
                        channels="single",
                        on_state=lambda _, text: states.append(text),
                    )
                    async with im:
                        await im.send("chat", b"1")
                        await im.send("chat", b"2")

            run(work())
            ways = [text.removeprefix("connecting to ") for text in states if text.startswith("connecting")]
            assert ways[0] == dead
            assert ways[1] == ways[2]
            assert ways.count(dead) == 1

    def test_states_are_told_with_a_sentence(self) -> None:
        states: list[tuple[State, str]] = []

        async def broken(link: Conversation) -> None:
            await link.expect(HELLO)

        @with_client(broken, accept, on_state=lambda state, text: states.append((state, text)))
        async def _(im: Client) -> None:
            await im.send("chat", b"x")
            assert (im.state, im.state_text) == states[-1]

        order = [State.CONNECTING, State.WAITING, State.CONNECTING, State.OPEN, State.CLOSED]
        assert [state for state, _ in states] == order
        assert "trying again in 0.0 s" in states[1][1]
        assert "CLOSED: the connection was closed before an answer came" in states[1][1]

    def test_silence_after_hello_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(opening, "DIAL_S", 0.3)

        async def silent(link: Conversation) -> None:
            await link.rest()

        @with_client(silent, accept)
        async def _(im: Client) -> None:
            await im.send("chat", b"x")

    def test_silence_after_a_ping_is_a_dead_link(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(heartbeat, "PATIENCE_S", 0.3)
        resumed = asyncio.Event()

        async def frozen(link: Conversation) -> None:
            await link.welcome()
            ping = await link.expect(PING)
            assert int.from_bytes(ping.body) >= 1
            link.say(PONG, ping.id)
            await link.expect(PING)
            await link.rest()  # never answered

        async def alive(link: Conversation) -> None:
            await link.welcome()
            resumed.set()
            await pong(link)

        async def short(link: Conversation) -> None:
            original = link.welcome
            link.welcome = lambda **more: original(heartbeat=(1, 1), **more)  # type: ignore[method-assign]  # with another heartbeat
            await frozen(link)

        @with_client(short, alive)
        async def _(im: Client) -> None:
            async with asyncio.timeout(5):
                await resumed.wait()

    def test_silence_after_a_message_is_noticed_long_before_the_heartbeat(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(heartbeat, "OVERDUE_S", 0.2)
        pinged = asyncio.Event()

        async def frozen(link: Conversation) -> None:
            await link.welcome(heartbeat=(30, 600))
            await link.expect(MSG)
            link.say(PONG, (await link.expect(PING)).id)
            await link.expect(PING)  # is anybody there?
            pinged.set()
            await link.rest()

        @with_client(frozen, accept)
        async def _(im: Client) -> None:
            async with asyncio.timeout(heartbeat.PATIENCE_S):  # the old link is not waited for to die
                await im.send("chat", b"x")
            assert pinged.is_set()

    def test_a_gateway_that_is_slow_to_confirm_but_lives_keeps_its_link(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(heartbeat, "OVERDUE_S", 0.1)

        async def slow(link: Conversation) -> None:
            await link.welcome(heartbeat=(30, 600))
            number = (await link.expect(MSG)).id
            for _ in range(4):
                link.say(PONG, (await link.expect(PING)).id)
            link.say(ACK, number)
            await pong(link)

        @with_client(slow)
        async def _(im: Client) -> None:
            await im.send("chat", b"x")

    @pytest.mark.platform
    @pytest.mark.skipif(sys.platform != "linux", reason="the kernel can't be asked what is on its way")
    def test_a_narrow_network_is_slow_not_dead(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(heartbeat, "PATIENCE_S", 0.3)
        took = 0.0

        async def slow(link: Conversation) -> None:
            nonlocal took
            await link.welcome(heartbeat=(1, 1))
            began = asyncio.get_running_loop().time()
            numbers: list[int] = []
            while len(numbers) < 4:  # it reads far more slowly than the client writes, and answers at the end
                await asyncio.sleep(0.05)
                link.decoder.feed(await link.reader.read(8192))
                numbers += [frame.id for frame in link.decoder if frame.type == MSG]
            took = asyncio.get_running_loop().time() - began
            for number in numbers:
                link.say(ACK, number)
            await pong(link)

        async def work() -> None:
            states: list[State] = []
            async with asyncio.timeout(20), peer(slow, narrow=True) as address:
                im = device(address, on_state=lambda state, _: states.append(state))
                async with im:
                    await asyncio.gather(*(im.send("chat", bytes(60_000)) for _ in range(4)))
            assert took > 1.0
            assert states == [State.CONNECTING, State.OPEN, State.CLOSED]  # one link

        run(work())

    def test_a_lost_push_heals_within_a_heartbeat(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(heartbeat, "PATIENCE_S", 0.3)

        async def forgetful(link: Conversation) -> None:
            await link.welcome(head=1, heartbeat=(1, 1))
            link.say(MSG, 1, "chat", b"1")
            await link.expect(ACK)
            await pong(link, 2)  # the inbox has two, but the push of the second was lost

        async def whole(link: Conversation) -> None:
            hello = await link.welcome(first=2, head=2)
            assert hello.resume == Resume("e", 1)
            link.say(MSG, 2, "chat", b"2")
            await pong(link, 2)

        @with_client(forgetful, whole)
        async def _(im: Client) -> None:
            async with asyncio.timeout(4):
                assert [message.seq for message in await first(im, 2)] == [1, 2]

    def test_goaway_opens_the_next_link_while_the_old_one_drains(self) -> None:
        moved = asyncio.Event()
        order: list[str] = []

        async def leaving(link: Conversation) -> None:
            await link.welcome(head=2)
            link.say(GOAWAY, body=pack(GoAway("draining", 5000, 200)))
            link.say(MSG, 1, "chat", b"1")  # it still brings messages
            await link.expect(ACK)
            order.append("old delivers")
            await link.rest()
            order.append("old is left")

        async def new(link: Conversation) -> None:
            await link.welcome(first=2, head=2)
            order.append("new welcomes")
            moved.set()
            link.say(MSG, 2, "chat", b"2")
            await pong(link, 2)

        @with_client(leaving, new)
        async def _(im: Client) -> None:
            assert [message.seq for message in await first(im, 2)] == [1, 2]
            await moved.wait()
            await until(lambda: len(order) == 3)

        assert order == ["old delivers", "new welcomes", "old is left"]

    def test_a_link_that_dies_while_it_drains_is_not_called_open(self) -> None:
        asked, seen = asyncio.Event(), asyncio.Event()

        async def leaving(link: Conversation) -> None:
            await link.welcome()
            link.say(GOAWAY, body=pack(GoAway("draining", 5000, 0)))
            await asked.wait()  # then it dies, and the next one has not answered yet

        async def new(link: Conversation) -> None:
            await link.expect(HELLO)
            asked.set()
            await seen.wait()

        @with_client(leaving, new, accept)
        async def _(im: Client) -> None:
            await asked.wait()
            async with asyncio.timeout(3):  # well before the next link is given up
                await until(lambda: im.state is not State.OPEN)
            seen.set()
            await im.send("chat", b"x")
            assert im.state is State.OPEN

    def test_an_old_link_that_our_own_new_one_supersedes_does_not_end_the_client(self) -> None:
        old: list[Conversation] = []

        async def leaving(link: Conversation) -> None:
            old.append(link)
            await link.welcome()
            link.say(GOAWAY, body=pack(GoAway("draining", 5000, 0)))
            await link.rest()

        async def new(link: Conversation) -> None:
            old[0].error("superseded", "a newer link has taken over")
            await asyncio.sleep(0.1)
            await accept(link)

        @with_client(leaving, new)
        async def _(im: Client) -> None:
            await until(lambda: len(old) == 1)
            await asyncio.sleep(0.05)
            await im.send("chat", b"x")

    def test_clients_of_one_loop_share_a_hub_and_the_last_one_closes_it(self) -> None:
        from imcore.client.hub import _hubs

        async def work() -> None:
            loop = asyncio.get_running_loop()
            async with peer(accept) as address:
                async with device(address) as one:
                    async with Client([address], "bob", "phone") as two:
                        await asyncio.gather(one.send("r", b"1"), two.send("r", b"2"))
                        assert _hubs[loop][1] == 2
                    await one.send("r", b"3")
                assert loop not in _hubs

        run(work())
