"""The books of the Redis engine, from what lies in Redis, beside its counters; and the letters that are dead.

Reads only, but for what is asked for about a letter. Nodes may work meanwhile: then it counts again until nothing moved
while it counted, and says so if that never was the case.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec
import redis
from redis.exceptions import RedisError

from ...errors import EngineError
from ..books import SHOWN, Action, Books, Letter, expect
from ..ports import Uplink
from .connection import explain
from .script import Keys, source

__all__ = ["audit", "letters", "settle_letter"]

TRIES = 5
PART = 500
COUNTERS = (
    b"accepted", b"settled", b"dead", b"dropped", b"replayed", b"withdrawn", b"appended", b"delivered", b"expired"
)  # fmt: skip

Client = Any
"""redis-py's types say that every answer may be awaited; those of this client never are."""


@contextmanager
def _talking(url: str, space: str) -> Iterator[tuple[Client, Keys]]:
    try:
        client: Client = redis.Redis.from_url(url, protocol=2, socket_connect_timeout=3, socket_timeout=30)
        if client.info("cluster").get("cluster_enabled"):
            client.close()
            client = redis.RedisCluster.from_url(url, protocol=2, socket_connect_timeout=3, socket_timeout=30)
        try:
            count = client.hget(Keys(space, 1).meta(0), "shards")
            if count is None:
                raise EngineError(
                    f"Redis has nothing of {space!r}; expected the url and space that nodes have in [bus]"
                )
            yield client, Keys(space, int(count))
        finally:
            client.close()
    except (RedisError, ValueError) as error:
        raise EngineError(f"Redis can't be read: {explain(error)}") from error


def audit(url: str, space: str) -> Books:
    """Read everything and count again. Raises `EngineError` if Redis can't be read."""
    with _talking(url, space) as (client, keys):
        tries = 0
        while True:
            before, tries = _counters(client, keys), tries + 1
            books = _books(client, keys, before)
            if _counters(client, keys) == before:
                return books
            if tries == TRIES:
                books.faults = ["messages went on all the time: these counts are of no one moment, and prove nothing"]
                return books


def letters(url: str, space: str) -> list[Letter]:
    """All messages that were put aside, oldest first."""
    found = []
    with _talking(url, space) as (client, keys):
        for shard in range(keys.shards):
            for number, kept in client.hgetall(keys.tags[shard] + b"dead").items():
                at_ms, size, rest = kept.split(b" ", 2)
                uplink = msgspec.msgpack.decode(rest[int(size) :], type=Uplink)
                name = int(number) * keys.shards + shard
                found.append(Letter(name, uplink, rest[: int(size)].decode(), int(at_ms), None))
    return sorted(found, key=lambda letter: (letter.buried_ms, letter.number))


def settle_letter(url: str, space: str, number: int, action: Action) -> bool:
    """Have a letter handled again, or give it up, now; False if there is none of that number."""
    with _talking(url, space) as (client, keys):
        number, shard = divmod(number, keys.shards)
        words = ("audit", 0, 0, 0, 0, 0, 0, "letter", 2, number, action)
        return bool(client.eval(source(), 2, *keys.named(shard), *words)[3][0])


def _counters(client: Client, keys: Keys) -> list[Any]:
    pipeline = client.pipeline(transaction=False)
    for shard in range(keys.shards):
        pipeline.hmget(keys.meta(shard), *COUNTERS)
        pipeline.xlen(keys.queue(shard))
    found: list[Any] = pipeline.execute()
    return found


def _books(client: Client, keys: Keys, counters: list[Any]) -> Books:
    total = dict.fromkeys(COUNTERS, 0)
    for found in counters[::2]:
        for counter, value in zip(COUNTERS, found, strict=True):
            total[counter] += int(value or 0)
    waiting = sum(counters[1::2])
    dead = sum(client.hlen(tag + b"dead") for tag in keys.tags)
    faults: list[str] = []
    users = devices = heads = gone = expired = 0
    wrong: list[str] = []
    for name, state, kept in _inboxes(client, keys):
        head, first = int(state.get(b"head", 0)), int(state.get(b"first", 1))
        users += 1
        heads += head
        gone += first - 1
        expired += int(state.get(b"expired", 0))
        if kept != (head - first + 1, first if first <= head else 0, head if first <= head else 0):
            count, least, most = kept
            wrong.append(
                f"inbox of {name!r}: expected {first} to {head}, found {count} messages from {least} to {most}"
            )
        for field, value in state.items():
            devices += field.startswith(b"t:")
            if field.startswith(b"t:") and int(value) > head:
                device = field[2:].decode()
                wrong.append(f"device {device!r} of {name!r}: has taken number {int(value)}, but the newest is {head}")
    books = Books(
        accepted=total[b"accepted"],
        settled=total[b"settled"],
        waiting=waiting,
        dead=dead,
        dropped=total[b"dropped"],
        replayed=total[b"replayed"],
        withdrawn=total[b"withdrawn"],
        appended=heads,
        delivered=gone - expired,
        undelivered=heads - gone,
        expired=expired,
        users=users,
        devices=devices,
        faults=faults,
    )
    expect(faults, "settled + waiting + dead + dropped", books.settled + waiting + dead + books.dropped,
           "accepted", books.accepted)  # fmt: skip
    expect(faults, "dead + dropped + replayed", dead + books.dropped + books.replayed, "put aside", total[b"dead"])
    expect(faults, "the inboxes' newest numbers", heads, "appended", total[b"appended"])
    expect(faults, "what the inboxes let go of", gone, "delivered and expired", total[b"delivered"] + total[b"expired"])
    expect(faults, "what the inboxes say has expired", expired, "expired", total[b"expired"])
    faults += wrong[:SHOWN] + (["… and more of these"] if len(wrong) > SHOWN else [])
    return books


def _inboxes(client: Client, keys: Keys) -> Iterator[tuple[str, Mapping[bytes, bytes], tuple[int, int, int]]]:
    """Each user's state, and what lies in the inbox: how many messages, and the numbers of the first and last."""
    plain = re.sub(r"([][*?\\^-])", r"\\\1", keys.space)
    names = client.scan_iter(match=f"{plain}:{{*}}:user:*", count=PART * 2)
    for part in _parts(names):
        pipeline = client.pipeline(transaction=False)
        for name in part:
            tag, _, user = name.partition(b":user:")
            inbox = tag + b":inbox:" + user
            pipeline.hgetall(name)
            pipeline.xlen(inbox)
            pipeline.xrange(inbox, count=1)
            pipeline.xrevrange(inbox, count=1)
        found = pipeline.execute()
        for place, name in enumerate(part):
            state, count, first, last = found[place * 4 : place * 4 + 4]
            ends = [int(entry[0][0].partition(b"-")[0]) if entry else 0 for entry in (first, last)]
            yield name.partition(b":user:")[2].decode(), state, (count, ends[0], ends[1])


def _parts(names: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Each name once (a scan may say one twice), so many at a time."""
    seen: set[bytes] = set()
    part: list[bytes] = []
    for name in names:
        if name not in seen:
            seen.add(name)
            part.append(name)
        if len(part) == PART:
            yield part
            part = []
    if part:
        yield part
