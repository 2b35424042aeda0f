"""The one Lua script that does everything: its parts in order, and the names of keys.

All keys of a shard have one hash tag, so that a call stays on one slot of a cluster whatever it touches. A user's shard
is decided by the user's name alone, and the number of shards is fixed when Redis is first used.
"""

from __future__ import annotations

from importlib import resources
from zlib import crc32

__all__ = ["Keys", "draining_source", "source"]


def source() -> bytes:
    """The script; Redis refuses it as a whole when its memory is full."""
    parts = sorted((part for part in (resources.files(__package__) / "lua").iterdir()), key=lambda part: part.name)
    return b"".join(part.read_bytes() for part in parts if part.name.endswith(".lua"))


def draining_source() -> bytes:
    """The same for what makes room: Redis runs it even when its memory is full."""
    return source().replace(b"#!lua\n", b"#!lua flags=allow-oom\n", 1)


class Keys:
    """Names of keys. space: what all of them begin with. shards: how many there are."""

    def __init__(self, space: str, shards: int) -> None:
        self.space = space
        self.shards = shards
        self.tags = [f"{space}:{{{shard}}}:".encode() for shard in range(shards)]

    def shard(self, name: str) -> int:
        """Where a user or a room lives. Raises `UnicodeEncodeError`."""
        return crc32(name.encode()) % self.shards

    def meta(self, shard: int) -> bytes:
        """What is known of the shard."""
        return self.tags[shard] + b"meta"

    def named(self, shard: int) -> tuple[bytes, bytes]:
        """What a batch names: `meta`, and a key that is never there, for which a cluster that moves the slot refuses it
        as a whole. Else it would fail in its middle, at the first key that has gone or is new."""
        return self.meta(shard), self.tags[shard]

    def queue(self, shard: int) -> bytes:
        """The uplink queue."""
        return self.tags[shard] + b"up"

    def loads(self) -> bytes:
        """How nodes do, in the first shard."""
        return self.tags[0] + b"loads"

    def wakes(self, shard: int, node: str) -> bytes:
        """Wake-ups for a node."""
        return self.tags[shard] + b"wakes:" + node.encode()
