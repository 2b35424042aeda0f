"""A phone's process, and what it says."""

from __future__ import annotations

import subprocess
import threading
from contextlib import suppress

from .measure import Line
from .namespaces import Host

__all__ = ["Phone"]


class Phone:
    """It talks until it is told to stop."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.lines: list[Line] = []
        self._process = process
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def stop(self, patience_s: float) -> None:
        """No more is sent; what is on its way gets its time."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended by itself
            self._process.stdin.close()
        self._thread.join(patience_s)
        Host.end(self._process)

    def has(self, what: str) -> bool:
        """Whether it said this already."""
        return any(line.what == what for line in self.lines)

    def tell(self, word: str) -> None:
        """`quiet` or `talk`."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended by itself
            self._process.stdin.write(f"{word}\n")
            self._process.stdin.flush()

    @property
    def ended(self) -> bool:
        """By itself: it gave up, or fell."""
        return self._process.poll() is not None

    @property
    def at(self) -> str:
        """The name of the gateway that it said last that it is connected to, "" = none."""
        return next((line.words.split()[-1] for line in reversed(self.lines) if line.words.startswith("OPEN ")), "")

    def signal(self, number: int) -> None:
        """SIGSTOP, SIGCONT."""
        self._process.send_signal(number)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with suppress(ValueError):  # closed, since the case is over
            for text in self._process.stdout:
                self.lines.append(Line.of(text))
