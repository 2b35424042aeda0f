"""Nothing is left of a run that was ended, and nothing for long of one that was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.case import Case
from tests.hostile.contenders import OURS
from tests.hostile.namespaces import PREFIX, missing, sweep
from tests.hostile.programs import missing as lacking
from tests.hostile.run import Run
from tests.hostile.world import World

REPOSITORY = Path(__file__).parents[2]
START_S = 40.0


def left(run: int) -> list[str]:
    """What bears the name of this run: namespaces, folders, processes."""
    names = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout.split()
    folders = [path.name for path in (*Path(tempfile.gettempdir()).iterdir(), *Path("/etc/netns").glob("*"))]
    mine = f"{PREFIX}{run}-"
    processes = [path.parent.name for path in Path("/proc").glob("[0-9]*/cmdline") if mine in said(path)]
    return [each for each in (*names, *folders) if each.startswith(mine)] + processes


def said(cmdline: Path) -> str:
    try:
        return cmdline.read_text(errors="replace")
    except OSError:  # it has ended
        return ""


@pytest.fixture
def run() -> Iterator[subprocess.Popen[bytes]]:
    """A run in the middle of two cases, one of them with a proxy."""
    if why := missing() or lacking(["squid"]):
        pytest.skip(why)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.hostile", "open", "proxy"],
        cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        end = time.monotonic() + START_S
        while len([each for each in left(process.pid) if each.endswith("gateway")]) < 2:
            assert time.monotonic() < end
            assert process.poll() is None
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait(START_S)
        sweep()


def test_a_case_that_fails_leaves_nothing() -> None:
    if why := missing():
        pytest.skip(why)

    def broken(world: World) -> None:
        assert left(os.getpid())
        raise RuntimeError("this can't be prepared")

    [outcome] = Run(1).all([(Case(0, "broken", "", broken), OURS, 1.0)])
    assert outcome.failed == "RuntimeError: this can't be prepared"
    assert not left(os.getpid())


def test_a_run_that_is_ended_leaves_nothing(run: subprocess.Popen[bytes]) -> None:
    os.kill(run.pid, signal.SIGINT)
    run.wait(START_S)
    assert not left(run.pid)


def test_the_next_run_removes_what_a_killed_one_left(run: subprocess.Popen[bytes]) -> None:
    run.kill()
    run.wait(START_S)
    assert left(run.pid)
    sweep()
    assert not left(run.pid)
