"""What was given to `send` outlives the process, goes on under the same number, and what became of it is told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from imcore._codec import ACK, DUP, FAILED, MSG, PING, PONG, Frame
from imcore.client import Client, Receipt, Settled, State, book
from imcore.client.outbox_file import Change, OutboxFile
from imcore.errors import ConfigError, LinkClosed, OutboxError, OutboxFull, Refused, Unknown
from tests.client.peer import NOWHERE, Conversation, accept, device, kill, peer, pong, run, until

pytestmark = pytest.mark.usefixtures("quick")


class Gate:
    """Holds the disk up, or has it fail, and counts what is written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        self.open.set()
        self.error: Exception | None = None
        self.writes: list[int] = []
        write = OutboxFile.write

        def held(file: OutboxFile, changes: Sequence[Change]) -> None:
            assert self.open.wait(30)
            if self.error is not None:
                raise self.error
            write(file, changes)
            self.writes.append(len(changes))

        monkeypatch.setattr(OutboxFile, "write", held)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(monkeypatch)


async def started(im: Client, *bodies: bytes) -> list[asyncio.Task[Receipt]]:
    """Sends that are under way, and in the file."""
    sends = [asyncio.create_task(im.send("r", body, timeout=None)) for body in bodies]
    await asyncio.sleep(0)
    await until(lambda: not any(entry.unwritten for entry in im._sending._outbox._waiting))
    return sends


async def frames(link: Conversation, count: int) -> list[Frame]:
    return [await link.expect(MSG) for _ in range(count)]


