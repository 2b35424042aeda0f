"""The demo's users: they send no more than a client takes, and who can't go on is told of once, with the reason."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from imcore import Node, chat_service
from imcore.cli import crowd
from imcore.cli.crowd import Crowd, User
from imcore.cli.split import Split
from imcore.cli.terminal import Failed
from imcore.errors import Unauthorized
from tests.gateway.running import run


def test_who_has_much_on_its_way_waits_until_it_is_confirmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    under_way: list[int] = []
    send = User.send

    def counted(user: User, number: int) -> None:
        send(user, number)
        under_way.append(len(user._sending))

    monkeypatch.setattr(crowd, "SENDING_MOST", 5)
    monkeypatch.setattr(User, "send", counted)

    async def work() -> None:
        node = Node(listen=["127.0.0.1:0"], data=tmp_path)
        chat_service.register(node.service)
        two = Crowd(2)
        async with node, AsyncExitStack() as stack:
            for _ in range(2):
                await two.join(node.addresses, None, stack)
            await two.talk(100, 0)
            await two.whole(20)
        assert max(under_way) == 5
        assert two.account.verdict().good

    run(work())


def test_who_can_not_go_on_fails_the_demo_with_its_reason(tmp_path: Path) -> None:
    def nobody(token: str) -> str:
        raise Unauthorized("nobody is known here")

    async def work() -> None:
        node = Node(listen=["127.0.0.1:0"], data=tmp_path, authenticate=nobody)
        one = Crowd(1)
        async with node, AsyncExitStack() as stack:
            await one.join(node.addresses, None, stack)
            with pytest.raises(Failed, match="user-0 can't go on: unauthorized: nobody is known here"):
                await one.whole(20)

    run(work())


def test_a_process_that_does_not_start_while_messages_flow_is_one_reason(tmp_path: Path) -> None:
    async def does_not_start() -> None:
        raise Failed("service did not start: no port is free")

    split = Split(tmp_path, users=2, messages=0, seconds=0, away_s=0, tell=print)
    with pytest.raises(Failed, match="service did not start"):
        asyncio.run(split._through("the service was killed and started", does_not_start))
