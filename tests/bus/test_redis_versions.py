"""Two versions at once over one Redis: a newer one writes fields and kinds of its own, an older one reads past them."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from imcore.bus.ports import Route
from imcore.bus.redis import RedisBus
from imcore.bus.redis.audit import audit
from imcore.bus.redis.routes import RedisRoutes
from imcore.bus.redis.script import source
from imcore.errors import EngineError
from tests import redis_server
from tests.bus.engines import Link, Taker, pipe, run, until, uplink
from tests.redis_server import RedisServer

pytestmark = pytest.mark.skipif(redis_server.missing is not None, reason=redis_server.missing or "")

ADDED = {
    b"redis.call('XADD', queue, text(next_of('entry')) .. '-0', 'm', message)":
    b"redis.call('XADD', queue, text(next_of('entry')) .. '-0', 'm', message, 'why', 'newer')",
    b"redis.call('HSET', state, 'a:' .. device, id)":
    b"redis.call('HSET', state, 'a:' .. device, id, 'n:' .. device, 'newer', 'novel', 'x')",
    b"seq .. '-0', 'r', route, 'b', body, 't', text(now))":
    b"seq .. '-0', 'r', route, 'b', body, 't', text(now), 'by', 'newer')",
    b"'*', 'u', user, 'q', seq, 'r', route, 'b', body)":
    b"'*', 'u', user, 'q', seq, 'r', route, 'b', body, 'by', 'newer')\n"
    b"redis.call('XADD', wakes(node), '*', 'novel', user)",
    b"cmsgpack.pack({now + ms, routes})": b"cmsgpack.pack({now + ms, routes, 'newer'})",
}  # fmt: skip
"""What a newer version may do: each of these adds to what is there."""


async def newer(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> RedisBus:
    """An engine as a later version might be."""
    script = source()
    for old, new in ADDED.items():
        assert old in script, old
        script = script.replace(old, new)
    encode = msgspec.msgpack.encode
    bus = RedisBus(server.url, shards=2)
    with monkeypatch.context() as patched:
        for place in ("script.source", "way.source"):  # of the first, what makes room is made
            patched.setattr(f"imcore.bus.redis.{place}", lambda: script)
        await bus.start()

    def claim(self: RedisRoutes, shard: int, route: Route) -> asyncio.Future[object]:
        value = encode([route.device, route.place, route.client, {"since": 1}])
        return self._pipe.ask(shard, b"claim", route.user, self._field(route), value)

    monkeypatch.setattr(bus.routes, "_claim", claim.__get__(bus.routes))
    return bus


@pytest.mark.parametrize("new_is", ["gateway", "service"])
def test_what_a_newer_version_adds_an_older_one_reads_past(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, new_is: str
) -> None:
    async def main() -> None:
        old = RedisBus(server.url, shards=2)
        await old.start()
        new = await newer(server, monkeypatch)
        gateway, service = (new, old) if new_is == "gateway" else (old, new)
        there, down, link = Taker(), Taker(), Link()
        service.queue.consume({"chat": None}, there.take)
        gateway.push.attach("gateway", down.wakes.extend, lambda room, body: down.rooms.append((room, body)))
        await until(lambda: len(service._consumer._held) == 2)
        gateway._services.tell()
        await pipe(gateway).quiet()
        routes = [Route(f"user {n}", "phone", "gateway", "phone", "both", n + 1, "app/1") for n in range(10)]
        for route in routes:
            assert await gateway.routes.claim(route) is None
            assert await service.routes.online(route.user) == [route]
            gateway.queue.put(uplink(1, user=route.user), link)
        gateway.queue.put(uplink(1, user="user 0"), link)  # a repeat
        await until(lambda: len(link.durable) == 11)
        for message in await there.took(10):
            assert await service.inbox.append(message.user, "chat", message.body, message.key) == 1
            assert await service.inbox.append(message.user, "chat", message.body, message.key) == 1
        service.queue.settle(there.messages)
        await until(lambda: len(down.wakes) == 10)
        tag = f"imcore:{{{pipe(new).keys.shard('user 0')}}}:"
        added = {
            "gateway": server.command("HGET", f"{tag}user:user 0", "n:phone"),
            "service": server.command("XRANGE", f"{tag}inbox:user 0", "-", "+"),
        }
        assert b"newer" in added[new_is]
        for route in routes:
            opening = await gateway.inbox.open(route.user, "phone", None, "oldest")
            assert (opening.head, opening.first, opening.accepted) == (1, 1, 1)
            assert [stored.body for stored in await gateway.inbox.read(route.user, 0, 10, 1000)] == [b"body 1"]
            gateway.inbox.taken(route.user, "phone", 1)
        gateway.push.joined("gateway", "hall")
        await pipe(gateway).quiet()
        await service.push.broadcast("hall", b"hello")
        await until(lambda: down.rooms == [("hall", b"hello")])
        await gateway.close()
        await service.close()
        books = audit(server.url, "imcore")
        assert books.faults == []
        assert (books.accepted, books.settled, books.appended, books.delivered) == (10, 10, 10, 10)

    run(main())


def test_a_format_that_this_version_does_not_read_is_an_error_and_nothing_is_touched(server: RedisServer) -> None:
    async def main() -> None:
        bus = RedisBus(server.url, shards=2)
        await bus.start()
        await bus.inbox.append("bob", "chat", b"hello")
        await bus.close()
        for shard in range(2):
            server.command("HSET", f"imcore:{{{shard}}}:meta", "format", "2")
        with pytest.raises(EngineError, match="in format 2, and this version reads 1"):
            await RedisBus(server.url, shards=2).start()
        assert audit(server.url, "imcore").appended == 1

    run(main())


def test_what_lies_there_without_a_format_is_of_the_first_one_whoever_asks(server: RedisServer) -> None:
    def told(asker: int) -> bytes:
        """The format of what is kept, at the end of the answer."""
        mark = ("mark", "5", "0", "", "fresh", "2", str(asker))
        answer = server.command("EVAL", source().decode(), "1", "imcore:{0}:meta", "asker", *["0"] * 6, *mark)
        return answer.split(b"\r\n")[-2].lstrip(b":")

    assert told(2) == b"2"  # nothing was there: it is of who asks
    assert told(1) == b"2"
    assert server.command("HDEL", "imcore:{0}:meta", "format") == b":1\r\n"
    assert told(2) == b"1"