class TestTheDisk:
    def test_nothing_is_sent_before_it_is_in_the_file_and_the_loop_goes_on_meanwhile(
        self, tmp_path: Path, gate: Gate
    ) -> None:
        heard: list[bytes] = []

        async def listen(link: Conversation) -> None:
            await link.welcome()
            while True:
                frame = await link.expect(MSG)
                assert gate.open.is_set(), "sent before it was written"
                heard.append(frame.body)
                link.say(ACK, frame.id)

        async def work() -> None:
            async with peer(listen) as address, device(address, outbox=tmp_path / "outbox") as im:
                await im.send("r", b"first")
                gate.open.clear()
                send = asyncio.create_task(im.send("r", b"second"))
                turns = 0
                for _ in range(20):
                    await asyncio.sleep(0.005)
                    turns += 1
                assert (turns, heard, send.done()) == (20, [b"first"], False)
                gate.open.set()
                await send
                assert heard == [b"first", b"second"]

        run(work())

    def test_many_messages_share_a_write(self, tmp_path: Path, gate: Gate) -> None:
        async def work() -> None:
            async with peer(accept) as address, device(address, outbox=tmp_path / "outbox") as im:
                await asyncio.gather(*(im.send("r", b"%d" % i) for i in range(300)))
            assert sum(gate.writes) >= 600  # each was written, and forgotten
            assert len(gate.writes) < 30

        run(work())

    def test_what_it_does_not_take_is_told_and_neither_sent_nor_kept(self, tmp_path: Path, gate: Gate) -> None:
        heard: list[bytes] = []

        async def listen(link: Conversation) -> None:
            await link.welcome()
            while True:
                frame = await link.expect(MSG)
                heard.append(frame.body)
                link.say(ACK, frame.id)

        async def work() -> None:
            async with peer(listen) as address, device(address, outbox=tmp_path / "outbox") as im:
                await im.send("r", b"1")
                gate.error = OutboxError("outbox: database or disk is full")
                for send in [asyncio.create_task(im.send("r", b"lost")) for _ in range(3)]:
                    with pytest.raises(OutboxError, match=r"not sent, and is not kept: outbox: .* disk is full"):
                        await send
                assert im.unconfirmed == 0
                gate.error = None
                await im.send("r", b"2")
                assert heard == [b"1", b"2"]

        run(work())

    def test_no_refusal_is_told_before_it_is_in_the_file(self, tmp_path: Path, gate: Gate) -> None:
        async def refuse(link: Conversation) -> None:
            await link.welcome()
            message = await link.expect(MSG)
            gate.open.clear()
            link.refuse(message.id, "no_route", "nobody there", None)
            link.say(PING, 1)
            await link.expect(PONG)
            heard.set()
            assert (await link.expect(MSG)).flags == FAILED
            assert gate.open.is_set()
            link.say(ACK, message.id)
            await pong(link)

        heard = asyncio.Event()

        async def work() -> None:
            async with peer(refuse) as address, device(address, outbox=tmp_path / "outbox") as im:
                send = asyncio.create_task(im.send("r", b"x"))
                await heard.wait()
                await asyncio.sleep(0.05)
                assert not send.done()
                gate.open.set()
                with pytest.raises(Refused, match="nobody there"):
                    await send

        run(work())

    def test_what_has_to_be_written_is_tried_until_it_is(
        self, tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(book, "RETRY_S", 0.05)

        async def work() -> None:
            async with peer(accept) as address:
                im = device(address, token=patient, outbox=tmp_path / "outbox")
                async with im:
                    [send] = await started(im, b"x")
                    gate.error = OutboxError("outbox: full")
                    go.set()
                    await until(lambda: im.state is State.OPEN)
                    with pytest.raises(OutboxError):
                        await im.send("r", b"lost")
                    assert not send.done()  # what its number counts from is not in the file
                    gate.error = None
                    await send

        async def patient() -> str:
            await go.wait()
            return "alice"

        go = asyncio.Event()
        run(work())


class TestAnotherLife:
    def test_goes_on_with_the_same_numbers_and_bytes_in_order_and_settles_what_arrived(self, tmp_path: Path) -> None:
        lost: list[Frame] = []
        told: list[Settled] = []

        async def take_and_die(link: Conversation) -> None:
            await link.welcome()
            lost.extend(await frames(link, 3))
            await link.rest()

        async def go_on(link: Conversation) -> None:
            await link.welcome(accepted=lost[0].id)
            again = await frames(link, 3)
            assert [(f.id, f.route, f.body, f.flags) for f in again[:2]] == [
                (f.id, f.route, f.body, DUP) for f in lost[1:]
            ]
            assert (again[2].id > lost[2].id, again[2].body, again[2].flags) == (True, b"new", 0)
            for frame in again:
                link.say(ACK, frame.id)
            await pong(link)

        async def work() -> None:
            path = tmp_path / "outbox"
            async with peer(take_and_die, go_on) as address:
                im = device(address, outbox=path)
                await im.__aenter__()
                sends = await started(im, b"1", b"2", b"3")
                await until(lambda: len(lost) == 3)
                await kill(im)
                await asyncio.wait(sends)
                async with device(address, outbox=path, on_settled=told.append) as im:
                    assert im.unconfirmed == 3
                    receipt = await im.send("r", b"new")
                    assert told == [Settled(frame.id, "r", frame.body) for frame in lost]
                    assert receipt.id > lost[2].id
            file = OutboxFile(path, "phone")
            assert file.rows == []
            file.close()

        run(work())

    def test_sends_what_was_never_sent(self, tmp_path: Path) -> None:
        path = tmp_path / "outbox"
        told: list[Settled] = []

        async def work() -> None:
            async with device(NOWHERE, outbox=path) as im:
                sends = await started(im, b"1", b"2")
            for send in sends:
                with pytest.raises(Unknown, match="closed: it was not sent; it stays in the outbox") as caught:
                    await send
                assert (caught.value.id, caught.value.receipt) == (0, None)
            async with peer(accept) as address, device(address, outbox=path, on_settled=told.append) as im:
                await until(lambda: len(told) == 2)
            assert [settled.body for settled in told] == [b"1", b"2"]
            assert [settled.error for settled in told] == [None, None]

        run(work())

    def test_what_was_refused_stays_refused_and_its_number_is_given_up(self, tmp_path: Path) -> None:
        path = tmp_path / "outbox"
        bad: list[Frame] = []
        told: list[Settled] = []

        async def refuse_and_die(link: Conversation) -> None:
            await link.welcome()
            bad.append(await link.expect(MSG))
            link.refuse(bad[0].id, "no_route", "nobody there", None)
            bad.append(await link.expect(MSG))
            assert (bad[1].id, bad[1].flags, bad[1].body) == (bad[0].id, FAILED, b"")
            await link.rest()

        async def give_up(link: Conversation) -> None:
            await link.welcome()
            given_up = await link.expect(MSG)
            assert (given_up.id, given_up.flags, given_up.body) == (bad[0].id, FAILED, b"")
            link.say(ACK, given_up.id)
            await accept_rest(link)

        async def work() -> None:
            async with peer(refuse_and_die, give_up) as address:
                im = device(address, outbox=path)
                await im.__aenter__()
                with pytest.raises(Refused, match="nobody there"):
                    await im.send("nowhere", b"x")
                await until(lambda: len(bad) == 2)
                await kill(im)
                async with device(address, outbox=path, on_settled=told.append) as im:
                    await im.send("r", b"next")
                    assert im.unconfirmed == 0
            [settled] = told  # once more, since the process may have died before it was heard
            assert (settled.id, settled.route, settled.body) == (bad[0].id, "nowhere", b"x")
            assert isinstance(settled.error, Refused)

        run(work())

    def test_numbers_of_another_life_without_the_file_are_not_taken_for_its_own(self, tmp_path: Path) -> None:
        path = tmp_path / "outbox"
        numbers: list[int] = []
        told: list[Settled] = []

        async def take(link: Conversation) -> None:
            await link.welcome()
            numbers.append((await link.expect(MSG)).id)
            await pong(link)

        async def after_another(link: Conversation) -> None:
            await link.welcome(accepted=numbers[0] + 1000)
            await accept_rest(link)

        async def work() -> None:
            async with peer(take, after_another) as address:
                async with device(address, outbox=path) as im:
                    await started(im, b"mine?")
                    await until(lambda: len(numbers) == 1)
                async with device(address, outbox=path, on_settled=told.append) as im:
                    assert (await im.send("r", b"new")).id > numbers[0] + 1000
            [settled] = told
            assert settled.id == numbers[0]
            assert isinstance(settled.error, Unknown)

        run(work())

    def test_a_server_that_knows_nothing_gets_it_under_its_number(self, tmp_path: Path) -> None:
        path = tmp_path / "outbox"
        seen: list[Frame] = []

        async def take(link: Conversation) -> None:
            await link.welcome(accepted=10**12)
            seen.append(await link.expect(MSG))

        async def other(link: Conversation) -> None:
            await link.welcome(accepted=0, epoch="other")
            seen.append(await link.expect(MSG))
            link.say(ACK, seen[1].id)
            await pong(link)

        async def work() -> None:
            async with peer(take, other) as address, device(address, outbox=path) as im:
                [send] = await started(im, b"x")
                await send
            assert (seen[0].id, seen[0].body) == (seen[1].id, seen[1].body)
            assert seen[0].id > 10**12

        run(work())

    def test_the_file_of_another_user_ends_the_client_and_of_another_device_does_not_open(self, tmp_path: Path) -> None:
        path = tmp_path / "outbox"

        async def work() -> None:
            async with peer(accept) as address:
                async with device(address, outbox=path) as im:
                    await im.send("r", b"x")
                async with Client([address], "bob", "phone", outbox=path) as im:
                    with pytest.raises((ConfigError, Unknown), match="of 'alice', not of 'bob'"):
                        await im.send("r", b"x")
                with pytest.raises(ConfigError, match="not to 'laptop'"):
                    async with Client([address], "alice", "laptop", outbox=path):
                        pass
                async with device(address, outbox=path) as im:
                    with pytest.raises(ConfigError, match="another process uses it"):
                        async with device(address, outbox=path):
                            pass

        run(work())

    def test_it_bounds_what_is_held_over_lives_too(self, tmp_path: Path) -> None:
        path = tmp_path / "outbox"

        async def work() -> None:
            async with device(NOWHERE, outbox=path, outbox_count=2) as im:
                await started(im, b"1", b"2")
                with pytest.raises(OutboxFull, match="holds 2 unconfirmed"):
                    await im.send("r", b"3")
            async with device(NOWHERE, outbox=path, outbox_size=3) as im:
                assert im.unconfirmed == 2
                with pytest.raises(OutboxFull, match="of 4 bytes"):
                    await im.send("r", b"3")

        run(work())


async def accept_rest(link: Conversation) -> None:
    while True:
        link.say(ACK, (await link.expect(MSG)).id)


class TestDeadlines:
    @pytest.mark.parametrize("kept", [False, True])
    def test_an_unknown_one_is_known_later(self, tmp_path: Path, kept: bool) -> None:
        told: list[Settled] = []
        now = asyncio.Event()

        async def slow(link: Conversation) -> None:
            await link.welcome()
            one, two = await frames(link, 2)
            await now.wait()
            link.say(ACK, one.id)
            link.refuse(two.id, "no_route", "nobody there", None)
            link.say(ACK, (await link.expect(MSG)).id)
            await pong(link)

        async def work() -> None:
            outbox = tmp_path / "outbox" if kept else None
            async with peer(slow) as address, device(address, outbox=outbox, on_settled=told.append) as im:
                sends = [im.send("r", body, timeout=0.2) for body in (b"1", b"2")]
                first, second = await asyncio.gather(*sends, return_exceptions=True)
                for unknown in (first, second):
                    assert isinstance(unknown, Unknown)
                    assert unknown.id > 0
                    assert unknown.receipt is not None
                assert isinstance(first, Unknown)
                assert isinstance(second, Unknown)
                assert first.receipt is not None
                assert second.receipt is not None
                now.set()
                assert await first.receipt == Receipt(first.id)
                assert await first.receipt == Receipt(first.id)  # as often as one asks
                with pytest.raises(Refused, match="nobody there"):
                    await second.receipt
            assert [(settled.id, settled.body, type(settled.error)) for settled in told] == [
                (first.id, b"1", type(None)),
                (second.id, b"2", Refused),
            ]

        run(work())

    def test_in_memory_what_was_not_sent_by_then_is_gone(self) -> None:
        async def work() -> None:
            async with device(NOWHERE) as im:
                with pytest.raises(Unknown, match=r"0\.05 s are up: it was not sent ") as caught:
                    await im.send("r", b"x", timeout=0.05)
                assert (caught.value.id, caught.value.receipt) == (0, None)
                assert im.unconfirmed == 0

        run(work())

    def test_in_a_file_it_stays_and_goes_when_there_is_a_way(self, tmp_path: Path) -> None:
        go = asyncio.Event()

        async def token() -> str:
            await go.wait()
            return "alice"

        async def work() -> None:
            async with peer(accept) as address:
                im = device(address, token=token, outbox=tmp_path / "outbox")
                async with im:
                    with pytest.raises(Unknown, match="it was not sent; it stays in the outbox") as caught:
                        await im.send("r", b"x", timeout=0.05)
                    assert caught.value.id == 0
                    assert caught.value.receipt is not None
                    go.set()
                    assert (await caught.value.receipt).id > 0

        run(work())

    def test_a_client_that_ends_ends_that_wait_too(self) -> None:
        async def kicked(link: Conversation) -> None:
            await link.welcome()
            await link.expect(MSG)
            await late.wait()
            link.error("kicked")
            await link.rest()

        late = asyncio.Event()

        async def work() -> None:
            async with peer(kicked) as address, device(address) as im:
                with pytest.raises(Unknown) as caught:
                    await im.send("r", b"x", timeout=0.1)
                late.set()
                assert caught.value.receipt is not None
                with pytest.raises(Unknown, match=r"kicked: .*it was sent, but no answer came") as ended:
                    await caught.value.receipt
                assert ended.value.receipt is None
                with pytest.raises(LinkClosed):
                    await im.send("r", b"x")

        run(work())

    def test_who_asks_later_may_stop_asking_without_harm(self, tmp_path: Path) -> None:
        answer = asyncio.Event()

        async def slow(link: Conversation) -> None:
            await link.welcome()
            message = await link.expect(MSG)
            await answer.wait()
            link.say(ACK, message.id)
            await pong(link)

        async def work() -> None:
            async with peer(slow) as address, device(address) as im:
                with pytest.raises(Unknown) as caught:
                    await im.send("r", b"x", timeout=0.1)
                assert caught.value.receipt is not None
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await caught.value.receipt
                answer.set()
                assert await caught.value.receipt == Receipt(caught.value.id)

        run(work())

    def test_a_callback_that_fails_harms_nothing_but_is_heard_of(self, tmp_path: Path) -> None:
        failures: list[object] = []

        def broken(settled: Settled) -> None:
            raise ZeroDivisionError(settled.id)

        async def work() -> None:
            path = tmp_path / "outbox"
            async with device(NOWHERE, outbox=path) as im:
                await started(im, b"x")
            asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))
            async with peer(accept) as address, device(address, outbox=path, on_settled=broken) as im:
                await im.send("r", b"y")
                assert im.unconfirmed == 0
            assert [type(failure) for failure in failures] == [ZeroDivisionError]

        run(work())


