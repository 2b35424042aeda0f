"""A client among several ways in: the race, the ways of up and down, and a better way while messages flow."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from imcore._codec import ERROR, encode
from imcore.cli.relay import Relay
from imcore.client import Client, State, channel, opening
from imcore.gateway import identity
from imcore.messages import Error, pack
from imcore.node import Node
from imcore.ways.candidate import Candidate
from imcore.ways.finder import Finder
from imcore.ways.memory import Memory
from tests.client.peer import first, run, until
from tests.ways.places import KEY, Asked, access, gateway, http, listening, listing, place, relay, says

COUNT = 100


def key(data: Path) -> str:
    return base64.b64encode(identity.kept(data).public_key().public_bytes_raw()).decode()


@asynccontextmanager
async def node(data: Path) -> AsyncIterator[Node]:
    """With a service that sends each message back to its sender."""
    there = Node(listen=["127.0.0.1:0"], data=data)

    @there.service.on("echo")
    async def echo(message: Any) -> None:
        await there.service.push(message.user, "echo", message.body, key=message.key)

    async with asyncio.timeout(50), there:
        yield there


def device(points: list[str], data: Path, **more: Any) -> Client:
    return Client(points, "alice", "phone", keys=[key(data)], **more)


async def converse(im: Client, count: int) -> None:
    """So many messages there and back, once and in order."""

    async def speak() -> None:
        for number in range(count):
            await im.send("echo", b"%d" % number)

    async with asyncio.TaskGroup() as group:
        group.create_task(speak())
        heard = group.create_task(first(im, count))
    assert [message.body for message in heard.result()] == [b"%d" % number for number in range(count)]


def test_a_client_goes_in_by_the_fastest_that_proves_itself(tmp_path: Path) -> None:
    async def work() -> None:
        async with node(tmp_path) as there, AsyncExitStack() as stack:
            slow = await stack.enter_async_context(relay(there.addresses[0], "127.0.0.2", delay_s=0.5))
            fast = await stack.enter_async_context(relay(there.addresses[0], "127.0.0.3"))
            heard: list[Asked] = []

            async def listens(asked: Asked, writer: asyncio.StreamWriter) -> None:
                heard.append(asked)
                writer.write(http(b"<html>", kind="text/html"))

            stranger = await stack.enter_async_context(place(listens, "127.0.0.4"))
            memory = Memory()
            points = [str(slow), f"{stranger.authority}", str(fast)]
            async with device(points, tmp_path, memory=memory) as im:
                await converse(im, 3)
            winner = memory.winner("down")
            assert winner is not None
            assert winner.point == fast
            assert heard
            assert not any("alice" in asked.target or b"alice" in asked.body for asked in heard), "the token stays here"

    run(work())


def test_it_remembers_the_way_across_processes(tmp_path: Path) -> None:
    async def work() -> None:
        async with node(tmp_path / "node") as there, relay(there.addresses[0], "127.0.0.2") as other:
            path = tmp_path / "ways.json"
            async with device([str(other)], tmp_path / "node", memory=path) as im:
                await converse(im, 1)
            assert Memory(path).points("down") or path.stat().st_size
            texts: list[str] = []
            points = [there.addresses[0], str(other)]
            async with device(
                points, tmp_path / "node", memory=path, on_state=lambda _, text: texts.append(text)
            ) as im:
                await im.send("echo", b"again")
            assert f"connecting to {other}" in texts
            assert texts[0] == "looking for a way in"

    run(work())


def test_up_and_down_have_their_own_lists_and_their_own_winners(tmp_path: Path) -> None:
    async def work() -> None:
        async with node(tmp_path) as there, AsyncExitStack() as stack:
            one = await stack.enter_async_context(relay(there.addresses[0], "127.0.0.2"))
            other = await stack.enter_async_context(relay(there.addresses[0], "127.0.0.3"))
            signer = identity.kept(tmp_path)
            lists = {"down": listing([one], key=signer), "up": listing([other], "up", key=signer)}

            async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
                role = parse_qs(urlsplit(asked.target).query)["role"][0]
                writer.write(http(lists[role]))

            service = await stack.enter_async_context(place(answer))
            memory = Memory()
            async with device([], tmp_path, access=[str(service)], memory=memory) as im:
                await converse(im, 3)
            winners = {role: memory.winner(role) for role in ("up", "down")}
            assert winners["down"] is not None
            assert winners["up"] is not None
            assert (winners["down"].point, winners["up"].point) == (one, other)

    run(work())


def test_a_better_way_takes_over_while_messages_flow_and_none_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "AGAIN_S", 0.2)

    async def work() -> None:
        async with node(tmp_path) as there, AsyncExitStack() as stack:
            worse = await stack.enter_async_context(relay(there.addresses[0], "127.0.0.2"))
            better = await stack.enter_async_context(relay(there.addresses[0], "127.0.0.3", delay_s=0.02))
            late = asyncio.Event()
            document = listing([better], key=identity.kept(tmp_path))

            async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
                await late.wait()
                await access(document)(asked, writer)

            service = await stack.enter_async_context(place(answer))
            memory = Memory()
            states: list[State] = []
            tunnel = f"http://{worse.authority}"
            async with device(
                [tunnel], tmp_path, access=[str(service)], memory=memory, on_state=lambda state, _: states.append(state)
            ) as im:
                await until(lambda: memory.winner("down") is not None)
                talk = asyncio.create_task(converse(im, COUNT))
                late.set()
                await until(lambda: (way := memory.winner("down")) is not None and way.point == better)
                await talk
                await converse_more(im)
            assert states.count(State.OPEN) >= 1
            assert State.WAITING not in states

    run(work())


async def converse_more(im: Client) -> None:
    """And it goes on."""
    await im.send("echo", b"more")
    [message] = await first(im, 1)
    assert message.body == b"more"


def test_nothing_is_looked_for_while_nothing_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "AGAIN_S", 0.02)
    looks = 0
    look = Finder.better

    async def better(finder: Finder, way: Candidate, *, holds: bool) -> Candidate | None:
        nonlocal looks
        looks += 1
        return await look(finder, way, holds=holds)

    monkeypatch.setattr(Finder, "better", better)

    async def work() -> None:
        async with node(tmp_path) as there, device(there.addresses, tmp_path) as im:
            await converse(im, 1)
            await until(lambda: looks > 0)
            await asyncio.sleep(0.3)
            before = looks
            await asyncio.sleep(0.3)
            assert looks == before
            await im.send("echo", b"more")
            await until(lambda: looks > before)

    run(work())


def waits_for_more(one: channel.Channel) -> bool:
    """It has looked for better ways, and looks again when something moves."""
    return one.good is not None and not one._stirred.is_set()


def test_a_slow_way_is_looked_at_later_when_something_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "AGAIN_S", 0.02)
    monkeypatch.setattr(Finder, "slow", lambda finder, way: True)
    looks: list[str] = []
    holds, better = Finder.holds, Finder.better

    async def look_whether_it_holds(finder: Finder, way: Candidate) -> bool:
        looks.append("holds")
        return await holds(finder, way)

    async def look_for_better(finder: Finder, way: Candidate, *, holds: bool) -> Candidate | None:
        looks.append("better")
        return await better(finder, way, holds=holds)

    monkeypatch.setattr(Finder, "holds", look_whether_it_holds)
    monkeypatch.setattr(Finder, "better", look_for_better)

    async def work() -> None:
        async with node(tmp_path) as there, device(there.addresses, tmp_path) as im:
            long = im._connection.long
            for count in (0, 2, 3):
                await until(lambda count=count: len(looks) == count and waits_for_more(long))  # type: ignore[misc]  # mypy can't infer the default
                long.stirs()
            await until(lambda: len(looks) == 4)
            assert looks == ["holds", "better", "better", "better"]

    run(work())


class Waits:
    """Stands for the share of a wait that is waited: it is over at once, and kept here."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __rmul__(self, seconds: float) -> float:
        self.seconds.append(seconds)
        return 0.0


