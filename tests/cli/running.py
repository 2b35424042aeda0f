"""The real command in processes of its own, on free ports of loopback, with folders of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

COMMAND = [sys.executable, "-m", "imcore"]
PATIENCE_S = 20.0


class Place:
    """A folder in which commands run, and the environment that they see."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("IMCORE_")}
        self.env |= {"XDG_STATE_HOME": str(folder / "state")}

    def run(
        self, *args: str, stdin: bytes | None = b"", env: dict[str, str] | None = None, patience_s: float = PATIENCE_S
    ) -> subprocess.CompletedProcess[bytes]:
        """Run to the end."""
        return subprocess.run(
            [*COMMAND, *args],
            input=stdin,
            capture_output=True,
            cwd=self.folder,
            env=self.env | (env or {}),
            timeout=patience_s,
            check=False,
        )

    def start(self, *args: str, stdout: Path | None = None, stdin: bool = False) -> subprocess.Popen[bytes]:
        """Start, with output into a file (appended) or a pipe."""
        out = stdout.open("ab") if stdout is not None else subprocess.PIPE
        try:
            return subprocess.Popen(
                [*COMMAND, *args],
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.PIPE,
                cwd=self.folder,
                env=self.env,
            )
        finally:
            if not isinstance(out, int):
                out.close()

    @contextmanager
    def serving(self, *args: str) -> Iterator[subprocess.Popen[bytes]]:
        """A node on a free port, to which every command of this place connects."""
        with finishing(self.start("serve", *(args or ("--listen", "127.0.0.1:0", "--anonymous")))) as process:
            assert process.stdout is not None
            said = process.stdout.readline().decode()
            assert said.startswith("listening on "), (said, process.stderr.read() if process.stderr else "")
            self.env["IMCORE_POINT"] = said.split()[-1]
            yield process


@contextmanager
def finishing(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Ends the process with the block, however that ends."""
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(PATIENCE_S)
                except subprocess.TimeoutExpired:
                    process.kill()


def until(what: Callable[[], bool]) -> None:
    """Wait for it."""
    end = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def one_line(process: subprocess.CompletedProcess[bytes]) -> str:
    """The one line on standard error that says what is wrong."""
    said = process.stderr.decode()
    assert said.startswith("imcore: "), said
    assert said.count("\n") == 1, said
    return said
