"""What the application sees: every message once and in order, or the exact gap, whatever breaks in between."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from imcore.client.downlink import Downlink, Gap, Message
from imcore.messages import Resume, Welcome


def welcome(first: int, head: int, *, epoch: str = "e", resumed: bool = True) -> Welcome:
    return Welcome("s", "u", "n", epoch, head, first, resumed, 0, (30, 600), 120, 65536, 0)


def opened(first: int = 1, head: int = 0) -> Downlink:
    downlink = Downlink()
    downlink.begin(welcome(first, head), None)
    return downlink


def taken(downlink: Downlink) -> list[Message]:
    messages = []
    while (message := downlink.hand_out()) is not None:
        messages.append(message)
        downlink.take()
    return messages


class InboxWalk(RuleBasedStateMachine):
    """A server with an inbox that expires and whose history may be lost; a device in one process, or one after another
    with a state file."""

    @initialize()
    def begin(self) -> None:
        self.epoch = 0
        self.head = 0
        self.oldest = 1
        self.downlink = Downlink()
        self.saved: Resume | None = None
        self.cursor = 0
        self.link()
        self.seen: list[tuple[int, int]] = []  # what a process in its life has shown, with its epoch
        self.expected = (0, 1)

    @rule()
    def link(self) -> None:
        """A new link, as a gateway welcomes it (wire: "Messages down")."""
        asked = self.downlink.resume
        resumed = True
        if asked is None:
            first = max(self.cursor + 1, self.oldest)
            resumed = first == self.cursor + 1
        elif asked.epoch != str(self.epoch) or asked.seq > self.head or asked.seq + 1 < self.oldest:
            first, resumed = self.oldest, False
        else:
            first = asked.seq + 1
            self.cursor = max(self.cursor, asked.seq)
        self.sent = first - 1
        self.downlink.begin(welcome(first, self.head, epoch=str(self.epoch), resumed=resumed), asked)

    @rule(count=st.integers(1, 5))
    def append(self, count: int) -> None:
        self.head += count

    @rule(count=st.integers(1, 5))
    def deliver(self, count: int) -> None:
        for _ in range(count):
            if self.sent < self.head and self.sent + 1 >= self.oldest:
                self.sent += 1
                assert self.downlink.receive(self.sent, "r", f"{self.epoch} {self.sent}".encode())

    @rule(count=st.integers(1, 5))
    def take(self, count: int) -> None:
        for _ in range(count):
            message = self.downlink.hand_out()
            if message is None:
                return
            epoch, seq = (int(part) for part in message.body.split())
            if message.gap is None:
                assert (epoch, seq) == self.expected, "lost, doubled or out of order without a word"
            elif message.gap.lost is not None:
                assert (epoch, message.gap.lost.start) == self.expected, "the gap begins where the history ends"
                assert message.gap.lost.stop == seq
            self.expected = (epoch, seq + 1)
            self.downlink.take()

    @rule()
    def acknowledge(self) -> None:
        due = self.downlink.due
        if due:
            assert due <= self.sent, "acknowledged what this link did not bring"
            self.cursor = max(self.cursor, due)
            self.downlink.acknowledged(due)
        assert self.downlink.due == 0

    @rule(count=st.integers(1, 5))
    def expire(self, count: int) -> None:
        self.oldest = min(self.oldest + count, self.head + 1)
        if self.sent + 1 < self.oldest:
            self.link()  # the gateway ends a link that it can't continue

    @rule(kept=st.integers(0, 5))
    def lose_history(self, kept: int) -> None:
        self.epoch += 1
        self.head = kept
        self.oldest = 1
        self.cursor = 0
        self.link()

    @rule()
    def restart(self) -> None:
        """The process ends and another one goes on from what it saved."""
        resume = self.downlink.resume
        self.downlink = Downlink(resume)
        self.link()
        if resume is not None and resume.epoch == str(self.epoch):
            self.expected = (self.epoch, resume.seq + 1)

    @invariant()
    def resume_point_is_never_ahead_of_the_application(self) -> None:
        resume = self.downlink.resume
        if resume is not None and resume.epoch == str(self.expected[0]):
            assert resume.seq < self.expected[1]


TestInboxWalk = InboxWalk.TestCase
TestInboxWalk.settings = settings(max_examples=150, stateful_step_count=40)


class TestOrder:
    def test_what_comes_twice_is_shown_once(self) -> None:
        downlink = opened()
        for seq in (1, 2, 2, 1, 3):
            assert downlink.receive(seq, "r", b"")
        assert [message.seq for message in taken(downlink)] == [1, 2, 3]

    def test_a_hole_in_the_pushes_is_not_passed_over(self) -> None:
        downlink = opened()
        assert downlink.receive(1, "r", b"")
        assert not downlink.receive(3, "r", b"")
        assert [message.seq for message in taken(downlink)] == [1]

    def test_what_waits_for_the_application_survives_the_link_and_is_not_doubled(self) -> None:
        downlink = opened()
        for seq in (1, 2, 3):
            downlink.receive(seq, "r", b"")
        assert downlink.hand_out() is not None
        downlink.take()
        asked = downlink.resume
        assert asked == Resume("e", 1)
        downlink.begin(welcome(2, 4), asked)
        for seq in (2, 3, 4):
            downlink.receive(seq, "r", b"")
        assert [message.seq for message in taken(downlink)] == [2, 3, 4]


class TestAcknowledgements:
    def test_cover_what_was_taken_and_not_what_was_only_handed_out(self) -> None:
        downlink = opened()
        downlink.receive(1, "r", b"")
        downlink.hand_out()
        assert downlink.due == 0
        downlink.take()
        assert downlink.due == 1
        downlink.acknowledged(1)
        assert downlink.due == 0

    def test_never_run_ahead_of_what_this_link_has_brought(self) -> None:
        downlink = opened()
        for seq in (1, 2, 3):
            downlink.receive(seq, "r", b"")
        asked = downlink.resume
        downlink.begin(welcome(1, 3), asked)
        assert len(taken(downlink)) == 3
        assert downlink.due == 0
        downlink.receive(1, "r", b"")
        assert downlink.due == 1

    def test_a_lost_push_shows_only_when_the_gateway_has_every_reason_to_send(self) -> None:
        downlink = opened()
        downlink.receive(1, "r", b"")
        assert not downlink.behind(2)  # it may wait for an acknowledgement
        taken(downlink)
        downlink.acknowledged(1)
        assert downlink.behind(2)
        assert not downlink.behind(1)


class TestGaps:
    def test_expired_messages_are_told_as_their_range(self) -> None:
        downlink = Downlink(Resume("e", 5))
        downlink.begin(welcome(9, 10, resumed=False), downlink.resume)
        downlink.receive(9, "r", b"")
        downlink.receive(10, "r", b"")
        assert [message.gap for message in taken(downlink)] == [Gap(range(6, 9)), None]

    def test_nothing_is_missing_if_what_expired_had_come_already(self) -> None:
        downlink = opened()
        for seq in (1, 2, 3):
            downlink.receive(seq, "r", b"")
        downlink.begin(welcome(3, 4, resumed=False), downlink.resume)
        downlink.receive(3, "r", b"")
        downlink.receive(4, "r", b"")
        assert [(message.seq, message.gap) for message in taken(downlink)] == [(seq, None) for seq in (1, 2, 3, 4)]

    def test_two_losses_in_a_row_are_one_gap(self) -> None:
        downlink = Downlink(Resume("e", 1))
        downlink.begin(welcome(3, 9, resumed=False), downlink.resume)
        downlink.begin(welcome(6, 9, resumed=False), downlink.resume)
        downlink.receive(6, "r", b"")
        assert [message.gap for message in taken(downlink)] == [Gap(range(2, 6))]

    def test_another_epoch_is_a_gap_of_unknown_size(self) -> None:
        downlink = Downlink(Resume("old", 5))
        downlink.begin(welcome(1, 1, epoch="new", resumed=False), downlink.resume)
        downlink.receive(1, "r", b"")
        assert [message.gap for message in taken(downlink)] == [Gap(None)]

    def test_a_resume_point_beyond_the_head_is_another_history(self) -> None:
        downlink = Downlink(Resume("e", 5))
        downlink.begin(welcome(1, 2, resumed=False), downlink.resume)
        downlink.receive(1, "r", b"")
        [message] = taken(downlink)
        assert (message.seq, message.gap) == (1, Gap(None))
        assert downlink.resume == Resume("e", 1)

    def test_it_is_told_again_to_who_was_not_there_to_hear_it(self) -> None:
        downlink = Downlink(Resume("old", 5))
        downlink.begin(welcome(1, 1, epoch="new", resumed=False), downlink.resume)
        downlink.receive(1, "r", b"")
        downlink.hand_out()  # and the process dies before it comes back
        assert downlink.resume == Resume("old", 5)


class TestBounds:
    def test_a_full_inbox_stops_the_link_and_drops_only_what_is_transient(self) -> None:
        downlink = Downlink(count=4)
        downlink.begin(welcome(1, 9), None)
        for seq in (1, 2, 3):
            downlink.receive(seq, "r", b"")
        downlink.receive(0, "room", b"", "room")
        assert downlink.full
        downlink.receive(0, "room", b"", "room")
        assert downlink.dropped == 1
        downlink.receive(4, "r", b"")
        for _ in range(3):
            assert not downlink.drained
            downlink.hand_out()
        assert downlink.drained
        assert [message.seq for message in taken(downlink)] == [0, 4]

    def test_bytes_count_too(self) -> None:
        downlink = Downlink(size=100)
        downlink.begin(welcome(1, 9), None)
        downlink.receive(1, "r", bytes(100))
        assert downlink.full
        downlink.hand_out()
        assert downlink.drained
