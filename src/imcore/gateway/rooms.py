"""Rooms of one gateway: who is in, and who may publish. Messages to a room are transient: no queue, no inbox.

A member's own publishing never comes here: the link relays it itself.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from .._hub import Hub
from .._link import Link
from .._room import Room
from ..bus.ports import Push
from ..errors import EncodeError, EngineError
from ..messages import Refusal
from .admission import RETRY_MS, retry_ms
from .limits import Limits

if TYPE_CHECKING:
    from .link import ServerLink

__all__ = ["Rooms"]


class _OpenRoom(Room):
    """A room that is forgotten when its last member has left."""

    __slots__ = ("rooms",)

    rooms: Rooms

    def on_empty(self) -> None:
        self.rooms.emptied(self)


class Rooms:
    """All rooms that have members on this node. push: told which these are."""

    def __init__(self, hub: Hub, limits: Limits, push: Push, node: str) -> None:
        self._push = push
        self._node = node
        self._hub = hub
        self._limits = limits
        self._rooms: dict[str, Room] = {}

    def __len__(self) -> int:
        return len(self._rooms)

    def join(self, link: ServerLink, id: int, name: str) -> None:
        """`JOIN`: answered by `ACK`; being in already is no error."""
        room = self._rooms.get(name)
        if room is None:
            try:
                room = _OpenRoom(self._hub, name)
            except EncodeError as error:
                link.refuse(id, Refusal("no_route", str(error)))
                return
            room.rooms = self
            if self._push.spreads:
                room.onward = partial(self._push.relay, self._node, name)
        elif room.holds(link):
            link.confirm(id)
            return
        if link.room_count >= self._limits.rooms_per_link:
            text = f"expected at most {self._limits.rooms_per_link} rooms on one link"
            link.refuse(id, Refusal("rate_limited", text))
            return
        if name not in self._rooms:
            if not self._push.joined(self._node, name):
                link.refuse(id, Refusal("overloaded", "too many rooms begin and end at this node", retry_ms()))
                return
            self._rooms[name] = room
        room.join(link)
        link.confirm(id)

    def leave(self, link: ServerLink, id: int, name: str) -> None:
        """`LEAVE`: answered by `ACK`; not being in is no error."""
        room = self._rooms.get(name)
        if room is not None:
            room.leave(link)
        link.confirm(id)

    def emptied(self, room: Room) -> None:
        """Its last member has gone."""
        if self._rooms.get(room.name) is room:
            del self._rooms[room.name]
            self._push.left(self._node, room.name)

    def publish(self, link: ServerLink, id: int, name: str, body: bytes, down: Link | None) -> None:
        """A client's message for a room that this link is not in. down: the same device's link that is listening, which
        may be (where up and down are apart)."""
        room = self._rooms.get(name)
        if self._limits.publish == "none":
            text = "only services publish to rooms here"
        elif room is None or down is None or not room.holds(down):
            text = f"expected a member of room {name!r}: JOIN it first"
        else:
            self.said(room, body)
            if id:
                link.confirm(id)
            return
        if id:
            link.refuse(id, Refusal("unauthorized", text))

    def said(self, room: Room, body: bytes) -> None:
        """A member has said this, though not on the link that hears."""
        room.publish(body)
        if room.onward is not None:
            room.onward(body)

    def said_elsewhere(self, down: Link, name: str, body: bytes) -> None:
        """A device whose link down is here has said this at another node."""
        room = self._rooms.get(name)
        if room is not None and room.holds(down):
            self.said(room, body)

    async def say_elsewhere(self, link: ServerLink, id: int, user: str, device: str, name: str, body: bytes) -> None:
        """A device whose link down is not here says something: whoever has that link looks whether it is a member."""
        try:
            refusal = None
            if self._limits.publish == "none":
                refusal = Refusal("unauthorized", "only services publish to rooms here")
            elif not await self._push.say(user, device, name, body):
                refusal = Refusal("unauthorized", f"expected a member of room {name!r}: JOIN it first")
        except EngineError as error:
            refusal = Refusal("overloaded", str(error), RETRY_MS)
        if id and link.open:
            if refusal is None:
                link.confirm(id)
            else:
                link.refuse(id, refusal)

    def broadcast(self, name: str, body: bytes) -> None:
        """What was published elsewhere, or by a service."""
        room = self._rooms.get(name)
        if room is not None:
            room.publish(body)
