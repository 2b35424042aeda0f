"""A link's stream: however it is cut and whatever carries it, its owner is told the same and the same goes out."""

from __future__ import annotations

import asyncio
import random
import struct
from contextlib import suppress
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imcore._codec import ACK, DUP, ERROR, FAILED, HELLO, JOIN, LEAVE, MSG, PAD, PING, PONG, ROOM, Frame, encode
from imcore._hub import Hub
from imcore._link import Link
from imcore._room import Room
from imcore.errors import BadFrame, EncodeError, TooLarge
from imcore.session import HELLO_LIMIT, Phase, moves
from tests.links import (
    ALL,
    BOTH,
    Fake,
    Loops,
    Peer,
    Recorder,
    hubs,
    join,
    on_both_loops,
    on_each_carrier,
    pair,
    run,
    settle,
    turns,
)
from tests.models import codec
from tests.models.link import LinkModel
from tests.streams import LIMIT, almost_frames, frames, pieces

SENT, HEAD = 7, 1234

ours = st.builds(
    Frame,
    type=st.sampled_from([PING, PONG, MSG, ACK, JOIN, LEAVE, PAD]),
    id=st.integers(0, 9),
    route=st.sampled_from(["", "lobby", "chat", "ß"]),
    body=st.sampled_from([b"", b"\0\x05", b"four", bytes(60)]),
    flags=st.sampled_from([0, 0, 0, DUP, ROOM, FAILED]),
)
streams = st.one_of(
    st.lists(ours, max_size=8).map(lambda some: b"".join(frame.encode() for frame in some)),
    st.lists(frames, max_size=4).map(lambda some: b"".join(frame.encode() for frame in some)),
    almost_frames(),
    st.binary(max_size=40),
)


def parted(data: bytes) -> tuple[bytes, bytes]:
    """What goes out, apart: messages of rooms, and the rest."""
    heard = answers = b""
    for frame in codec.decode(data, 1 << 24).frames:
        plain = codec.encode(frame.type, frame.id, frame.route, frame.body, frame.flags)
        if frame.type == MSG:
            heard += plain
        else:
            answers += plain
    return answers, heard


def model_of(data: bytes) -> LinkModel:
    model = LinkModel(BOTH, LIMIT, sent=SENT, head=HEAD, pong_head=True, room="lobby")
    model.feed(data)
    return model


async def seen(chunks: list[bytes], carrier: str) -> tuple[list[tuple[object, ...]], bytes, bytes, int]:
    """What a link makes of a stream in these pieces: calls, answers, what it heard in its room, and `taken`."""
    async with hubs() as hub:
        link = Recorder(hub, BOTH, LIMIT)
        link.sent, link.head, link.pong_head = SENT, HEAD, True
        peer = await join(link, carrier)
        Room(hub, "lobby").join(link)
        link.react = lambda call: link.close() if call[0] == "fault" else None
        for chunk in chunks:
            await peer.send(chunk)
        await turns(4)
        answers, heard = parted(peer.read())
        taken = link.taken
        calls = [call for call in link.calls if call[0] != "taken"]
        return calls, answers, heard, taken


def cut(data: bytes, at: list[int]) -> list[bytes]:
    return [data[i:j] for i, j in pairwise(sorted({0, *(min(n, len(data)) for n in at), len(data)}))]


@on_each_carrier
class TestAnyCutOfAStream:
    @given(data=streams, at=st.lists(st.integers(0, 400), max_size=5))
    def test_tells_the_owner_the_same_and_sends_the_same(self, carrier: str, data: bytes, at: list[int]) -> None:
        model = model_of(data)
        for chunks in (
            cut(data, []),
            cut(data, at),
            pieces(data) if carrier == "fed" else cut(data, [1, 2, 8, 15, 16]),
        ):
            calls, answers, heard, taken = run(seen(chunks, carrier))
            assert calls == model.calls
            if not model.over:
                assert (answers, heard) == (model.answers, model.heard)
            assert model.answers.startswith(answers)
            assert taken == model.taken

    def test_at_every_point(self, carrier: str) -> None:
        some = [Frame(PING, 1, body=b"\0\x09"), Frame(MSG, 3, "chat", b"hi"), Frame(MSG, 5, "lobby", b"x" * 90, ROOM),
                Frame(ACK, 3), Frame(JOIN, 9, "ß")]  # fmt: skip
        data = b"".join(frame.encode() for frame in some)
        model = model_of(data)
        for at in range(len(data)):
            calls, answers, heard, taken = run(seen(cut(data, [at]), carrier))
            assert (calls, answers, heard, taken) == (model.calls, model.answers, model.heard, model.taken)