def test_better_ways_are_looked_for_ever_more_seldom_and_soon_again_after_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = Waits()

    async def work() -> None:
        async with (
            node(tmp_path) as there,
            relay(there.addresses[0], "127.0.0.2") as one,
            relay(there.addresses[0], "127.0.0.3") as other,
            device([str(one), str(other)], tmp_path) as im,
        ):
            monkeypatch.setattr(channel, "random", SimpleNamespace(uniform=lambda least, most: waits))
            long = im._connection.long
            for count in (1, 2, 3):
                await until(lambda count=count: len(waits.seconds) == count and waits_for_more(long))  # type: ignore[misc]  # mypy can't infer the default
                long.stirs()
            await until(lambda: len(waits.seconds) == 4 and waits_for_more(long))
            assert long.good is not None
            best = other if long.good.point == one else one
            await long._found(msgspec.structs.replace(long.good, point=best))
            await until(lambda: len(waits.seconds) == 5)
            assert waits.seconds == [channel.AGAIN_S * factor for factor in (1, 2, 4, 8, 1)]

    run(work())


def test_a_link_that_freezes_is_left_for_another_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imcore.ways.finder.FROZEN_S", 0.2)
    monkeypatch.setattr(channel, "AGAIN_S", 0.2)

    async def work() -> None:
        async with node(tmp_path) as there, AsyncExitStack() as stack:
            frozen = await stack.enter_async_context(relay(there.addresses[0], "127.0.0.2", cut=17_000))
            whole = await stack.enter_async_context(relay(there.addresses[0], "127.0.0.3", delay_s=0.3))
            memory = Memory()
            async with device([str(frozen), str(whole)], tmp_path, memory=memory) as im:
                await until(lambda: memory.winner("down") is not None)
                await until(lambda: (way := memory.winner("down")) is not None and way.point == whole)
                await converse(im, 3)

    run(work())


