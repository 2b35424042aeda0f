"""Programs of others run without our sanitizers, and what they run of ours has them again."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.others import ours, theirs


def test_the_sanitizers_pass_by_those_who_are_between_two_of_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "libm.so.6")  # one that does nothing
    script = 'echo "${LD_PRELOAD-none}"\n' + ours([sys.executable, "-c", "import os; print(os.environ['LD_PRELOAD'])"])
    done = subprocess.run(["sh", "-euc", script], env=theirs(os.environ), capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["none", "libm.so.6"]
    monkeypatch.delenv("LD_PRELOAD")
    assert ours(["imcore", "frame read"]) == "env imcore 'frame read'"
