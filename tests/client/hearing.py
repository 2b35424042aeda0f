"""One exchange of a client whose connection says whatever a test wants: what becomes of it, without a socket."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple, cast

from imcore._hub import Hub
from imcore.client.exchange import ExchangeLink
from imcore.client.link import ClientLink
from imcore.errors import WayError
from imcore.messages import GoAway, Hello, Refusal, Welcome
from imcore.points import Point
from imcore.ways.dial import Stream
from imcore.ways.learned import Manner
from imcore.ways.memory import Memory
from imcore.ways.still import Still
from imcore.ways.tunnel import Path, Tunnel, _Connection

__all__ = ["Heard", "hear"]


class Heard(NamedTuple):
    """What the client made of it."""

    end: str
    """`served`, the gateway's code, or the name of what was met."""
    told: list[tuple[object, ...]]


class Transport:
    """Takes everything, and is closed when told to."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0


class Owner:
    """Writes down what the link tells."""

    doubts = 0

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def opening(self, link: ClientLink) -> None: ...

    def welcomed(self, link: ClientLink, welcome: Welcome) -> None:
        self.told.append(("welcome", welcome))

    def message(self, link: ClientLink, seq: int, route: str, body: bytes, room: str | None) -> None:
        self.told.append(("message", seq, route, body, room))

    def answer(self, link: ClientLink, number: int, refusal: Refusal | None) -> None:
        self.told.append(("answer", number, refusal))

    def head(self, link: ClientLink, head: int) -> None:
        self.told.append(("head", head))

    def waits(self, link: ClientLink) -> bool:
        return False

    def lags(self, link: ClientLink) -> bool:
        return False

    def lacks(self, link: ClientLink, head: int) -> int | None:
        raise AssertionError("nobody can ping in the tunnel")

    def too_large(self, link: ClientLink, size: int) -> None:
        self.told.append(("too large",))

    def still(self, link: ClientLink) -> Still:
        return Still()

    def died(self, link: ClientLink, silence_s: float) -> None: ...

    def going(self, link: ClientLink, notice: GoAway) -> None:
        self.told.append(("going", notice))

    def ended(self, link: ClientLink) -> None:
        self.told.append(("ended",))


async def hear(path: Path, chunks: list[bytes]) -> Heard:
    """Ask, and hear these bytes, then the end of the connection."""
    loop = asyncio.get_running_loop()
    failures: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: failures.append(context))
    hub = Hub(loop, native=False)
    owner, transport, point = Owner(), Transport(), Point("http", "im.example.com", 80)
    tunnel = Tunnel(hub, point, Manner(Memory(), str(point), str(point)))
    connection = _connection(hub, point)
    connection.connection_made(cast(asyncio.Transport, transport))
    tunnel._connections[path] = connection
    link = ExchangeLink(hub, owner, tunnel, path, quick=False, last=False)
    link.hello(Hello("alice", "phone", "up" if path == "up" else "down"), 10)
    link.ask()
    await asyncio.sleep(0)
    assert transport.written.startswith(b"POST /im HTTP/1.1\r\n")
    for chunk in chunks:
        for at in range(0, len(chunk), len(hub.buffer)):
            piece = chunk[at : at + len(hub.buffer)]
            if not transport.closed:
                hub.buffer[: len(piece)] = piece
                connection.buffer_updated(len(piece))
    connection.connection_lost(None)
    assert not link.open
    assert owner.told[-1] == ("ended",)
    assert owner.told.count(("ended",)) == 1
    assert not failures, failures
    cause = link.reason.__cause__
    end = "served" if link.served else cause.outcome if isinstance(cause, WayError) else link.reason.code
    hub.close()
    return Heard(end, owner.told[:-1])


def _connection(hub: Hub, point: Point) -> _Connection:
    class Nowhere:
        def fileno(self) -> int:
            return -1

    return _Connection(hub, point, Stream(cast(Any, Nowhere())))
