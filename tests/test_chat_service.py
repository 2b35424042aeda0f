"""The built-in chat: who is meant gets it, once, and anything else is refused at the door with what was expected."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from imcore import chat_service
from imcore.bus.embedded import EmbeddedBus
from imcore.messages import Refusal
from imcore.service import Service
from tests.bus.engines import Link, run, until, uplink


def refusal_of(place: Path, body: bytes) -> Refusal | None:
    """What the sender is told."""
    link = Link()

    async def main() -> None:
        bus = EmbeddedBus(place)
        await bus.start()
        service = Service(bus)
        chat_service.register(service)
        await service.start()
        bus.queue.put(uplink(1, body=body), link)
        await until(lambda: bool(link.answers))
        await service.close()
        await bus.close()

    run(main())
    return link.answers[0][1]


def test_a_message_reaches_the_one_named_with_the_senders_name(tmp_path: Path) -> None:
    async def main() -> None:
        bus = EmbeddedBus(tmp_path)
        await bus.start()
        service = Service(bus)
        chat_service.register(service)
        await service.start()
        link = Link()
        bus.queue.put(uplink(1, body='{"text": "hé \\"du\\"\\n", "to": "bob"}'.encode()), link)
        bus.queue.put(uplink(2, body=b'{"to":"alice","text":""}'), link)
        await until(lambda: bus.counters["settled"] == 2)
        (stored,) = await bus.inbox.read("bob", 0, 9, 999)
        assert stored.route == "chat"
        assert msgspec.json.decode(stored.body) == {"from": "alice", "text": 'hé "du"\n'}
        (own,) = await bus.inbox.read("alice", 0, 9, 999)
        assert msgspec.json.decode(own.body) == {"from": "alice", "text": ""}
        await service.close()
        await bus.close()

    run(main())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"\xff\xfe",
        b"[]",
        b'{"to": "bob"}',
        b'{"text": "x"}',
        b'{"to": "", "text": "x"}',
        b'{"to": 7, "text": "x"}',
        b'{"to": "bob", "text": null}',
        b'{"to": "bob", "text": "x", "cc": "eve"}',
        b'{"to": "bob", "text": "\\ud800"}',
        b'{"to": "%s", "text": "x"}' % (b"b" * 129),
        b'{"to": "bob", "text": "x"} tail',
        b'{"to": "b", "text": "%s"}' % (b"x" * 65_510),
    ],
)
def test_anything_else_is_refused_for_good_with_what_was_expected(tmp_path: Path, body: bytes) -> None:
    refusal = refusal_of(tmp_path, body)
    assert refusal is not None
    assert (refusal.code, refusal.retry_ms) == ("bad_frame", None)
    assert refusal.text.startswith('chat expects a JSON object {"to": "<user>", "text": "<text>"}')
    assert "; got " in refusal.text or "bytes on the way down" in refusal.text
    assert len(refusal.text) < 500


def test_the_longest_message_that_fits_on_the_way_down_is_taken(tmp_path: Path) -> None:
    frame = b'chat{"from":"alice","text":""}'
    body = b'{"to":"b","text":"%s"}' % (b"x" * (65_536 - len(frame)))
    assert refusal_of(tmp_path / "fits", body) is None
    assert refusal_of(tmp_path / "over", body.replace(b"xx", b"xxx", 1)) is not None
