"""Wake-ups and room broadcasts: a stream for each node in each shard, read in batches.

What concerns the node of this process is told it directly. Streams of other nodes get one copy of each broadcast for a
room that has members there. All of it is soft state: a node says every few seconds that it lives, and what it holds is
put back when Redis has forgotten it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from redis.asyncio.connection import AbstractConnection

from ...errors import EngineError
from ..ports import Wake
from .pipe import Pipe
from .reader import ask, read_forever

__all__ = ["RedisPush"]

NODE_MS = 10_000
"""How long a node counts as alive after it last said so."""
RELAYED_MOST = 4 << 20
"""Bytes that may be on their way to Redis of what members have said, beyond which more is dropped."""
RELAY_COSTS = 512
"""What one of these takes beside its body, bytes, about."""
CHANGES_MOST = 4_000
"""Rooms of which Redis is being told that they have members here, or none any more; beyond it none begins."""
BATCH = 1000
BLOCK_MS = 2000

log = logging.getLogger("imcore.bus")

Said = Callable[[str, str, str, bytes], None]
Fallen = Callable[[str, bytes, bytes, bytes, bytes], None]


class _Node:
    def __init__(
        self, wake: Callable[[Sequence[Wake]], None], room: Callable[[str, bytes], None], said: Said | None
    ) -> None:
        self.wake = wake
        self.room = room
        self.said = said
        self.rooms: set[str] = set()


class RedisPush:
    """Follows `ports.Push`. wiped: told of a shard that has forgotten this node."""

    def __init__(self, pipe: Pipe) -> None:
        self.life = secrets.token_hex(4)
        """Tells this process's nodes from those of the same names that were before."""
        self.here = ""
        """The node that is told directly; "" = there is none."""
        self.wiped: Callable[[int], None] = lambda shard: None
        self.fallen: Fallen = lambda *_: None
        """Told of a route of ours that fell elsewhere: user, its field and value, and those of the newer one."""
        self._pipe = pipe
        self._nodes: dict[str, _Node] = {}
        self._read: dict[bytes, bytes] = {}  # up to where each stream was read
        self._trimmed: dict[bytes, bytes] = {}
        self._gathered: list[Wake] = []
        self._changing: set[tuple[str, str]] = set()  # nodes and rooms of which a change is on its way
        self._relayed = 0  # bytes on their way
        self.dropped = 0
        self._attached = asyncio.Event()
        self._alive: list[str] = []

    spreads = True

    def attach(
        self,
        node: str,
        wake: Callable[[Sequence[Wake]], None],
        room: Callable[[str, bytes], None],
        said: Said | None = None,
    ) -> None:
        """This node's gateway takes wake-ups for its users, and broadcasts for rooms that have members here."""
        self._nodes[node] = _Node(wake, room, said)
        self.here = self.here or node
        for shard in range(self._pipe.keys.shards):
            self._read[self._pipe.keys.wakes(shard, node)] = b"0-0"
        self.lives(node)
        self._attached.set()

    def lives(self, node: str) -> None:
        """From now on this node counts as alive."""
        if node not in self._alive:
            self._alive.append(node)
            for shard in range(self._pipe.keys.shards):
                self._live(shard, node)

    def joined(self, node: str, room: str) -> bool:
        """The node has members in the room now. False: not yet, too many rooms begin and end."""
        if len(self._changing) >= CHANGES_MOST:
            return False
        self._nodes[node].rooms.add(room)
        self._change(node, room)
        return True

    def left(self, node: str, room: str) -> None:
        """The node has no members in the room any more."""
        self._nodes[node].rooms.discard(room)
        self._change(node, room)

    def _change(self, node: str, room: str) -> None:
        """Redis is told how it is now, or once it has taken what is on its way: of a room one thing at a time."""
        if (node, room) in self._changing:
            return
        self._changing.add((node, room))
        member = room in self._nodes[node].rooms
        name, args = (b"member", (room, node, self.life)) if member else (b"no_member", (room, node))
        self._pipe.do(self._pipe.keys.shard(room), name, args, partial(self._changed, node, room, member))

    def _changed(self, node: str, room: str, member: bool, result: Any) -> None:
        self._changing.discard((node, room))
        if isinstance(result, EngineError):
            if not self._pipe.closed:
                log.error("Redis was not told of room %r: %s", room, result)
        elif member is not (room in self._nodes[node].rooms):
            self._change(node, room)

    def relay(self, node: str, room: str, body: bytes) -> None:
        """A member on this node has said something: the other nodes that have members get a copy each."""
        size = len(body) + RELAY_COSTS
        if not self._pipe.up or self._relayed + size > RELAYED_MOST:
            self.dropped += 1
            return
        self._relayed += size
        landed = partial(self._landed, size)
        self._pipe.do(self._pipe.keys.shard(room), b"broadcast", (room, body, node), landed, len(body))

    async def say(self, user: str, device: str, room: str, body: bytes) -> bool:
        """Hand it to the node where the device hears. Raises `EngineError`."""
        return bool(await self._pipe.ask(self._pipe.keys.shard(user), b"say", user, device, room, body, size=len(body)))

    async def broadcast(self, room: str, body: bytes) -> None:
        """Hand a transient message to every node that has members. Raises `EngineError`."""
        try:
            shard = self._pipe.keys.shard(room)
        except UnicodeEncodeError as error:
            raise EngineError(f"room {room!r}: expected text that UTF-8 can carry: {error.reason}") from None
        here = self._nodes.get(self.here)
        if here is not None and room in here.rooms:
            here.room(room, body)
        await self._pipe.ask(shard, b"broadcast", room, body, self.here, size=len(body))

    def wake(self, wake: Wake) -> None:
        """Something was appended by this process; its own node is told at once, those of one turn together."""
        if not self.here:
            return
        if not self._gathered:
            asyncio.get_running_loop().call_soon(self._tell)
        self._gathered.append(wake)

    def tick(self) -> None:
        """Say that the nodes live, and let go of what was read."""
        for node in self._alive:
            for shard in range(self._pipe.keys.shards):
                self._live(shard, node)
                name = self._pipe.keys.wakes(shard, node)
                upto = self._read.get(name, b"0-0")
                if upto != self._trimmed.get(name, b"0-0"):
                    self._trimmed[name] = upto
                    self._pipe.do(shard, b"read_up_to", (node, upto))

    def lost(self, shards: set[int]) -> None:
        """Redis holds another history there: streams begin anew, and what was in it of this node is put back."""
        for name in self._read:
            self._read[name] = b"0-0"
        for shard in shards:
            self._lives(shard, 0)

    def close(self) -> None:
        """The nodes end in good order."""
        for node in self._alive:
            for shard in range(self._pipe.keys.shards):
                self._pipe.do(shard, b"bye", (node, self.life))

    async def read(self, shards: Sequence[int]) -> None:
        """Read the wake-ups of these shards until cancelled. In a cluster they are one."""
        await self._attached.wait()
        await read_forever(partial(self._pipe.connect, shards[0]), partial(self._reading, shards))

    def _landed(self, size: int, result: Any) -> None:
        self._relayed -= size
        self.dropped += isinstance(result, EngineError)

    def _live(self, shard: int, node: str) -> None:
        self._pipe.do(shard, b"node", (node, self.life, NODE_MS), partial(self._lives, shard))

    def _lives(self, shard: int, known: Any) -> None:
        if known == 0:
            for name, node in self._nodes.items():
                for room in node.rooms:
                    if self._pipe.keys.shard(room) == shard:
                        self._pipe.do(shard, b"member", (room, name, self.life))
            self.wiped(shard)

    async def _reading(self, shards: Sequence[int], connection: AbstractConnection) -> None:
        while True:
            streams = {self._pipe.keys.wakes(shard, node): node for shard in shards for node in self._nodes}
            found = await ask(
                connection, b"XREAD", b"COUNT", BATCH, b"BLOCK", BLOCK_MS, b"STREAMS", *streams,
                *[self._read[name] for name in streams],
            )  # fmt: skip
            for name, entries in found or ():
                self._read[name] = entries[-1][0]
                self._came(self._nodes[streams[name]], entries)

    def _came(self, node: _Node, entries: Sequence[Any]) -> None:
        wakes = []
        for _, fields in entries:
            kind = fields[0]
            if kind == b"u":
                wakes.append(Wake(fields[1].decode(), int(fields[3]), fields[5].decode(), fields[7]))
            elif kind == b"s":
                if node.said is not None:
                    user, device, room = (fields[place].decode() for place in (1, 3, 5))
                    self._guard(node.said, user, device, room, fields[7])
            elif kind == b"x":
                self._guard(node.room, fields[1].decode(), fields[3])
            elif kind == b"f":
                self._guard(self.fallen, fields[1].decode(), fields[3], fields[5], fields[7], fields[9])
            # anything else is a newer version's, for nodes of its own
        if wakes:
            self._guard(node.wake, wakes)

    def _tell(self) -> None:
        gathered, self._gathered = self._gathered, []
        self._guard(self._nodes[self.here].wake, gathered)

    def _guard(self, tell: Callable[..., None], *args: Any) -> None:
        """A wake-up is a hint: one that fails harms nobody else."""
        try:
            tell(*args)
        except Exception:
            log.exception("a node failed on a wake-up; its links heal by their heartbeat")
