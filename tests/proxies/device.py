"""A device in the tunnel that was written against the wire alone: it repeats what was not answered, resumes where it
stands, and keeps what it took in. Nothing of imcore, and none of its cleverness."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from tests.gateway.exchanges import Answered, Tunnel, down, frames, post, up
from tests.gateway.wire import ACK, FAILED, MSG, WELCOME, Got, frame

__all__ = ["Device"]

PATIENCE_S = 5.0


class Device:
    """port: of the proxy, or of the gateway. target: of the requests. more: fields that they carry, whole lines."""

    def __init__(
        self, user: str, port: int, *, target: str = "/im", more: str = "", patience: float = PATIENCE_S
    ) -> None:
        self.user = user
        self.taken: list[bytes] = []
        """The bodies of what came down, each once."""
        self.exchanges = 0
        """Begun, answered or not."""
        self._address = f"127.0.0.1:{port}"
        self._target, self._more, self._patience = target, more, patience
        self._resume: dict[str, object] | None = None

    async def send(self, bodies: list[bytes], first: int, batch: int) -> None:
        """Send them to `note`, numbered from `first`, so many in an exchange; returns when all were accepted."""
        accepted, last = first - 1, first + len(bodies) - 1
        async with _Kept(self._address) as kept:
            while accepted < last:
                numbers = range(accepted + 1, min(accepted + batch, last) + 1)
                said = [frame(MSG, number, "note", bodies[number - first]) for number in numbers]
                for got in await self._exchange(kept, up(self.user), *said):
                    if got.type == WELCOME:
                        accepted = max(accepted, got.map["accepted"])
                    elif got.type == ACK:
                        assert not got.flags & FAILED, got
                        accepted = max(accepted, got.id)

    async def poll(self, enough: Callable[[], bool], poll_ms: int = 5000) -> None:
        """Poll until it is enough."""
        async with _Kept(self._address) as kept:
            while not enough():
                self._take(await self._exchange(kept, self._down(poll_ms)))

    async def stream(self, count: int) -> None:
        """Read one streamed answer after another until so many have come in all."""
        while len(self.taken) < count:
            async with Tunnel(self._address) as tunnel:
                tunnel.say(post(self._down(0), target=self._target, more=self._more))
                self.exchanges += 1
                status, fields, _ = await tunnel.head(self._patience)
                if status != 200:  # a proxy's own: as if the connection had broken
                    continue
                rest = b""
                left = int(fields.get("content-length", -1))  # a proxy that has all of it already says how much it is
                while left and (piece := await _piece(tunnel, fields)):
                    left -= len(piece) if left > 0 else 0
                    whole, rest = _whole(rest + piece)
                    self._take(frames(whole))
                    if len(self.taken) >= count:
                        return

    def _down(self, poll_ms: int) -> bytes:
        return down(self.user, poll_ms=poll_ms, resume=self._resume)

    def _take(self, found: list[Got]) -> None:
        """Take in an answer, or a part of one."""
        for got in found:
            if got.type == WELCOME:
                assert self._resume is None or got.map["resumed"], "history is missing"
                if self._resume is None:
                    self._resume = {"epoch": got.map["epoch"], "seq": 0}
            elif got.type == MSG and self._resume is not None:
                assert got.id <= len(self.taken) + 1, "a number is missing"
                if got.id == len(self.taken) + 1:
                    self.taken.append(got.body)
                    self._resume["seq"] = got.id

    async def _exchange(self, kept: _Kept, *said: bytes) -> list[Got]:
        """What was answered; nothing if that is not known."""
        self.exchanges += 1
        try:
            tunnel = await kept.tunnel()
            tunnel.say(post(*said, target=self._target, more=self._more))
            answered = await tunnel.answer(self._patience + 5)
        except (OSError, asyncio.IncompleteReadError):
            await kept.drop()
            return []
        if answered.status != 200 or _closes(answered):
            await kept.drop()
        return answered.frames if answered.status == 200 else []


class _Kept:
    """One connection after another."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._tunnel: Tunnel | None = None

    async def __aenter__(self) -> _Kept:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.drop()

    async def tunnel(self) -> Tunnel:
        if self._tunnel is None:
            self._tunnel = await Tunnel(self._address).__aenter__()
        return self._tunnel

    async def drop(self) -> None:
        tunnel, self._tunnel = self._tunnel, None
        if tunnel is not None:
            tunnel.writer.close()
            with contextlib.suppress(OSError):
                await tunnel.writer.wait_closed()


def _closes(answered: Answered) -> bool:
    framed = "content-length" in answered.fields or "transfer-encoding" in answered.fields
    return answered.fields.get("connection", "").lower() == "close" or not framed


async def _piece(tunnel: Tunnel, fields: dict[str, str]) -> bytes:
    """The next bytes of a streamed answer; b"" is its end."""
    if "transfer-encoding" in fields:
        return await tunnel.piece()
    return await tunnel.reader.read(65536)


def _whole(data: bytes) -> tuple[bytes, bytes]:
    """The whole frames that it begins with, and the rest."""
    at = 0
    while at + 16 <= len(data):
        size = 16 + int.from_bytes(data[at + 4 : at + 8])
        if at + size > len(data):
            break
        at += size
    return data[:at], data[at:]
