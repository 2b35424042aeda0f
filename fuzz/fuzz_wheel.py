"""Any program of arms, refreshes, hastens, cancels and advances does on the wheel what it does on the model.

Four bytes are an instruction: what to do, to which timer, and how far ahead, as a number of 8 bits and an exponent. The
first eight are the tick to start from. What stands behind an advance is done by its callbacks, as long as they come.
"""

import sys
from collections.abc import Callable

import atheris

with atheris.instrument_imports(include=["tests.models.wheel"]):
    from imcore._wheel import TimerWheel
    from tests.models.wheel import WheelModel

LAST = 2**64 - 1


class Program:
    """The owner of a timer is a list that holds its id."""

    def __init__(self, data: bytes) -> None:
        now = int.from_bytes(data[:8])
        self.wheel = TimerWheel(now)
        self.model = WheelModel(now)
        self.left = [data[at : at + 4] for at in range(8, len(data) - 3, 4)][::-1]

    def run(self) -> None:
        while self.left:
            self.step()
            self.agree()

    def step(self) -> None:
        deed, which, mantissa, exponent = self.left.pop()
        tick = min(self.wheel.now + (mantissa << exponent % 64), LAST)
        if deed % 8 < 2:
            self.arm(tick if deed % 8 else LAST - tick)
        elif deed % 8 < 4:
            self.advance(tick)
        else:
            ids = list(self.model.timers) if deed < 224 else sorted(self.model.stale)
            if ids:
                self.touch(deed % 8, ids[which % len(ids)], tick)

    def arm(self, deadline: int) -> None:
        owner: list[int] = []
        owner.append(self.wheel.arm(deadline, owner))
        self.model.arm(owner[0], deadline)

    def advance(self, now: int) -> None:
        if self.model.advancing:
            return self.same(RuntimeError, self.wheel.advance, now)
        self.model.begin(now)
        self.wheel.advance_into(now, self.expired)
        self.model.end()

    def expired(self, owner: list[int]) -> None:
        self.model.expire(owner[0])
        if self.left:
            self.step()

    def touch(self, deed: int, timer: int, tick: int) -> None:
        if timer in self.model.stale:
            self.same(LookupError, self.wheel.cancel, timer)
            self.same(LookupError, self.wheel.refresh, timer, tick)
            self.same(LookupError, self.wheel.hasten, timer, tick)
        elif deed == 4:
            self.wheel.cancel(timer)
            self.model.cancel(timer)
        elif deed == 5:
            self.wheel.hasten(timer, tick)
            self.model.hasten(timer, tick)
        else:
            try:
                self.model.refresh(timer, tick)
            except ValueError:
                self.same(ValueError, self.wheel.refresh, timer, tick)
            else:
                self.wheel.refresh(timer, tick)

    def same(self, expected: type[Exception], call: Callable[..., object], *arguments: int) -> None:
        try:
            call(*arguments)
        except expected:
            return
        raise AssertionError(f"expected {expected.__name__}")

    def agree(self) -> None:
        assert len(self.wheel) == len(self.model)
        assert self.wheel.now == self.model.now
        earliest = self.model.earliest
        if earliest is None:
            assert self.wheel.next is None
        else:
            assert self.wheel.next is not None
            assert self.wheel.now <= self.wheel.next <= max(earliest, self.wheel.now)


def target(data: bytes) -> None:
    Program(data).run()


if __name__ == "__main__":
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
