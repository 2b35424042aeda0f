"""Who takes over from whom: between links of one device, and between devices; and never the older from the newer.

The engine here takes as long as the test likes. A link passes gates (its token is accepted, its claim arrives, the
claim's answer does, the inbox is open), the gates of several links open in any order, and links are cut at any moment.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from contextvars import ContextVar
from itertools import combinations
from pathlib import Path
from typing import Any, Final, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imcore import Client, Config, LinkClosed, Node, State
from imcore._codec import WELCOME, FrameDecoder
from imcore.bus.embedded.routes import MemoryRoutes
from imcore.bus.ports import Bus, Load, Opening, Route
from imcore.config import Limits as LimitsTable
from imcore.gateway.gateway import Gateway
from imcore.gateway.limits import Limits, place
from imcore.gateway.link import ServerLink
from imcore.messages import Error, Role, unpack
from tests.gateway.running import run, running, until
from tests.gateway.wire import ERROR, Wire, hello
from tests.links import Fake, turns

LINK: ContextVar[int] = ContextVar("the number of the link whose HELLO is answered")
GATES: Final = ("accepted", "arrives", "answered", "opened")
COMES: Final = "comes"  # HELLO does, at the gateway
TOLD: Final = "told"  # the node of a fallen link hears of it
CUT: Final = "cut"  # the client goes
Step = tuple[int, str]
"""What happens, and to which link."""
Who = tuple[str, Role]
"""A link's device and role."""


class SlowRoutes(MemoryRoutes):
    """A claim takes effect when it `arrives`; who fell is told when the test says so."""

    def __init__(self, passes: Callable[[str], Any]) -> None:
        super().__init__()
        self.passes = passes
        self.fallen: list[tuple[Route, Route]] = []
        self.orders: dict[int, int] = {}
        super().attach("test", lambda route, newer: self.fallen.append((route, newer)))

    def attach(self, node: str, superseded: Callable[[Route, Route], None]) -> None:
        self.tell = superseded

    def order(self) -> int:
        order = self.orders[LINK.get()] = super().order()
        return order

    async def claim(self, route: Route) -> Route | None:
        await self.passes("arrives")
        newer = await super().claim(route)
        await self.passes("answered")
        return newer


class SlowBus:
    """What a gateway needs of an engine to say WELCOME."""

    def __init__(self, passes: Callable[[str], Any]) -> None:
        self.passes = passes
        self.push = self.inbox = self.loads = self
        self.routes = SlowRoutes(passes)

    def attach(self, *args: object) -> None:
        """Nothing is ever pushed."""

    def report(self, load: Load) -> None:
        """Nobody chooses between nodes."""

    async def open(self, *args: object, down: bool) -> Opening:
        await self.passes("opened")
        return Opening("epoch", 0, 1, True, 0)


class Party:
    """One client's link, and what it has been told."""

    def __init__(self, number: int, device: str, role: Role) -> None:
        self.number, self.device, self.role = number, device, role
        self.carrier = Fake()
        self.link: ServerLink | None = None
        self.cut = False

    @property
    def said(self) -> list[str]:
        """`welcome`, or the code of an error."""
        frames = FrameDecoder(max_frame=65536).feed(b"".join(self.carrier.written))
        return ["welcome" if frame.type == WELCOME else self._code(frame.type, frame.body) for frame in frames]

    def _code(self, type: int, body: bytes) -> str:
        assert type == ERROR
        return unpack(body, Error).code


