"""A device that is on another network now, or has slept: links are looked at at once, and none is given up too soon."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from imcore._codec import ACK, MSG, PING, PONG
from imcore.client import Client, State, backoff, channel, connection, heartbeat, opening
from tests.client.peer import Conversation, Script, peer, run
from tests.gateway.running import until


async def alive(link: Conversation) -> None:
    """Answers every ping."""
    await link.welcome()
    while True:
        link.say(PONG, (await link.expect(PING)).id)


async def once(link: Conversation) -> None:
    """Answers one ping, and is never heard of again."""
    await link.welcome()
    link.say(PONG, (await link.expect(PING)).id)
    await link.rest()


def device(address: str, said: list[State]) -> Client:
    return Client([address], "alice", "phone", on_state=lambda state, _: said.append(state))


def moving(*scripts: Script, stranded: bool) -> Callable[[Callable[[Client, list[State]], Awaitable[None]]], None]:
    def decorate(body: Callable[[Client, list[State]], Awaitable[None]]) -> None:
        async def work() -> None:
            said: list[State] = []
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(connection, "stranded", lambda descriptor: stranded)
                async with asyncio.timeout(20), peer(*scripts) as address, device(address, said) as im:
                    await until(lambda: im.state is State.OPEN)
                    await until(lambda: im._connection.down is not None and im._connection.down.quiet >= 0)
                    await body(im, said)

        run(work())

    return decorate


def test_a_link_whose_address_is_gone_is_followed_at_once_and_stays_until_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heartbeat, "OVERDUE_S", 60.0)  # it is not asked first

    @moving(once, alive, stranded=True)
    async def _(im: Client, said: list[State]) -> None:
        link = im._connection.down
        im.network_changed()
        assert im._connection.down is link
        await until(lambda: im._connection.down is not link)
        assert said == [State.CONNECTING, State.OPEN]


def test_a_link_that_may_be_good_is_asked_and_stays_if_it_answers() -> None:
    @moving(alive, alive, stranded=False)
    async def _(im: Client, said: list[State]) -> None:
        link = im._connection.down
        for _ in range(3):
            im.network_changed()
            assert link is not None
            assert await link.sound()
        assert im._connection.down is link
        assert said == [State.CONNECTING, State.OPEN]


@pytest.mark.parametrize("why", ["moved", "woke", "stalled"])
def test_a_link_that_does_not_answer_is_raced_long_before_a_heartbeat_would_fail(
    why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "OVERDUE_S", 0.2)
    monkeypatch.setattr(heartbeat, "PATIENCE_S", 60.0)

    @moving(once, alive, stranded=False)
    async def _(im: Client, said: list[State]) -> None:
        link = im._connection.down
        getattr(im._connection, why)()
        await until(lambda: im._connection.down is not link)
        assert said == [State.CONNECTING, State.OPEN]
        assert im.still_s == 30.0, "that says nothing about what this network stands"


def test_a_doubt_that_comes_again_and_again_does_not_put_off_the_end_of_a_links_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heartbeat, "OVERDUE_S", 0.3)
    monkeypatch.setattr(heartbeat, "PATIENCE_S", 60.0)

    @moving(once, alive, stranded=False)
    async def _(im: Client, said: list[State]) -> None:
        link = im._connection.down
        while im._connection.down is link:
            im._connection.check()  # as each answer to what goes up does, where what comes down is frozen
            await asyncio.sleep(0.05)


def test_a_link_that_did_not_outlive_a_sleep_gives_the_next_one_no_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who mostly receives gets no answers that would end the doubts."""
    monkeypatch.setattr(heartbeat, "OVERDUE_S", 0.1)
    monkeypatch.setattr(heartbeat, "PATIENCE_S", 60.0)

    @moving(once, once, once, alive, stranded=False)
    async def _(im: Client, said: list[State]) -> None:
        for _ in range(3):
            link = im._connection.down
            im._connection.woke()
            await until(lambda link=link: im._connection.down not in (link, None))
        assert im.doubts == 0
        assert said == [State.CONNECTING, State.OPEN]


def test_who_waits_for_the_next_try_tries_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff.Backoff, "next", lambda self, least=0.0: 3600.0)

    async def refuses(link: Conversation) -> None:
        link.writer.close()

    async def work() -> None:
        async with asyncio.timeout(20), peer(refuses, alive) as address, device(address, []) as im:
            await until(lambda: im.state is State.WAITING)
            im.network_changed()
            await until(lambda: im.state is State.OPEN)

    run(work())


def test_who_had_an_empty_answer_asks_again_at_once_but_not_before_the_time_that_a_gateway_gave(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(channel, "EMPTY_S", 60.0)

    @moving(alive, stranded=False)
    async def _(im: Client, said: list[State]) -> None:
        now = asyncio.get_running_loop().time
        long, link = im._connection.long, im._connection.down
        assert link is not None
        link.hasty = True
        pausing = asyncio.create_task(long._pause(link, now()))
        await asyncio.sleep(0.05)
        assert not pausing.done()
        im.network_changed()
        await pausing
        long._leave_at = until_then = now() + 0.2
        await long._pause(link, now())
        assert now() >= until_then - 0.1


def test_a_search_that_runs_begins_again_on_the_new_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "DIAL_S", 60.0)
    begun = asyncio.Event()

    async def silent(link: Conversation) -> None:
        begun.set()
        await link.rest()

    async def work() -> None:
        async with asyncio.timeout(20), peer(silent, alive) as address, device(address, []) as im:
            await begun.wait()
            im.network_changed()
            await until(lambda: im.state is State.OPEN)

    run(work())


def test_a_timer_that_is_late_does_not_put_off_the_search() -> None:
    """Else an application that blocks its loop now and then would never get in on a slow network."""

    async def work() -> None:
        begun: list[Conversation] = []
        stalled = asyncio.Event()

        async def slow(link: Conversation) -> None:
            begun.append(link)
            await stalled.wait()
            await alive(link)

        async with asyncio.timeout(20), peer(slow) as address, device(address, []) as im:
            for _ in range(3):
                await until(lambda: begun)
                for woke in im._hub.on_wake:
                    woke()
                await asyncio.sleep(0.05)
            stalled.set()
            await until(lambda: im.state is State.OPEN)
            assert len(begun) == 1

    run(work())


def test_an_idle_link_up_is_not_waited_for_after_a_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two links: what is said after it goes up on a new one, sooner than it would be known that the old one is dead."""
    monkeypatch.setattr(heartbeat, "OVERDUE_S", 60.0)
    ups = 0

    async def by_role(link: Conversation) -> None:
        nonlocal ups
        hello = await link.welcome()
        if hello.role == "up":
            ups += 1
            link.say(ACK, (await link.expect(MSG)).id)
            await link.rest()
        while True:
            link.say(PONG, (await link.expect(PING)).id)

    async def work() -> None:
        async with (
            asyncio.timeout(20),
            peer(by_role) as address,
            Client([address], "alice", "phone", channels="split") as im,
        ):
            await im.send("chat", b"before")
            im._connection.woke()
            await im.send("chat", b"after")
            assert ups == 2

    run(work())
