"""Rooms: joined for as long as the client lives, and confirmed where that is wanted."""

from __future__ import annotations

import asyncio

import pytest

from imcore._codec import ACK, JOIN, LEAVE, MSG, PING, PONG, ROOM
from imcore.client import Client, Message
from imcore.errors import Refused, Unknown
from tests.client.peer import Conversation, first, idle, pong, with_client

pytestmark = pytest.mark.usefixtures("quick")


class TestRooms:
    def test_messages_of_a_room_come_by_the_same_loop_and_are_not_acknowledged(self) -> None:
        async def room(link: Conversation) -> None:
            await link.welcome()
            joined = await link.expect(JOIN)
            assert joined.route == "lobby"
            link.say(ACK, joined.id)
            said = await link.expect(MSG)
            assert said.flags == ROOM
            link.say(ACK, said.id)
            link.say(MSG, 0, said.route, said.body, ROOM)
            left = await link.expect(LEAVE)
            link.say(ACK, left.id)
            assert [frame for frame in await link.rest() if frame.type == ACK] == []

        @with_client(room)
        async def _(im: Client) -> None:
            await im.join("lobby")
            await im.publish("lobby", b"hello", confirm=True)
            [message] = await first(im, 1)
            assert message == Message(0, "lobby", b"hello", "lobby")
            await im.leave("lobby")

    def test_they_are_joined_again_on_the_next_link(self) -> None:
        rejoined = asyncio.Event()

        async def once(link: Conversation) -> None:
            await link.welcome()
            link.say(ACK, (await link.expect(JOIN)).id)

        async def again(link: Conversation) -> None:
            await link.welcome()
            joined = await link.expect(JOIN)
            assert joined.route == "lobby"
            link.say(ACK, joined.id)
            rejoined.set()
            await pong(link)

        @with_client(once, again)
        async def _(im: Client) -> None:
            await im.join("lobby")
            await rejoined.wait()

    def test_a_refusal_is_raised_and_not_asked_for_again(self) -> None:
        async def refuse(link: Conversation) -> None:
            await link.welcome()
            for type in (JOIN, MSG):
                link.refuse((await link.expect(type)).id, "unauthorized", "not you", None)

        async def no_more(link: Conversation) -> None:
            await link.welcome()
            assert [frame for frame in await link.rest() if frame.type == JOIN] == []

        @with_client(refuse, no_more)
        async def _(im: Client) -> None:
            with pytest.raises(Refused, match="not you"):
                await im.join("secret")
            with pytest.raises(Refused, match="not you"):
                await im.publish("secret", b"x", confirm=True)
            await asyncio.sleep(0.2)

    def test_one_that_may_not_be_joined_again_is_told_and_left(self) -> None:
        left: list[tuple[str, str]] = []

        async def once(link: Conversation) -> None:
            await link.welcome()
            for _ in range(2):
                link.say(ACK, (await link.expect(JOIN)).id)

        async def refuse(link: Conversation) -> None:
            await link.welcome()
            link.refuse((await link.expect(JOIN)).id, "unauthorized", "not any more", None)
            link.say(ACK, (await link.expect(JOIN)).id)
            link.say(ACK, (await link.expect(MSG)).id)

        async def other(link: Conversation) -> None:
            await link.welcome()
            assert (await link.expect(JOIN)).route == "lobby"
            again.set()
            await pong(link)

        again = asyncio.Event()

        @with_client(once, refuse, other, on_left=lambda room, error: left.append((room, str(error))))
        async def _(im: Client) -> None:
            await asyncio.gather(im.join("secret"), im.join("lobby"))
            await im.send("r", b"x")
            assert left == [("secret", "unauthorized: not any more")]
            await again.wait()
            assert len(left) == 1

    def test_publishing_on_a_link_that_breaks_is_unknown(self) -> None:
        async def broken(link: Conversation) -> None:
            await link.welcome()
            await link.expect(MSG)

        @with_client(broken, idle)
        async def _(im: Client) -> None:
            with pytest.raises(Unknown, match="the link broke before the answer"):
                await im.publish("lobby", b"x", confirm=True)


@pytest.mark.parametrize("leaves", [False, True], ids=["joined again", "left"])
def test_what_waited_for_a_room_goes_up_on_the_link_that_is_open_when_the_room_is_heard_or_left(leaves: bool) -> None:
    """Up and down apart: the link down breaks and comes back while the one up lives."""
    breaks, back, waits = asyncio.Event(), asyncio.Event(), asyncio.Event()
    roles: list[str] = []

    async def by_role(link: Conversation) -> None:
        hello = await link.welcome()
        roles.append(hello.role)
        again = roles.count("down") > 1
        while (frame := await link.frame()) is not None:
            if frame.type == PING:
                link.say(PONG, frame.id)
            elif frame.type == JOIN and again:
                back.set()
                if not leaves:
                    await waits.wait()
                    link.say(ACK, frame.id)
            elif frame.type in (JOIN, LEAVE, MSG):
                link.say(ACK, frame.id)
            if frame.type == JOIN and not again:
                await breaks.wait()
                return

    @with_client(by_role, channels="split")
    async def _(im: Client) -> None:
        await im.join("lobby")
        await im.publish("lobby", b"before", confirm=True)
        breaks.set()
        await back.wait()
        saying = asyncio.create_task(im.publish("lobby", b"between", confirm=True))
        await asyncio.sleep(0)
        assert not saying.done()
        waits.set()
        if leaves:
            await im.leave("lobby")
        await saying
        assert roles == ["down", "up", "down"], "no other link was needed"