class Play:
    """One schedule on one gateway: what each link is told, step by step, and who is left in the end."""

    def __init__(self, who: Sequence[Who], devices: str) -> None:
        self.parties = [Party(number, *each) for number, each in enumerate(who)]
        self.devices = devices
        self.gates: dict[Step, asyncio.Event] = defaultdict(asyncio.Event)
        self.bus = SlowBus(self.passes)

    async def passes(self, gate: str) -> None:
        await self.gates[LINK.get(), gate].wait()

    async def accepts(self, token: str) -> str:
        await self.passes("accepted")
        return token

    def rivals(self, one: Party, other: Party) -> bool:
        """In words of the test's own, for the policies `all` and `one`."""
        if one.device == other.device:
            return {one.role, other.role} != {"up", "down"}
        return self.devices == "one"

    async def run(self, steps: Sequence[Step]) -> None:
        limits = Limits(devices=cast(Any, self.devices), drain_s=0)
        gateway = Gateway(cast(Bus, self.bus), name="test", authenticate=self.accepts, limits=limits, native=False)
        async with gateway:
            for number, what in steps:
                self.step(gateway, self.parties[number], what)
                await turns(3)
                self.check()
            await self.finish()
            for party in self.parties:
                if party.link is not None:
                    party.link.abort()

    def step(self, gateway: Gateway, party: Party, what: str) -> None:
        if what == COMES:
            party.link = ServerLink(gateway)
            party.link.carry(party.carrier)
            LINK.set(party.number)
            party.link.feed(hello("bob", device=party.device, role=party.role))
        elif what == CUT:
            assert party.link is not None
            party.cut = True
            party.link.lost(None)
        elif what == TOLD:
            self.tell(party)
        else:
            self.gates[party.number, what].set()

    def tell(self, party: Party) -> None:
        order = self.bus.routes.orders.get(party.number)
        for pair in [pair for pair in self.bus.routes.fallen if pair[0].order == order]:
            self.bus.routes.fallen.remove(pair)
            self.bus.routes.tell(*pair)

    def check(self) -> None:
        for party in self.parties:
            for said in party.said:
                if said != "welcome":
                    assert said == "superseded"
                    newer = [each for each in self.parties[party.number + 1 :] if each.link is not None]
                    assert any(self.rivals(party, each) for each in newer), "turned away, and nobody newer has come"

    async def finish(self) -> None:
        """All gates are opened, and everyone is told."""
        for party in self.parties:
            for gate in GATES:
                self.gates[party.number, gate].set()
        await turns(8)
        for party in self.parties:
            self.tell(party)
        await turns(3)
        self.check()
        left = [party for party in self.parties if party.link is not None and party.link.open]
        assert all(party.said == ["welcome"] for party in left)
        assert not [pair for pair in combinations(left, 2) if self.rivals(*pair)]
        came = [party for party in self.parties if party.link is not None]
        if came and not came[-1].cut:
            assert came[-1] in left, "the newest was turned away"
        standing = await self.bus.routes.online("bob")
        assert sorted(standing, key=lambda route: route.order) == [party.link and party.link.route for party in left]


def interleavings(*rows: Sequence[Step]) -> Iterator[list[Step]]:
    """Every order of all steps that keeps each row's own."""
    if not any(rows):
        yield []
    for at, row in enumerate(rows):
        if row:
            for rest in interleavings(*rows[:at], row[1:], *rows[at + 1 :]):
                yield [row[0], *rest]


def in_order(steps: Sequence[Step]) -> bool:
    """HELLOs come by number: a link is newer because it comes later."""
    comes = [number for number, what in steps if what == COMES]
    return comes == sorted(comes)


PAIRS: Final[list[tuple[Who, Who]]] = [
    (("phone", "both"), ("phone", "both")),
    (("phone", "up"), ("phone", "both")),
    (("phone", "up"), ("phone", "down")),
    (("phone", "down"), ("desk", "both")),
]


class TestTheOlderNeverTakesOverFromTheNewer:
    @pytest.mark.parametrize("devices", ["all", "one"])
    @pytest.mark.parametrize("who", PAIRS, ids=str)
    def test_in_any_interleaving_of_two_links(self, who: tuple[Who, Who], devices: str) -> None:
        async def main() -> None:
            rows = [[(number, what) for what in (COMES, *GATES)] for number in (0, 1)]
            schedules = [steps for steps in interleavings(*rows) if in_order(steps)]
            assert len(schedules) == 126
            for steps in schedules:
                for at in range(steps.index((1, "arrives")) + 1, len(steps) + 1):
                    await Play(who, devices).run([*steps[:at], (0, TOLD), *steps[at:]])

        run(main())

    @pytest.mark.parametrize("cut", [0, 1])
    def test_in_any_interleaving_with_one_that_goes(self, cut: int) -> None:
        """At any moment after its HELLO; the gates of the one that goes may still open afterwards."""

        async def main() -> None:
            rows = [[(number, what) for what in (COMES, "accepted", "arrives", "answered")] for number in (0, 1)]
            for steps in filter(in_order, interleavings(*rows)):
                for at in range(steps.index((cut, COMES)) + 1, len(steps) + 1):
                    await Play(PAIRS[0], "all").run([*steps[:at], (cut, CUT), *steps[at:]])

        run(main())

    def test_in_any_interleaving_of_three_claims(self) -> None:
        async def main() -> None:
            who: list[Who] = [("phone", "both")] * 3
            rows = [[(number, what) for what in ("accepted", "arrives", "answered")] for number in range(3)]
            for steps in interleavings(*rows):
                await Play(who, "all").run([(0, COMES), (1, COMES), (2, COMES), *steps])

        run(main())

    @settings(max_examples=150)
    @given(st.data())
    def test_whatever_happens_to_several_links(self, data: st.DataObject) -> None:
        roles: list[Role] = ["up", "down", "both"]
        everyone = st.tuples(st.sampled_from(["phone", "desk"]), st.sampled_from(roles))
        who = data.draw(st.lists(everyone, min_size=2, max_size=5), label="who")
        steps: list[Step] = []
        left = [[*GATES] for _ in who]
        came = 0
        for _ in range(data.draw(st.integers(0, 8 * len(who)), label="steps")):
            number = data.draw(st.integers(0, min(came, len(who) - 1)))
            if number == came:
                steps.append((number, COMES))
                came += 1
            elif (number, CUT) not in steps and data.draw(st.integers(0, 9)) == 0:
                steps.append((number, CUT))
            elif data.draw(st.integers(0, 3)) == 0:
                steps.append((number, TOLD))
            elif left[number]:
                steps.append((number, left[number].pop(0)))
        run(Play(who, data.draw(st.sampled_from(["all", "one"]))).run(steps))