class TestAFault:
    @given(almost_frames())
    def test_is_told_once_with_the_codecs_offset_and_ends_the_link(self, data: bytes) -> None:
        async def main() -> None:
            async with hubs() as hub:
                link = Recorder(hub, ALL, LIMIT)
                link.carry(Fake())
                for piece in cut(data, [5, 17, 40]):
                    link.feed(piece)
                _, _, error = codec.decode(data, LIMIT)
                if error is None:
                    assert link.open
                    assert not link.named("fault")
                else:
                    assert link.named("fault") == [("fault", type(error), error.code, error.offset)]
                    assert not link.open
                    before = list(link.calls)
                    link.feed(Frame(PING, 1).encode())
                    assert link.calls == before

        run(main())

    def test_of_an_illegal_move_stands_where_the_frame_starts(self) -> None:
        async def main() -> None:
            async with hubs() as hub:
                for bad in (Frame(HELLO), Frame(ACK, 8), Frame(PING, 1, body=b"x"), Frame(MSG, 1, flags=ROOM | FAILED)):
                    link = Recorder(hub)
                    link.sent = 7
                    link.carry(Fake())
                    link.feed(Frame(PONG).encode() + bad.encode() + Frame(MSG, 9).encode())
                    assert link.calls == [("fault", BadFrame, "bad_frame", 16), ("end", None)]

        run(main())

    def test_ends_a_link_whose_owner_lets_it_pass_and_its_last_words_still_go_out(self) -> None:
        async def main() -> None:
            async with hubs() as hub:
                link, fake = Recorder(hub, BOTH, LIMIT), Fake()
                link.carry(fake)
                link.react = lambda call: link.send(ERROR, body=b"why") if call[0] == "fault" else None
                link.feed(encode(MSG, 1, body=bytes(LIMIT + 1))[:8])
                assert link.calls == [("fault", TooLarge, "too_large", 4), ("end", None)]
                await turns()
                assert fake.written == [encode(ERROR, body=b"why")]
                assert fake.events == ["end"]

        run(main())


@on_both_loops
class TestHoldAndProceed:
    @on_each_carrier
    def test_what_comes_while_held_waits_in_order(self, loops: Loops, carrier: str) -> None:
        async def main() -> None:
            async with hubs() as hub:
                link = Recorder(hub)
                peer = await join(link, carrier)
                link.react = lambda call: link.hold() if call[0] == "frame" else None
                data = b"".join(Frame(MSG, number, body=bytes(number)).encode() for number in range(1, 40))
                if peer.sock is None:
                    for piece in pieces(data, 7):
                        link.feed(piece)
                else:
                    peer.sock.send(data[:100])
                    await settle(lambda: link.calls)
                    peer.sock.send(data[100:])
                for count in range(1, 40):
                    await settle(lambda count=count: len(link.calls) == count)  # type: ignore[misc]  # mypy can't infer the default
                    await turns(2)
                    assert len(link.calls) == count
                    link.proceed()
                assert [call[3] for call in link.calls] == list(range(1, 40))

        run(main(), loops)

    def test_proceeding_within_the_frame_that_was_held_at_goes_on_behind_it(self, loops: Loops) -> None:
        async def main() -> None:
            async with hubs() as hub:
                link = Recorder(hub)
                link.carry(Fake())

                def react(call: tuple[object, ...]) -> None:
                    link.hold()
                    link.proceed()

                link.react = react
                data = b"".join(Frame(MSG, number, body=bytes(30)).encode() for number in range(1, 9))
                link.feed(data[:70])
                link.feed(data[70:])
                assert [call[3] for call in link.calls] == list(range(1, 9))

        run(main(), loops)

    def test_an_acknowledgement_before_the_hold_is_told(self, loops: Loops) -> None:
        async def main() -> None:
            async with hubs() as hub:
                link = Recorder(hub)
                link.carry(Fake())
                link.sent = 5
                link.feed(Frame(ACK, 3).encode())
                link.hold()
                await turns()
                assert link.calls == [("taken", 3)]

        run(main(), loops)

    def test_feeding_a_link_from_its_own_callback_is_refused(self, loops: Loops) -> None:
        async def main() -> None:
            async with hubs() as hub:
                link = Recorder(hub)
                link.carry(Fake())

                def react(call: tuple[object, ...]) -> None:
                    if call[0] == "frame":
                        with pytest.raises(RuntimeError):
                            link.feed(b"x")
                        with pytest.raises(RuntimeError):
                            link.filled(1)

                link.react = react
                link.feed(Frame(MSG, 1).encode() + Frame(MSG, 2).encode())
                assert [call[3] for call in link.calls] == [1, 2]

        run(main(), loops)