class TestTakingBack:
    """Cancelling `send` (wire: "Messages up")."""

    @pytest.mark.parametrize("kept", [False, True])
    def test_what_was_never_sent_is_gone(self, tmp_path: Path, kept: bool) -> None:
        path = tmp_path / "outbox"

        async def work() -> None:
            async with device(NOWHERE, outbox=path if kept else None) as im:
                sends = await started(im, b"1", b"2", b"3")
                sends[1].cancel()
                await asyncio.wait([sends[1]])
                await until(lambda: im.unconfirmed == 2)
            if kept:
                file = OutboxFile(path, "phone")
                assert [row.body for row in file.rows] == [b"1", b"3"]
                file.close()

        run(work())

    @pytest.mark.parametrize("kept", [False, True])
    def test_a_number_that_would_have_to_go_again_goes_given_up(self, tmp_path: Path, kept: bool) -> None:
        sent: list[Frame] = []

        async def take_and_break(link: Conversation) -> None:
            await link.welcome()
            sent.extend(await frames(link, 2))
            await cancelled.wait()

        async def go_on(link: Conversation) -> None:
            await link.welcome()
            one, two = await frames(link, 2)
            assert (one.id, one.flags, one.route, one.body) == (sent[0].id, FAILED, "", b"")
            assert (two.id, two.flags, two.body) == (sent[1].id, DUP, b"2")
            link.say(ACK, one.id)
            link.say(ACK, two.id)
            await pong(link)

        cancelled = asyncio.Event()
        told: list[Settled] = []

        async def work() -> None:
            outbox = tmp_path / "outbox" if kept else None
            async with peer(take_and_break, go_on) as address:
                im = device(address, outbox=outbox, on_settled=told.append)
                async with im:
                    one, two = await started(im, b"1", b"2")
                    await until(lambda: len(sent) == 2)
                    one.cancel()
                    await asyncio.wait([one])
                    cancelled.set()
                    assert (await two).id == sent[1].id
                    await until(lambda: im.unconfirmed == 0)
            assert one.cancelled()
            assert told == []

        run(work())

    @pytest.mark.parametrize("retry_ms", [50, None])
    def test_a_refusal_of_it_is_not_tried_again_but_given_up(self, retry_ms: int | None) -> None:
        async def refuse(link: Conversation) -> None:
            await link.welcome()
            message = await link.expect(MSG)
            sent.set()
            await cancelled.wait()
            link.refuse(message.id, "overloaded", "later", retry_ms)
            given_up = await link.expect(MSG)
            assert (given_up.id, given_up.flags, given_up.body) == (message.id, FAILED, b"")
            link.say(ACK, given_up.id)
            gone.set()
            await accept_rest(link)

        sent, cancelled, gone = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def work() -> None:
            async with peer(refuse) as address, device(address) as im:
                send = asyncio.create_task(im.send("r", b"1"))
                await sent.wait()
                send.cancel()
                await asyncio.wait([send])
                cancelled.set()
                await gone.wait()
                await im.send("r", b"2")
                assert im.unconfirmed == 0

        run(work())

    def test_what_was_accepted_anyway_is_settled_in_silence(self) -> None:
        async def take(link: Conversation) -> None:
            await link.welcome()
            message = await link.expect(MSG)
            sent.set()
            await cancelled.wait()
            link.say(ACK, message.id)
            await pong(link)

        sent, cancelled = asyncio.Event(), asyncio.Event()
        told: list[Settled] = []

        async def work() -> None:
            async with peer(take) as address, device(address, on_settled=told.append) as im:
                send = asyncio.create_task(im.send("r", b"1"))
                await sent.wait()
                send.cancel()
                await asyncio.wait([send])
                cancelled.set()
                await until(lambda: im.unconfirmed == 0)
                assert told == []

        run(work())
