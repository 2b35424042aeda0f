"""`send` ends in durable, refused or unknown, and never in an untruth, whatever the other side does."""

from __future__ import annotations

import asyncio

import pytest

from imcore._codec import ACK, DUP, FAILED, MSG
from imcore.client import Client, Receipt, State
from imcore.errors import EncodeError, LocalError, Refused, Unknown
from tests.client.peer import NOWHERE, Conversation, accept, device, idle, peer, pong, run, until, with_client

pytestmark = pytest.mark.usefixtures("quick")


class TestSending:
    def test_returns_when_the_gateway_has_confirmed(self) -> None:
        @with_client(accept)
        async def _(im: Client) -> None:
            receipts = await asyncio.gather(*(im.send("chat", b"%d" % i) for i in range(200)))
            numbers = [receipt.id for receipt in receipts]
            assert numbers == sorted(set(numbers))
            assert im.unconfirmed == 0

    def test_raises_what_the_gateway_says_and_gives_the_number_up(self) -> None:
        async def refuse(link: Conversation) -> None:
            await link.welcome()
            message = await link.expect(MSG)
            link.refuse(message.id, "no_route", "no such service", None)
            given_up = await link.expect(MSG)
            assert (given_up.id, given_up.flags, given_up.body) == (message.id, FAILED, b"")
            link.say(ACK, given_up.id)
            after = await link.expect(MSG)
            assert after.id > message.id
            link.say(ACK, after.id)
            await pong(link)

        @with_client(refuse)
        async def _(im: Client) -> None:
            with pytest.raises(Refused, match="no_route: no such service"):
                await im.send("nowhere", b"x")
            assert isinstance(await im.send("chat", b"y"), Receipt)

    def test_waits_as_long_as_a_refusal_says_and_sends_the_same_number_again(self) -> None:
        async def later(link: Conversation) -> None:
            await link.welcome()
            message = await link.expect(MSG)
            link.refuse(message.id, "overloaded", "later", 150)
            began = asyncio.get_running_loop().time()
            again = await link.expect(MSG)
            assert asyncio.get_running_loop().time() - began >= 0.14
            assert (again.id, again.flags, again.body) == (message.id, DUP, message.body)
            link.say(ACK, again.id)
            await pong(link)

        @with_client(later)
        async def _(im: Client) -> None:
            await im.send("chat", b"x")

    def test_what_a_broken_link_left_open_is_settled_by_the_next_welcome(self) -> None:
        numbers: list[int] = []

        async def take_and_break(link: Conversation) -> None:
            await link.welcome()
            numbers.extend([(await link.expect(MSG)).id, (await link.expect(MSG)).id])

        async def go_on(link: Conversation) -> None:
            await link.welcome(accepted=numbers[0])
            again = await link.expect(MSG)
            assert (again.id, again.flags, again.body) == (numbers[1], DUP, b"two")
            link.say(ACK, again.id)
            await pong(link)

        @with_client(take_and_break, go_on)
        async def _(im: Client) -> None:
            one, two = await asyncio.gather(im.send("chat", b"one"), im.send("chat", b"two"))
            assert [one.id, two.id] == numbers

    def test_is_unknown_when_the_time_is_up_and_goes_on_until_it_is_known(self) -> None:
        answered = asyncio.Event()

        async def slow(link: Conversation) -> None:
            await link.welcome()
            message = await link.expect(MSG)
            await answered.wait()
            link.say(ACK, message.id)
            await pong(link)

        @with_client(slow)
        async def _(im: Client) -> None:
            with pytest.raises(Unknown, match=r"0\.1 s are up: it was sent, but no answer came") as caught:
                await im.send("chat", b"x", timeout=0.1)
            assert caught.value.id > 0
            assert im.unconfirmed == 1
            answered.set()
            await until(lambda: im.unconfirmed == 0)

    def test_what_was_never_sent_is_forgotten_when_the_time_is_up(self) -> None:
        async def work() -> None:
            async with device(NOWHERE) as im:
                with pytest.raises(Unknown, match=r"it was not sent .*127\.0\.0\.1:1") as caught:
                    await im.send("chat", b"x", timeout=0.1)
                assert caught.value.id == 0
                assert im.unconfirmed == 0

        run(work())

    def test_cancelling_forgets_what_was_never_sent_and_only_that(self) -> None:
        @with_client(idle)
        async def _(im: Client) -> None:
            sends = [asyncio.create_task(im.send("chat", b"x")) for _ in range(100)]
            await until(lambda: im.state is State.OPEN)
            for send in sends:
                send.cancel()
            await asyncio.wait(sends)
            assert all(send.cancelled() for send in sends)
            assert im.unconfirmed == 64  # a window of them had gone

    def test_closing_ends_it_as_unknown(self) -> None:
        async def work() -> None:
            async with peer(idle) as address:
                async with device(address) as im:
                    send = asyncio.create_task(im.send("chat", b"x"))
                    await until(lambda: im.state is State.OPEN)
                with pytest.raises(Unknown, match="the client was closed"):
                    await send

        run(work())

    def test_misuse_is_a_local_error_that_says_what_was_expected(self) -> None:
        async def work() -> None:
            im = device(NOWHERE)
            with pytest.raises(LocalError, match="inside of `async with`"):
                await im.send("chat", b"x")
            async with im:
                with pytest.raises(EncodeError, match="expected bytes, got str"):
                    await im.send("chat", "x")  # type: ignore[arg-type]  # it is wrong
                with pytest.raises(EncodeError, match="expected at most 255 bytes, got 256"):
                    await im.send("x" * 256, b"x")
            with pytest.raises(LocalError, match="inside of `async with`"):
                await im.send("chat", b"x")
            with pytest.raises(LocalError, match="entered once"):
                async with im:
                    pass

        run(work())

    def test_a_message_over_the_limit_of_the_gateway_is_refused_before_it_is_sent(self) -> None:
        @with_client(accept)
        async def _(im: Client) -> None:
            early = asyncio.create_task(im.send("chat", bytes(65536)))  # the limit is not known yet
            with pytest.raises(Refused, match="too_large: expected at most 65536 bytes"):
                await early
            with pytest.raises(EncodeError, match="expected at most 65536 bytes of route and body, got 65540"):
                await im.send("chat", bytes(65536))
