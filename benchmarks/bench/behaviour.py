"""Rows slow and big: links that stop reading, and frames of 16 MiB."""

from __future__ import annotations

import json
import os
import selectors
import socket
import struct
import threading
import time
import zlib
from functools import partial
from typing import Any

from imcore._codec import ACK, JOIN, MSG, ROOM, FrameDecoder, encode

from ..peers.frames import HEADER, Imcore
from .figures import Sample, at_least, at_most, figure
from .machine import peak, reset_peak, resident
from .plan import US, Column, Plan, RowResult, run_case
from .running import Failed, Load, Server, number, string

__all__ = ["big", "slow"]

WINDOW = 20
BODY = 1000
DURABLE = 5
"""Durable messages for each slow link."""
WINDOW_BYTES = 256 * 1024
"""The gateway's default: what may wait for a link."""
PAYLOAD = 16 * 1024 * 1024
SETTINGS = f"[limits]\nmax_frame = {PAYLOAD}\n"


def _stopping(readers: int, slow: int, seconds: float) -> Sample:
    """Phases of slow.c, and the server's memory meanwhile. Raises `Failed`."""
    peer = Imcore()
    message, number_at = peer.numbered(BODY)
    parts = []
    for i in range(1 + readers + slow):
        hello = peer.hello("fanout", i)
        parts += [string(hello.data), number(hello.wait)]
    parts += [string(message), number(number_at), number(DURABLE)]
    for i in range(slow):
        parts.append(string(peer.durable(f"u{1 + readers + i:06}", 1 + i * DURABLE, DURABLE)))
    with Server(peer, "fanout") as server:
        with Load("slow", "127.0.0.1", server.port, readers, slow, seconds, WINDOW) as load:
            load.tell(b"".join(parts))
            held: dict[str, int] = {}
            phase = load.hear()
            while phase != "end":
                reset_peak(server.pid)
                following = load.hear()
                held[phase] = peak(server.pid)
                phase = following
            found: dict[str, Any] = json.loads(load.hear())
        sample: Sample = {"missed": found["missed"], "misnumbered": found["misnumbered"]}
        for name in ("all", "stopped", "again"):
            sample[f"p99_{name}_us"] = found[name]["p99_us"]
        sample |= {
            "p99_ratio": found["stopped"]["p99_us"] / max(found["all"]["p99_us"], 1e-9),
            "grown_mib": (held["stopped"] - held["all"]) / 2**20,
            "grown_a_link": (held["stopped"] - held["all"]) / slow,
            "back": found["live_again"] / slow,
            "back_ms": found["live_again_ms"],
            "durable": found["durable_received"] / found["durable_expected"],
        }
        return sample


def slow(plan: Plan) -> RowResult:
    """1,000 links that stop reading in the middle of fan-out."""
    count, readers = plan.sizes.slow, plan.sizes.members
    case = run_case(
        plan,
        f"{count:,} of {count + readers:,} members stop reading",
        [("imcore", partial(_stopping, readers, count, plan.sizes.slow_seconds))],
        [
            Column("p99_all_us", "others' p99 while all read, ms", US, 2),
            Column("p99_stopped_us", "while the slow ones do not", US, 2),
            Column("p99_again_us", "while they read again", US, 2),
            Column("grown_mib", "memory grown, MiB", 1, 1),
            Column("missed", "room messages that slow links missed"),
            Column("back_ms", "all back after, ms"),
        ],
    )
    get = partial(case.figure, "imcore")
    verdicts = [
        at_most("others' p99 while the slow ones do not read ÷ while all read", 1.2, get("p99_ratio")),
        at_most("memory grown, bytes a slow link (its window)", WINDOW_BYTES, get("grown_a_link")),
        at_least("slow links that had a live message again", 1, get("back")),
        at_least("durable messages that they got, in order and once", 1, get("durable")),
        at_most("messages out of order or twice", 0, get("misnumbered")),
    ]
    notes = [
        f"A round is {WINDOW} messages of {BODY:,} bytes to all members; the next begins when those that read have "
        f"them. In the middle {DURABLE} durable messages are sent to each slow link's user."
    ]
    return RowResult("slow", "links that read nothing", [case], verdicts, notes)


