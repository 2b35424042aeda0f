"""The stream by itself: what lives on a carrier, whatever its bytes mean. Its life with frames is in `test_link`."""

from __future__ import annotations

import pytest

from imcore._hub import Hub
from imcore._link import Link
from imcore._stream import Stream

from .links import ALL, Fake, hubs, pair, run, settle


class Plain(Stream):
    """A stream that writes down its end."""

    def __init__(self, hub: Hub) -> None:
        self.ended: list[Exception | None] = []

    def on_end(self, error: Exception | None) -> None:
        self.ended.append(error)


def test_takes_what_comes_and_ends_with_the_other_side() -> None:
    async def main() -> None:
        async with hubs() as hub:
            here, there = pair()
            stream = Plain(hub)
            stream.attach(here)
            there.send(b"anything" * 1000)
            await settle(lambda: hub.bytes_in == 8000)
            assert (hub.links, stream.open, stream.ended) == (1, True, [])
            there.close()
            await settle(lambda: stream.ended)
            assert (hub.links, stream.open, stream.ended) == (0, False, [None])

    run(main())


def test_ends_on_another_carrier_when_it_is_closed() -> None:
    async def main() -> None:
        async with hubs() as hub:
            stream, carrier = Plain(hub), Fake()
            stream.carry(carrier)
            stream.feed(b"anything")
            stream.close()
            assert (stream.ended, carrier.events) == ([None], ["end"])
            stream.feed(b"and more")
            assert hub.bytes_in == 8

    run(main())


def test_a_deadline_that_nobody_sees_to_ends_it() -> None:
    async def main() -> None:
        async with hubs() as hub:
            stream, carrier = Plain(hub), Fake()
            stream.carry(carrier)
            stream.expect(0)
            await settle(lambda: stream.ended)
            assert carrier.events == ["abort"]

    run(main())


@pytest.mark.parametrize("hub", [None, "a hub"])
def test_without_a_hub_neither_it_nor_a_link_comes_to_be(hub: Hub) -> None:
    for made in (Stream, Plain):
        with pytest.raises(TypeError, match="hub"):
            made(hub)
    with pytest.raises(TypeError, match="hub"):
        Link(hub, ALL, 65536)
