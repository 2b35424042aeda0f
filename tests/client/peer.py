"""The other side of a client, in plain asyncio: a script for each connection, or a small honest gateway."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from imcore._codec import (
    ACK,
    ERROR,
    FAILED,
    HELLO,
    JOIN,
    LEAVE,
    MSG,
    PING,
    PONG,
    ROOM,
    WELCOME,
    Frame,
    FrameDecoder,
    encode,
)
from imcore.client import Client, Message
from imcore.messages import Error, Hello, Refusal, Welcome, pack, unpack
from tests.models.uplink import GatewayModel

Result = TypeVar("Result")

NOWHERE = "127.0.0.1:1"
"""Where nobody listens."""


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """On asyncio's own loop, in debug mode: a task that nobody awaits, or a slow callback, is seen."""
    return asyncio.run(work)


class Conversation:
    """One connection, frame by frame. What comes that a test did not ask for is skipped by `expect`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.decoder = FrameDecoder(65536)
        self.seen: list[Frame] = []

    async def frame(self) -> Frame | None:
        """The next frame, None at the end."""
        while True:
            for frame in self.decoder:
                self.seen.append(frame)
                return frame
            data = await self.reader.read(65536)
            if not data:
                return None
            self.decoder.feed(data)

    async def expect(self, *types: int) -> Frame:
        """The next frame of one of these types."""
        while (frame := await self.frame()) is not None:
            if frame.type in types:
                return frame
        raise ConnectionError(f"expected a frame of {types}, but the client left after {self.seen}")

    async def rest(self) -> list[Frame]:
        """Everything until the client leaves."""
        frames = []
        while (frame := await self.frame()) is not None:
            frames.append(frame)
        return frames

    def say(self, type: int, id: int = 0, route: str = "", body: bytes = b"", flags: int = 0) -> None:
        self.writer.write(encode(type, id, route, body, flags))

    def refuse(self, id: int, code: str, text: str, retry_ms: int | None) -> None:
        self.say(ACK, id, body=pack(Refusal(code, text, retry_ms)), flags=FAILED)

    def error(self, code: str, text: str = "because", retry_ms: int | None = None) -> None:
        self.say(ERROR, body=pack(Error(code, text, retry_ms)))

    async def welcome(
        self,
        *,
        first: int | None = 1,
        head: int = 0,
        epoch: str = "e",
        resumed: bool = True,
        accepted: int = 0,
        heartbeat: tuple[int, int] = (30, 600),
        max_frame: int = 65536,
    ) -> Hello:
        """Read HELLO, and answer it. first: None = what follows the resume point."""
        hello = unpack((await self.expect(HELLO)).body, Hello)
        if first is None:
            first = hello.resume.seq + 1 if hello.resume is not None else 1
        values = Welcome("s", hello.token, "peer", epoch, head, first, resumed, accepted, heartbeat, 120, max_frame, 0)
        self.say(WELCOME, body=pack(values))
        return hello


Script = Callable[[Conversation], Awaitable[None]]


@asynccontextmanager
async def peer(*scripts: Script, narrow: bool = False) -> AsyncIterator[str]:
    """Serve each connection with its script, the last one again and again; yields the address. An assertion that fails
    in a script is raised at the end. narrow: buffer little of what the client says."""
    wait = list(scripts)
    failures: list[BaseException] = []
    served: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        served.add(task)
        script = wait.pop(0) if len(wait) > 1 else wait[0]
        try:
            await script(Conversation(reader, writer))
        except ConnectionError:
            pass
        except AssertionError as error:
            failures.append(error)
        except asyncio.CancelledError:
            pass  # the test is over; asyncio's server would complain
        finally:
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()
            served.discard(task)

    listener = socket.create_server(("127.0.0.1", 0))
    if narrow:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    server = await asyncio.start_server(serve, sock=listener, limit=4096 if narrow else 65536)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"{host}:{port}"
    finally:
        server.close()
        for task in list(served):
            task.cancel()
        if served:
            await asyncio.wait(list(served))
    if failures:
        raise failures[0]


async def idle(link: Conversation) -> None:
    """Welcome, answer pings, and wait until the client leaves."""
    await link.welcome()
    await pong(link)


async def pong(link: Conversation, head: int = 0) -> None:
    """Answer pings until the client leaves."""
    while (frame := await link.frame()) is not None:
        if frame.type == PING:
            link.say(PONG, frame.id, body=head.to_bytes(8))


async def accept(link: Conversation) -> None:
    """Take everything."""
    await link.welcome()
    while (frame := await link.frame()) is not None:
        if frame.type == PING:
            link.say(PONG, frame.id)
        elif frame.type in (MSG, JOIN, LEAVE) and frame.id:
            link.say(ACK, frame.id)


def device(address: str, **more: Any) -> Client:
    """Alice's phone, over one link: a script is one connection's."""
    return Client([address], device="phone", **({"token": "alice", "channels": "single"} | more))


async def kill(im: Client) -> None:
    """As if the process died now: nothing more is said, written or told. The client must not be used any more."""
    im._runner.cancel()
    for link in (im._connection.up, im._connection.down):
        if link is not None:
            link.abort()
    await asyncio.wait([im._runner])
    book = im._sending._book
    if book is not None and not book._closed:
        book._closed = True
        await asyncio.to_thread(book._thread.shutdown)
        book.file.close()
        book._outbox._book = None
    im._sending._on_settled = None
    im._closed = True
    im._finish(None)
    im._stack.close()


async def first(im: Client, count: int) -> list[Message]:
    """So many messages."""
    messages = []
    async for message in im:
        messages.append(message)
        if len(messages) == count:
            break
    return messages


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it."""
    while not condition():  # noqa: ASYNC110 - whatever brings it about tells nobody
        await asyncio.sleep(0.01)