def _member(peer: Imcore, port: int, i: int) -> socket.socket:
    """A connection that is in the room. Raises `Failed`."""
    sock = socket.create_connection(("127.0.0.1", port), 10)
    hello = peer.greet(f"u{i:06}") + encode(JOIN, 1, peer.room("fanout", i))
    sock.sendall(hello)
    decoder = FrameDecoder(PAYLOAD)
    while True:
        data = sock.recv(65536)
        if not data:
            raise Failed("closed during the hello")
        if any(frame.type == ACK for frame in decoder.feed(data)):
            return sock


def _sending_big(members: int) -> Sample:
    """One frame of 16 MiB to a room whose members read only when the gateway has all of it. Raises `Failed`."""
    peer = Imcore(settings=SETTINGS)
    with Server(peer, "fanout") as server:
        links = [_member(peer, server.port, i) for i in range(members + 1)]
        try:
            room = peer.room("fanout", 0)
            body = os.urandom(1 << 20) * (PAYLOAD >> 20)
            body = body[: PAYLOAD - len(room)]
            frame = encode(MSG, 2, room, body, ROOM)
            before = resident(server.pid)
            reset_peak(server.pid)
            sender = threading.Thread(target=links[0].sendall, args=(frame,))
            sender.start()
            sender.join(30)
            time.sleep(0.5)
            waiting = resident(server.pid)
            began = time.perf_counter()
            _receive(links[1:], struct.pack(">I", PAYLOAD), zlib.crc32(body, zlib.crc32(room.encode())))
            took = time.perf_counter() - began
            highest = peak(server.pid)
        finally:
            for link in links:
                link.close()
    return {
        "payloads": (highest - before) / PAYLOAD,
        "payloads_waiting": (waiting - before) / PAYLOAD,
        "mib_per_s": members * PAYLOAD / 2**20 / took,
    }


def _receive(links: list[socket.socket], length: bytes, checksum: int) -> None:
    """Each link gets one frame with this length and this sum over route and body. Raises `Failed`."""
    buffer = memoryview(bytearray(1 << 20))
    heads = dict.fromkeys(links, b"")
    sums = dict.fromkeys(links, 0)
    left = dict.fromkeys(links, PAYLOAD)
    by_fd = {link.fileno(): link for link in links}
    with selectors.DefaultSelector() as selector:
        for link in links:
            selector.register(link, selectors.EVENT_READ)
        while left:
            ready = selector.select(20)
            if not ready:
                raise Failed(f"{len(left)} of {len(links)} members did not get the whole frame")
            for key, _ in ready:
                link = by_fd[key.fd]
                if len(heads[link]) < HEADER:
                    heads[link] += link.recv(HEADER - len(heads[link]))
                    continue
                n = link.recv_into(buffer, min(len(buffer), left[link]))
                sums[link] = zlib.crc32(buffer[:n], sums[link])
                left[link] -= n
                if n == 0 or left[link] == 0:
                    selector.unregister(link)
                    del left[link]
    if any(head[4:8] != length for head in heads.values()) or any(each != checksum for each in sums.values()):
        raise Failed("a member got another frame than was sent")


def big(plan: Plan) -> RowResult:
    """A frame of 16 MiB for 100 members."""
    members = plan.sizes.big
    case = run_case(
        plan,
        f"16 MiB to {members:,} members",
        [("imcore", partial(_sending_big, members))],
        [
            Column("payloads", "memory grown at most, payloads", 1, 2),
            Column("payloads_waiting", "while nobody reads", 1, 2),
            Column("mib_per_s", "MiB a second, in all"),
        ],
    )
    grown = figure([each["payloads"] for each in case.samples["imcore"] if each is not None])
    verdicts = [at_most("payloads that the gateway's memory grew by", 2, grown)]
    notes = ["The members read only when the whole frame has reached the gateway, and check every byte."]
    return RowResult("big", "big frames", [case], verdicts, notes)