def test_where_only_http_passes_it_goes_through_the_tunnel_and_remembers_that(tmp_path: Path) -> None:
    async def work() -> None:
        async with node(tmp_path) as there, relay(there.addresses[0], "127.0.0.2", only_http=True) as narrow:
            memory = Memory()
            points = [narrow.authority, f"http://{narrow.authority}"]
            async with device(points, tmp_path, memory=memory) as im:
                await converse(im, 3)
            winner = memory.winner("down")
            assert winner is not None
            assert winner.point.scheme == "http"
            assert memory.winner("up") == winner

    run(work())


def test_of_the_tunnels_to_ever_new_addresses_the_latest_are_kept() -> None:
    async def work() -> None:
        asked = 0

        async def resolve(name: str) -> list[str]:
            nonlocal asked
            asked += 1
            return [f"127.1.{asked}.{number}" for number in range(1, 13)]

        async with asyncio.timeout(20):
            async with Client(["http://im.example.com:1"], "alice", "phone", resolve=resolve) as im:
                await until(lambda: asked > 2)
                assert len(im._connection._opening._tunnels) <= opening.TUNNELS + 2

    run(work())


@pytest.mark.parametrize("told", [False, True], ids=["by another name", "by the same name, and it is told"])
def test_who_goes_the_same_way_again_asks_who_is_there_on_another_network(tmp_path: Path, told: bool) -> None:
    async def work() -> None:
        here, asked = "home", []
        proves = gateway(key=Ed25519PrivateKey.generate())

        async def stranger(one: Asked, writer: asyncio.StreamWriter) -> None:
            asked.append(one.target.partition("?")[0])
            await proves(one, writer)

        async with asyncio.timeout(20), node(tmp_path) as there, Relay() as way, place(stranger) as other:
            way.target = there.addresses[0]
            async with device([f"http://{way.point}"], tmp_path, network=lambda: here) as im:
                await converse(im, 3)
                way.target = other.authority
                way.cut()
                if told:
                    im.network_changed()
                else:
                    here = "hotel"
                sending = asyncio.create_task(im.send("echo", b"where am I?"))
                await until(lambda: bool(asked))
                await asyncio.sleep(0.3)
                sending.cancel()
            assert set(asked) == {"/im/probe"}

    run(work())


def test_a_network_without_a_way_in_is_told_in_words(tmp_path: Path) -> None:
    async def work() -> None:
        async with AsyncExitStack() as stack:
            portal = await stack.enter_async_context(place(says(http(b"<html>", kind="text/html"))))
            stranger = await stack.enter_async_context(place(gateway()))
            texts: list[str] = []
            points = [portal.authority, stranger.authority]
            async with device(points, tmp_path, on_state=lambda _, text: texts.append(text)):
                await until(lambda: any("trying again" in text for text in texts))
            said = next(text for text in texts if "trying again" in text)
            assert "1 PORTAL" in said
            assert "1 HIJACK" in said

    run(work())


def test_a_wait_that_a_gateway_asked_for_is_not_cut_short_by_a_portal_that_opens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("imcore.ways.finder.PORTAL_S", 0.02)

    async def work() -> None:
        greeted = looked = 0
        proves, stands = gateway(), says(http(b"<html>", kind="text/html"))

        async def busy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal greeted
            begun = await reader.readexactly(4)
            if begun == b"GET ":
                head = begun + await reader.readuntil(b"\r\n\r\n")
                await proves(Asked(head.split()[1].decode(), b""), writer)
                return
            greeted += 1
            writer.write(encode(ERROR, 0, "", pack(Error("overloaded", "come back later", retry_ms=3_600_000))))
            await reader.read()

        async def portal(asked: Asked, writer: asyncio.StreamWriter) -> None:
            nonlocal looked
            looked += 1
            await (stands if looked == 1 else proves)(asked, writer)

        own = base64.b64encode(KEY.public_key().public_bytes_raw()).decode()
        async with asyncio.timeout(20), listening(busy, "127.0.0.2", 0) as port, place(portal) as wall:
            points = [f"127.0.0.2:{port}", wall.authority]
            async with Client(points, "alice", "phone", keys=[own], channels="single") as im:
                await until(lambda: im.state is State.WAITING)
                await asyncio.sleep(0.3)
                assert im.state is State.WAITING
                assert greeted == 1

    run(work())