class TestDevices:
    @pytest.mark.parametrize(
        ("devices", "taken_over"),
        [
            ("all", {}),
            ("one", {"phone:a": "phone:b", "phone:b": "desk", "desk": "desk:c"}),
            ("one-per-kind", {"phone:a": "phone:b", "desk": "desk:c"}),
        ],
    )
    def test_the_newest_stays_where_only_so_many_may_be_on(
        self, tmp_path: Path, devices: Any, taken_over: dict[str, str]
    ) -> None:
        async def main() -> None:
            async with running(tmp_path, limits=Limits(devices=devices, drain_s=0)) as here, AsyncExitStack() as stack:
                wires = {}
                for device in ("phone:a", "phone:b", "desk", "desk:c"):
                    wires[device] = await stack.enter_async_context(Wire(here.address))
                    await wires[device].greet("bob", device=device)
                other = await stack.enter_async_context(Wire(here.address))
                await other.greet("carol", device="phone:b")  # another user's is no rival
                for device, newer in taken_over.items():
                    got = await wires[device].hear()
                    assert (got.type, got.map["code"], got.map["retry_ms"]) == (ERROR, "superseded", None)
                    assert repr(newer) in got.map["text"]
                    await wires[device].hear_end()
                await here.service.push("bob", "chat", b"x")
                for device in wires.keys() - taken_over.keys():
                    assert (await wires[device].hear()).body == b"x"

        run(main())

    def test_where_one_device_may_be_on_its_up_and_down_link_stand_beside_each_other(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with running(tmp_path, limits=Limits(devices="one", drain_s=0)) as here, AsyncExitStack() as stack:
                down, up, desk = [await stack.enter_async_context(Wire(here.address)) for _ in range(3)]
                await down.greet("bob", role="down")
                await up.greet("bob", role="up")
                await down.quiet()
                await up.quiet(0)
                await desk.greet("bob", device="desk")
                for wire in (down, up):
                    assert (await wire.hear()).map["code"] == "superseded"

        run(main())

    def test_a_client_that_another_device_took_over_from_stays_away(self, tmp_path: Path) -> None:
        async def main() -> None:
            config = Config(limits=LimitsTable(devices="one-per-kind", drain_s=0))
            async with Node(config, listen=["127.0.0.1:0"], data=tmp_path) as node:
                point = node.addresses[0]
                async with Client([point], "bob", "phone:old") as old, Client([point], "bob", "desk") as desk:
                    for im in (old, desk):
                        await until(lambda im=im: im.state is State.OPEN)
                    async with Client([point], "bob", "phone:new") as new:
                        with pytest.raises(LinkClosed, match=r"superseded: .*'phone:new'"):
                            await anext(aiter(old))
                        assert old.state is State.CLOSED
                        await node.service.push("bob", "chat", b"x")
                        for im in (new, desk):
                            assert (await anext(aiter(im))).body == b"x"

        run(main())

    def test_a_kind_is_what_precedes_the_first_colon(self) -> None:
        names = ["phone", "phone:6f2a", "phone:6f2a:b", "phones", ":", ""]
        assert [place("one-per-kind", name) for name in names] == ["phone", "phone", "phone", "phones", "", ""]
        assert {place("one", name) for name in names} == {""}
        assert [place("all", name) for name in names] == names
