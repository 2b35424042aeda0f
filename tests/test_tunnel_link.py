"""A body's bytes go from the HTTP reader straight into a link: the same frames as by way of events, from any cut."""

from __future__ import annotations

import asyncio
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imcore._codec import MSG, encode
from imcore._hub import Hub
from imcore._tunnel import Data, End, ResponseHead
from tests.http_streams import cuts, responses
from tests.links import ALL, Fake, Recorder, run

HEAD = b"HTTP/1.1 200 OK\r\n"


def chunked(body: bytes, sizes: list[int]) -> bytes:
    """The body in chunks of these sizes, and the rest in one."""
    out, at = b"Transfer-Encoding: chunked\r\n\r\n", 0
    for size in [*sizes, len(body)]:
        piece = body[at : at + size]
        at += size
        if piece:
            out += b"%x;x=y\r\n%b\r\n" % (len(piece), piece)
    return HEAD + out + b"0\r\nTrailer: z\r\n\r\n"


def heard(hub: Hub, chunks: list[bytes]) -> tuple[list[tuple[object, ...]], list[type]]:
    """What the link was told, and which events there were beside."""
    link = Recorder(hub, ALL)
    link.carry(Fake())
    reader = responses()
    reader.link = link
    events = [type(event) for chunk in chunks for event in reader.feed(chunk)]
    link.abort()
    return link.named("frame"), events


bodies = st.lists(st.binary(max_size=40), min_size=1, max_size=4)


@given(bodies, st.lists(st.integers(1, 30), max_size=6))
def test_no_cut_of_chunks_or_of_the_stream_changes_a_frame(bodies: list[bytes], sizes: list[int]) -> None:
    frames = [encode(MSG, number, "r", body) for number, body in enumerate(bodies)]

    async def work() -> None:
        hub = Hub(asyncio.get_running_loop(), native=False)
        expected = [("frame", MSG, 0, number, "r", body) for number, body in enumerate(bodies)]
        for chunks in cuts(chunked(b"".join(frames), sizes)):
            assert heard(hub, chunks) == (expected, [ResponseHead, End])
        hub.close()

    run(work())


def test_a_link_that_has_had_enough_takes_no_more_and_the_reader_goes_on() -> None:
    async def work() -> None:
        hub = Hub(asyncio.get_running_loop(), native=False)
        link = Recorder(hub, ALL)
        link.react = lambda call: link.abort() if call[0] == "frame" else None
        link.carry(Fake())
        reader = responses()
        reader.link = link
        events = [type(event) for event in reader.feed(chunked(encode(MSG, 1) * 5, [16] * 5))]
        assert events == [ResponseHead, End]
        assert link.calls == [("frame", MSG, 0, 1, "", b""), ("end", None)]
        hub.close()

    run(work())


def test_without_a_link_a_body_is_events_again() -> None:
    async def work() -> None:
        hub = Hub(asyncio.get_running_loop(), native=False)
        link = Recorder(hub, ALL)
        link.carry(Fake())
        reader = responses()
        reader.link = link
        link.react = lambda call: setattr(reader, "link", None) if call[0] == "frame" else None
        events = list(reader.feed(chunked(encode(MSG, 1) * 2, [16])))
        assert [event.data for event in events if isinstance(event, Data)] == [encode(MSG, 1)]
        assert len(link.named("frame")) == 1
        hub.close()

    run(work())


def test_a_reader_is_not_used_from_within_itself() -> None:
    async def work() -> None:
        hub = Hub(asyncio.get_running_loop(), native=False)
        link = Recorder(hub, ALL)
        link.carry(Fake())
        reader = responses()
        reader.link = link
        refused: list[str] = []

        def use_it(call: tuple[object, ...]) -> None:
            if call[0] == "frame":
                for use in (lambda: next(reader), lambda: reader.feed(bytes(100_000))):
                    with pytest.raises(RuntimeError, match="from within") as error:
                        use()
                    refused.append(str(error.value))

        link.react = use_it
        events = [type(event) for event in reader.feed(chunked(encode(MSG, 1) * 3, [16] * 3))]
        assert events == [ResponseHead, End]
        assert (len(link.named("frame")), len(refused)) == (3, 6)
        hub.close()

    run(work())


def test_a_link_may_go_for_good_within_its_own_frame() -> None:
    async def work() -> None:
        hub = Hub(asyncio.get_running_loop(), native=False)
        reader = responses()
        reader.link = Recorder(hub, ALL)
        reader.link.carry(Fake())
        last = weakref.ref(reader.link)

        def forget(call: tuple[object, ...]) -> None:
            link, reader.link = last(), None
            if link is not None:
                link.abort()

        reader.link.react = forget
        events = [type(event) for event in reader.feed(chunked(encode(MSG, 1) * 2, [16]))]
        assert events == [ResponseHead, Data, End]
        assert last() is None
        hub.close()

    run(work())