def with_client(*scripts: Script, **more: Any) -> Callable[[Callable[[Client], Awaitable[None]]], None]:
    """Run what is decorated, at once, with a client of a peer that plays these scripts."""

    def play(body: Callable[[Client], Awaitable[None]]) -> None:
        async def work() -> None:
            async with asyncio.timeout(20), peer(*scripts) as address, device(address, **more) as im:
                await body(im)

        run(work())

    return play


class HonestGateway:
    """One user, one device: an inbox that is kept, the uplink rule, rooms that answer. As a script it serves a link; it
    can be told to cut the one with number `doomed` after so many bytes of what it says or of what it hears."""

    def __init__(self) -> None:
        self.rule = GatewayModel(lambda body: Refusal("bad_frame", "no", None) if body == b"bad" else None)
        self.inbox: list[bytes] = []
        self.cursor = 0
        self.links = 0
        self.said: dict[int, int] = {}
        self.heard: dict[int, int] = {}
        self.roles: dict[int, str] = {}
        self.doomed = 1
        self.cuts = 0
        self.most_said: int | None = None
        self.most_heard: int | None = None

    async def __call__(self, link: Conversation) -> None:
        self.links += 1
        number = self.links
        doomed = number == self.doomed
        most_said, most_heard = (self.most_said, self.most_heard) if doomed else (None, None)
        said = heard = 0
        ups = False
        sent = -1
        while most_heard is None or heard < most_heard:
            data = await link.reader.read(65536 if most_heard is None else most_heard - heard)
            if not data:
                return
            heard += len(data)
            out = b""
            for frame in link.decoder.feed(data):
                if frame.type == HELLO:
                    hello = unpack(frame.body, Hello)
                    self.roles[number] = hello.role
                    ups = hello.role == "up"
                    if hello.resume is not None:
                        self.cursor = max(self.cursor, hello.resume.seq)
                    sent = hello.resume.seq if hello.resume is not None else self.cursor
                    answer = Welcome(
                        "s", "alice", "peer", "e", len(self.inbox), sent + 1, True, self.rule.accepted, (30, 600), 120,
                        65536, 0,
                    )  # fmt: skip
                    out += encode(WELCOME, body=pack(answer))
                elif frame.type == PING:
                    out += encode(PONG, frame.id, body=len(self.inbox).to_bytes(8))
                elif frame.type in (JOIN, LEAVE) or (frame.type == MSG and frame.flags & ROOM):
                    out += encode(ACK, frame.id)
                elif frame.type == ACK:
                    assert self.cursor <= frame.id <= sent, "acknowledged what was not sent"
                    self.cursor = frame.id
                elif frame.type == MSG:
                    refusal = self.rule.read(number, frame.id, frame.body, bool(frame.flags & FAILED))
                    if refusal is None:
                        out += encode(ACK, frame.id, body=len(self.inbox).to_bytes(8) if ups else b"")
                    else:
                        out += encode(ACK, frame.id, body=pack(refusal), flags=FAILED)
            while not ups and 0 <= sent < len(self.inbox):
                sent += 1
                out += encode(MSG, sent, "r", self.inbox[sent - 1])
            if most_said is not None:
                out = out[: most_said - said]
            link.writer.write(out)
            said += len(out)
            if most_said is not None and said >= most_said:
                break
            self.said[number], self.heard[number] = said, heard
        self.cuts += 1
        await link.writer.drain()
