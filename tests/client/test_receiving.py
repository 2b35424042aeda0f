"""What the application gets, and what is acknowledged of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from imcore._codec import ACK, MSG, PING, PONG
from imcore.client import Client, Gap, Message, State, heartbeat
from imcore.errors import ConfigError, LocalError
from imcore.messages import Resume
from tests.client.peer import Conversation, device, first, idle, peer, pong, run, until, with_client

pytestmark = pytest.mark.usefixtures("quick")


class TestReceiving:
    def test_a_message_is_acknowledged_when_the_loop_comes_back(self) -> None:
        acked: list[int] = []

        async def give(link: Conversation) -> None:
            await link.welcome(head=2)
            link.say(MSG, 1, "chat", b"one")
            link.say(MSG, 2, "chat", b"two")
            while (frame := await link.frame()) is not None:
                if frame.type == PING:
                    link.say(PONG, frame.id)
                elif frame.type == ACK:
                    acked.append(frame.id)

        @with_client(give)
        async def _(im: Client) -> None:
            iterator = aiter(im)
            assert await anext(iterator) == Message(1, "chat", b"one")
            await asyncio.sleep(0.2)
            assert acked == []
            assert await anext(iterator) == Message(2, "chat", b"two")
            await asyncio.sleep(0.2)
            assert acked == [1]

        assert acked == [1, 2]  # the block ended well: it was done with the last one

    def test_what_the_block_failed_on_is_not_acknowledged(self) -> None:
        acked: list[int] = []

        async def give(link: Conversation) -> None:
            await link.welcome(head=2)
            for seq in (1, 2):
                link.say(MSG, seq, "chat", b"x")
            while (frame := await link.frame()) is not None:
                if frame.type == PING:
                    link.say(PONG, frame.id)
                elif frame.type == ACK:
                    acked.append(frame.id)

        with pytest.raises(ZeroDivisionError):

            @with_client(give)
            async def _(im: Client) -> None:
                async for message in im:
                    if message.seq == 2:
                        _ = 1 // 0

        assert acked == [1]

    def test_acknowledgements_are_gathered(self) -> None:
        acked: list[int] = []

        async def give(link: Conversation) -> None:
            await link.welcome(head=200)
            for seq in range(1, 201):
                link.say(MSG, seq, "chat", b"x")
            while (frame := await link.frame()) is not None:
                if frame.type == PING:
                    link.say(PONG, frame.id)
                elif frame.type == ACK:
                    acked.append(frame.id)

        @with_client(give)
        async def _(im: Client) -> None:
            assert len(await first(im, 200)) == 200

        assert acked[-1] == 200
        assert acked == sorted(set(acked))
        assert len(acked) < 20

    def test_goes_on_after_a_break_with_every_message_once(self) -> None:
        async def two(link: Conversation) -> None:
            hello = await link.welcome(head=3)
            assert hello.resume is None
            link.say(MSG, 1, "chat", b"1")
            link.say(MSG, 2, "chat", b"2")
            await link.expect(ACK)

        async def rest(link: Conversation) -> None:
            hello = await link.welcome(first=None, head=3)
            assert hello.resume is not None
            assert hello.resume.epoch == "e"
            for seq in range(hello.resume.seq + 1, 4):
                link.say(MSG, seq, "chat", b"%d" % seq)
            await pong(link)

        @with_client(two, rest)
        async def _(im: Client) -> None:
            assert [message.body for message in await first(im, 3)] == [b"1", b"2", b"3"]

    def test_lost_history_is_told(self) -> None:
        async def one(link: Conversation) -> None:
            await link.welcome(head=1)
            link.say(MSG, 1, "chat", b"1")
            await link.expect(ACK)

        async def expired(link: Conversation) -> None:
            await link.welcome(first=5, head=5, resumed=False)
            link.say(MSG, 5, "chat", b"5")
            await link.expect(ACK)

        async def anew(link: Conversation) -> None:
            await link.welcome(first=1, head=1, epoch="other", resumed=False)
            link.say(MSG, 1, "chat", b"anew")
            await pong(link)

        @with_client(one, expired, anew)
        async def _(im: Client) -> None:
            gaps = [(message.seq, message.gap) for message in await first(im, 3)]
            assert gaps == [(1, None), (5, Gap(range(2, 5))), (1, Gap(None))]

    def test_a_hole_in_the_pushes_is_asked_for_anew(self) -> None:
        async def hole(link: Conversation) -> None:
            await link.welcome(head=3)
            link.say(MSG, 1, "chat", b"1")
            link.say(MSG, 3, "chat", b"3")
            await link.rest()

        async def whole(link: Conversation) -> None:
            hello = await link.welcome(first=1, head=3)
            assert hello.resume is None or hello.resume.seq <= 1
            for seq in (1, 2, 3):
                link.say(MSG, seq, "chat", b"%d" % seq)
            await pong(link)

        @with_client(hole, whole)
        async def _(im: Client) -> None:
            assert [message.seq for message in await first(im, 3)] == [1, 2, 3]

    def test_a_slow_application_stops_the_link_not_the_heartbeat(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(heartbeat, "PATIENCE_S", 0.3)
        links = 0
        written = 0

        async def flood(link: Conversation) -> None:
            nonlocal links, written
            links += 1
            await link.welcome(head=10_000, heartbeat=(1, 1))
            for seq in range(1, 10_001):
                link.say(MSG, seq, "chat", bytes(4096))
                await link.writer.drain()
                written = seq
            await pong(link, 10_000)

        @with_client(flood)
        async def _(im: Client) -> None:
            await asyncio.sleep(1.5)  # several times the patience
            assert written < 5_000
            seqs = [message.seq for message in await first(im, 10_000)]
            assert seqs == list(range(1, 10_001))
            assert links == 1

    def test_two_loops_at_a_time_are_refused(self) -> None:
        @with_client(idle)
        async def _(im: Client) -> None:
            waiting = asyncio.create_task(first(im, 1))
            await asyncio.sleep(0.05)
            with pytest.raises(LocalError, match="one loop over a client at a time"):
                await anext(aiter(im))
            waiting.cancel()
            await asyncio.wait([waiting])

    def test_a_cancelled_wait_loses_nothing(self) -> None:
        go = asyncio.Event()

        async def give(link: Conversation) -> None:
            await link.welcome(head=1)
            await go.wait()
            link.say(MSG, 1, "chat", b"1")
            await pong(link, 1)

        @with_client(give)
        async def _(im: Client) -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await anext(aiter(im))
            go.set()
            assert (await anext(aiter(im))).seq == 1


class TestState:
    def test_a_process_goes_on_where_the_last_one_stopped(self, tmp_path: Path) -> None:
        async def give(link: Conversation) -> None:
            hello = await link.welcome(head=1)
            assert hello.resume is None
            link.say(MSG, 1, "chat", b"1")
            await link.rest()  # reads no ACK: the server remembers nothing

        async def again(link: Conversation) -> None:
            hello = await link.welcome(first=2, head=2)
            assert hello.resume == Resume("e", 1)
            link.say(MSG, 2, "chat", b"2")
            await pong(link, 2)

        async def work() -> None:
            async with peer(give, again) as address:
                for seq in (1, 2):
                    async with device(address, state=tmp_path / "state") as im:
                        assert [message.seq for message in await first(im, 1)] == [seq]

        run(work())

    def test_a_file_of_another_user_ends_the_client(self, tmp_path: Path) -> None:
        async def work() -> None:
            async with peer(idle) as address:
                async with device(address, state=tmp_path / "state") as im:
                    await until(lambda: im.state is State.OPEN)
                async with Client([address], "bob", "phone", state=tmp_path / "state") as im:
                    with pytest.raises(ConfigError, match="of 'alice', not of 'bob'"):
                        await first(im, 1)

        run(work())
