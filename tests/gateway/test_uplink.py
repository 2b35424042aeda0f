"""One link's way up, against a queue that decides when and how the test says (wire: "Messages up")."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from imcore._codec import FAILED
from imcore.bus.ports import Route, Sink, Uplink
from imcore.gateway.admission import Admission
from imcore.gateway.limits import Limits
from imcore.gateway.uplink import Up
from imcore.messages import Refusal

IDLE = Admission(Limits(), lambda: 0.0)
DOOR = Refusal("no_route", "nobody", None)
LATER = Refusal("overloaded", "full", 1000)


class Answers:
    """What the link said: (id, "ok" or the refusal's code)."""

    def __init__(self) -> None:
        self.said: list[tuple[int, str]] = []
        self.held = 0
        self.offset = 0
        self.accepted = 0
        self.user, self.device = "alice", "phone"
        self.route = Route("alice", "phone", "test", "phone", "both", 0)

    def confirm(self, id: int) -> None:
        self.said.append((id, "ok"))

    def refuse(self, id: int, refusal: Refusal) -> None:
        self.said.append((id, refusal.code))

    def hold(self) -> None:
        self.held += 1

    def proceed(self) -> None:
        self.held -= 1


class Queue:
    """Refuses route `no` at the door; the rest waits until `commit` or `fail`, in lock step, as an engine does."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[Uplink, Sink]] = deque()
        self.accepted = 0
        self.stored: list[int] = []

    def put(self, message: Uplink, sink: Sink) -> None:
        if (refusal := sink.objection() or (DOOR if message.route == "no" else None)) is not None:
            sink.answered(message.id, refusal)
        else:
            self.waiting.append((message, sink))

    def withdraw(self, user: str, device: str, id: int, sink: Sink) -> None:
        self.waiting.append((Uplink(user, device, id, "withdrawn", b""), sink))

    def consume(self, routes: object, take: object) -> None: ...
    def settle(self, messages: Iterable[Uplink]) -> None: ...
    def bury(self, message: Uplink, error: str) -> None: ...

    def commit(self, count: int) -> None:
        for _ in range(min(count, len(self.waiting))):
            message, sink = self.waiting.popleft()
            if message.id > self.accepted:
                self.accepted = message.id
                if message.route != "withdrawn":
                    self.stored.append(message.id)
            sink.answered(message.id, None)

    def fail(self, first: int = 0) -> None:
        """From the `first` of them on; those before it go on, as when a user has come into memory."""
        failed = [self.waiting.pop() for _ in range(len(self.waiting) - first)]
        for message, sink in reversed(failed):
            sink.answered(message.id, LATER)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from(["yes", "yes", "yes", "no"])),
        st.tuples(st.just("commit"), st.integers(1, 4)),
        st.tuples(st.just("fail"), st.integers(0, 4)),
        st.tuples(st.just("again"), st.just(0)),
    ),
    max_size=60,
)


@given(steps, st.integers(1, 8))
def test_answers_come_in_order_and_say_what_happened(steps: list[tuple[str, object]], unanswered: int) -> None:
    link, queue = Answers(), Queue()
    up = Up(link, queue, IDLE, unanswered)  # type: ignore[arg-type]  # the link is a recorder
    sent: list[tuple[int, str]] = []
    next_id, routes = 1, dict[int, str]()

    def send(id: int, flags: int = 0) -> None:
        if link.held == 0:  # a held link hands nothing on
            sent.append((id, routes[id]))
            up.message(flags, id, routes[id], b"" if flags else bytes(id))

    for what, value in steps:
        if what == "send":
            routes[next_id] = str(value)
            send(next_id)
            next_id += 1
        elif what == "commit":
            assert isinstance(value, int)
            queue.commit(value)
        elif what == "fail":
            assert isinstance(value, int)
            queue.fail(value)
        elif up.held:  # the client begins again with the refused number: gives it up, or sends it as itself
            hopeless = routes[up.held] == "no"
            for id in range(up.held, next_id):
                send(id, FAILED if hopeless and id == up.held else 0)
    queue.commit(len(queue.waiting))

    assert [id for id, _ in link.said] == [id for id, _ in sent], "one answer each, in order of arrival"
    assert queue.stored == sorted(set(queue.stored)), "nothing doubled, nothing out of order"
    for id, said in link.said:
        if said == "ok":
            assert id in queue.stored or routes[id] == "no", "confirmed, so it is there or was given up"
    assert link.held == 0
    assert (IDLE.waiting, IDLE.size) == (0, 0)


def test_a_link_with_much_on_its_way_is_not_read_until_half_is_durable() -> None:
    link, queue = Answers(), Queue()
    up = Up(link, queue, IDLE, 10)  # type: ignore[arg-type]  # the link is a recorder
    for id in range(1, 11):
        up.message(0, id, "yes", b"")
    assert link.held == 1
    queue.commit(4)
    assert link.held == 1
    queue.commit(1)
    assert link.held == 0


def test_a_link_that_sends_on_behind_a_refusal_is_not_read_while_the_disk_stalls() -> None:
    link, queue = Answers(), Queue()
    up = Up(link, queue, IDLE, 10)  # type: ignore[arg-type]  # the link is a recorder
    sent = 0

    def send(route: str) -> None:
        nonlocal sent
        if link.held == 0:  # a held link hands nothing on
            sent += 1
            up.message(0, sent, route, b"")

    send("yes")
    send("yes")
    for _ in range(5000):
        send("no")
    assert (link.held, sent) == (1, 12)
    queue.commit(1)  # the refusals stand behind the second one
    assert (link.held, link.said) == (1, [(1, "ok")])
    queue.commit(1)
    assert link.held == 0
    assert [id for id, _ in link.said] == list(range(1, 13))