class TestMemory:
    @on_each_carrier
    def test_a_big_frame_is_told_as_soon_as_it_is_whole(self, carrier: str) -> None:
        async def main() -> None:
            async with hubs() as hub:
                link = Recorder(hub, BOTH, 1 << 24)
                peer = await join(link, carrier)
                for size in (1 << 16, (1 << 16) + 1, 200_000, 1 << 20, (1 << 24) - 4):
                    data = random.Random(size).randbytes(size)
                    await peer.send(encode(MSG, size, "chat", data))
                    await settle(lambda: link.calls)
                    assert link.calls.pop() == ("frame", MSG, 0, size, "chat", data)

        run(main())

    def test_a_held_link_is_not_read(self) -> None:
        async def main() -> None:
            async with hubs() as hub:
                link = Recorder(hub)
                peer = await join(link, "descriptor")
                link.hold()
                assert peer.sock is not None
                flood(peer, Frame(MSG, 1, body=bytes(60_000)).encode())
                await asyncio.sleep(0.05)
                assert hub.bytes_in <= TURN
                link.proceed()
                await settle(lambda: hub.bytes_in > 200_000)

        run(main())

    def test_a_link_that_floods_gets_no_more_of_a_turn_than_its_share(self) -> None:
        async def main() -> None:
            async with hubs() as hub:
                loud, quiet = Recorder(hub), Recorder(hub)
                flooder, other = await join(loud, "descriptor"), await join(quiet, "descriptor")
                sent = flood(flooder, encode(MSG, 1, body=bytes(48)))
                assert sent > 10 * TURN
                assert other.sock is not None
                other.sock.send(encode(MSG, 2))
                heard = 0
                while not quiet.calls:
                    heard = len(loud.calls)
                    await turns(1)
                assert len(loud.calls) - heard <= TURN // 64  # nothing else ran between two turns of the quiet one
                await settle(lambda: len(loud.calls) == sent // 64)

        run(main())

    @on_both_loops
    @pytest.mark.parametrize("carrier", ["descriptor", "transport"])
    def test_who_asks_and_never_reads_is_not_asked_for_more(self, loops: Loops, carrier: str) -> None:
        async def main() -> None:
            window = 64 * 1024
            async with hubs(window=window) as hub:
                link = Recorder(hub)
                link.pong_head = True
                peer = await join(link, carrier)
                most = 0
                for _ in range(300):
                    flood(peer, Frame(PING, 5).encode() * 1000)
                    await turns(2)
                    most = max(most, link.queued)
                stuck = hub.bytes_in
                flood(peer, Frame(PING, 5).encode() * 1000)
                await turns(20)
                assert hub.bytes_in == stuck
                assert window < most <= window + 2 * 65536
                assert link.open
                got = 0
                while hub.bytes_in == stuck:  # and when it reads, it is listened to again
                    got = len(peer.read())
                    await turns(1)
                assert got

        run(main(), loops)


TURN = 16 * 1024
"""What one link gets of a turn."""


def flood(peer: Peer, data: bytes) -> int:
    assert peer.sock is not None
    sent = 0
    try:
        while True:
            sent += peer.sock.send(data)
    except BlockingIOError:
        return sent


class TestHeartbeats:
    def test_the_owner_may_correct_the_head_before_it_is_told(self) -> None:
        class Corrected(Recorder):
            def on_ping(self) -> None:
                self.head += 1

        async def main() -> None:
            async with hubs() as hub:
                link, fake = Corrected(hub), Fake()
                link.carry(fake)
                link.feed(encode(PING, 1))  # it does not ask for the head
                link.pong_head = True
                link.feed(encode(PING, 2) + encode(PING, 3))
                await turns()
                said = encode(PONG, 1) + encode(PONG, 2, body=(1).to_bytes(8)) + encode(PONG, 3, body=(2).to_bytes(8))
                assert b"".join(fake.written) == said

        run(main())

    def test_a_pong_carries_the_token_and_the_head_where_asked(self) -> None:
        async def main() -> None:
            async with hubs() as hub:
                link, fake = Recorder(hub), Fake()
                link.carry(fake)
                link.head = 2**64 - 1
                link.feed(encode(PING, 2**64 - 1))
                await turns()
                link.pong_head = True
                link.feed(encode(PING, 0, body=b"\0\0", flags=DUP | ROOM | FAILED))
                await turns()
                assert fake.written == [encode(PONG, 2**64 - 1), encode(PONG, 0, body=b"\xff" * 8)]
                assert link.calls == []

        run(main())

    def test_a_deadline_is_never_early_told_once_and_renewed_by_every_byte(self) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            async with hubs(tick_ms=7) as hub:
                link = Recorder(hub)
                link.carry(Fake())
                times: list[float] = []
                link.react = lambda call: times.append(loop.time())
                for seconds in (0.0, 0.03, 0.05):
                    begin = loop.time()
                    link.expect(seconds)
                    await settle(lambda: times)
                    assert seconds <= times.pop() - begin + 0.001 < seconds + 0.5
                begin = loop.time()
                link.expect(0.06, renew=True)
                for byte in Frame(PAD).encode()[:10]:
                    await asyncio.sleep(0.02)
                    link.feed(bytes([byte]))
                await settle(lambda: times)
                assert times[0] - begin > 0.2 + 0.06 - 0.001
                link.feed(Frame(PAD).encode()[10:] + encode(PING, 1, body=b"\0\1"))  # nothing is armed any more
                await asyncio.sleep(0.1)
                assert len(times) == 1
                assert link.open

        run(main())

    def test_a_ping_that_promises_less_moves_the_deadline_forward_and_one_that_promises_more_does_not(self) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            async with hubs() as hub:
                short, long, not_renewed = Recorder(hub), Recorder(hub), Recorder(hub)
                begin = loop.time()
                for link, seconds in ((short, 1), (long, 3600), (not_renewed, 0)):
                    link.carry(Fake())
                    link.expect(3, renew=link is not not_renewed)
                    link.feed(encode(PING, 1, body=struct.pack(">H", seconds)))
                await settle(lambda: short.calls)
                assert 1.5 <= loop.time() - begin < 2.5
                assert not long.calls
                assert not not_renewed.calls
                await settle(lambda: long.calls and not_renewed.calls)
                assert 3 <= loop.time() - begin < 4

        run(main())

    @pytest.mark.parametrize("carrier", ["descriptor", "fed"])
    def test_who_takes_what_it_is_sent_is_alive_though_nobody_reads_its_pings(self, carrier: str) -> None:
        """Its answers are more than a window, so that it is not read; they go out slowly, and it says nothing that is
        heard. When it takes no more, its time is up."""

        async def main() -> None:
            loop = asyncio.get_running_loop()
            async with hubs(window=2000) as hub:
                link = Recorder(hub)
                peer = await join(link, carrier, partial(pair, 4096))
                if carrier == "fed":
                    link.block(True)
                for _ in range(1500):
                    link.send(MSG, 1, "", bytes(1000))
                if carrier == "fed":
                    await peer.send(Frame(PAD).encode())  # the last that is read
                await turns()
                link.expect(1.0, renew=True)
                began = last = loop.time()
                while loop.time() - began < 1.7:
                    await asyncio.sleep(0.02)
                    assert not link.named("deadline") or loop.time() - last > 0.9  # as long as the test kept up
                    last = loop.time()
                    if peer.sock is not None:
                        with suppress(BlockingIOError):
                            peer.sock.recv(10_000)
                    else:
                        link.block(False)  # what a transport says whose buffer has room again, but not for all
                        link.block(True)
                await settle(lambda: link.named("deadline"))

        run(main())

    @pytest.mark.parametrize("seconds", [-1.0, float("nan"), -float("inf")])
    def test_no_deadline_lies_in_the_past(self, seconds: float) -> None:
        async def main() -> None:
            async with hubs() as hub:
                link = Recorder(hub)
                with pytest.raises(ValueError, match="expected 0 or more"):
                    link.expect(seconds)
                link.expect(float("inf"))

        run(main())


class TestSending:
    @pytest.mark.parametrize(
        ("args", "error"),
        [
            ((0,), EncodeError),
            ((12,), EncodeError),
            ((300,), EncodeError),
            ((-1,), EncodeError),
            ((MSG, 1, "", b"", 8), EncodeError),
            ((MSG, 1, "", b"", -1), EncodeError),
            ((MSG, 1, "x" * 256), EncodeError),
            ((MSG, 1, "\ud800"), EncodeError),
            ((MSG, 1, "r", bytes(1 << 24)), EncodeError),
            ((MSG, -1), OverflowError),
            ((MSG, 2**64), OverflowError),
            ((MSG, 1, None), TypeError),
            ((MSG, 1, "", None), TypeError),
        ],
    )
    def test_what_is_no_frame_is_refused_and_leaves_no_byte(self, args: tuple[int], error: type[Exception]) -> None:
        async def main() -> None:
            async with hubs() as hub:
                link = Recorder(hub)
                with pytest.raises(error):
                    link.send(*args)
                assert link.queued == 0

        run(main())

    def test_deliver_and_confirm_are_msg_and_ack(self) -> None:
        async def main() -> None:
            async with hubs() as hub:
                link, fake = Recorder(hub), Fake()
                link.deliver(4, "chat", b"hello")  # before there is a carrier
                link.confirm(8)
                link.head, link.ack_head = 6, True
                link.confirm(9)
                assert link.sent == 4
                link.carry(fake)
                await turns()
                want = encode(MSG, 4, "chat", b"hello") + encode(ACK, 8) + encode(ACK, 9, body=(6).to_bytes(8))
                assert b"".join(fake.written) == want
                assert link.queued == 0

        run(main())

    @on_both_loops
    @pytest.mark.parametrize("carrier", ["descriptor", "transport"])
    @pytest.mark.parametrize("size", [1, 447, 448, 4095, 65536, 300_000])
    def test_all_goes_out_in_order_however_slowly_it_is_read(self, loops: Loops, carrier: str, size: int) -> None:
        async def main() -> None:
            async with hubs() as hub:
                link = Recorder(hub)
                peer = await join(link, carrier)
                assert peer.sock is not None
                count = max(3, 3_000_000 // (size + 16))
                count = min(count, 20_000)
                want = b"".join(encode(MSG, number + 1, "r", bytes([number & 255]) * size) for number in range(count))
                got = bytearray()
                for number in range(count):
                    link.send(MSG, number + 1, "r", bytes([number & 255]) * size)
                    if number % 97 == 0:
                        await asyncio.sleep(0)
                while len(got) < len(want):
                    try:
                        got += peer.sock.recv(random.randint(1, 200_000))
                    except BlockingIOError:
                        await asyncio.sleep(0)
                assert got == want
                await turns(3)
                assert link.queued == 0

        run(main(), loops)


class TestCreation:
    def test_wrong_arguments_are_refused_and_touch_nothing(self) -> None:
        async def main() -> None:
            async with hubs() as hub:
                for args in [(), (None, BOTH, 1), (hub, None, 1), (hub, b"", 1), (hub, BOTH, 0), (hub, BOTH, 1 << 25),
                             (hub, BOTH, -1), (3, BOTH, 1)]:  # fmt: skip
                    with pytest.raises((TypeError, ValueError, OverflowError)):
                        Link(*args)  # type: ignore[arg-type]  # each is wrong
                with pytest.raises(ValueError, match="descriptor"):
                    Recorder(hub).adopt(-1)
                with pytest.raises(ValueError, match="tick_ms"):
                    Hub(asyncio.get_running_loop(), tick_ms=0)
                with pytest.raises(TypeError):
                    Hub()  # type: ignore[call-arg]  # it is wrong
                assert hub.links == 0

        run(main())
        with open(0, closefd=False):  # descriptor 0 is still there
            pass

    def test_the_limit_before_hello_is_the_wires(self) -> None:
        async def main() -> None:
            async with hubs() as hub:
                link = Recorder(hub, moves(Phase.GATEWAY_NEW), HELLO_LIMIT)
                link.carry(Fake())
                link.feed(encode(HELLO, body=bytes(4096)))
                assert link.calls == [("frame", HELLO, 0, 0, "", bytes(4096))]
                link.feed(encode(HELLO, body=bytes(4097))[:8])
                assert link.calls[1] == ("fault", TooLarge, "too_large", 4096 + 16 + 4)

        run(main())
