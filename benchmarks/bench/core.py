"""Rows 5, 6 and http: the timer wheel, the decoder and the HTTP reader by themselves, from pytest-benchmark's figures.

What is measured, and how, stands in benchmarks/test_wheel.py, test_codec.py and test_tunnel.py; here they are run again
and again, on the server's core, and put beside the targets.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

from .figures import Figure, Sample, at_least, at_most, figure
from .machine import cores
from .plan import CaseResult, Column, Contender, Plan, RowResult, run_case
from .programs import REPOSITORY, WORK
from .running import Failed, pinned

__all__ = ["decode", "http", "wheel"]

TIMEOUT_S = 300
FRAMES = 1000  # in a round of test_codec's
MESSAGES = 1000  # in a round of test_tunnel's
CHUNKED_BYTES = 1024 * 512  # likewise
PAIRS = 10_000  # arm and cancel, in a round of test_wheel's


def _benchmarks(path: Path, file: str, pattern: str) -> dict[str, tuple[float, dict[str, float]]]:
    """By name: the median of a round in seconds, and what else the benchmark tells. Raises `Failed`."""
    command = [
        sys.executable, "-m", "pytest", file, "-q", "-p", "no:cacheprovider", "-k", pattern,
        f"--benchmark-json={path}", "--benchmark-max-time=0.3", "--benchmark-warmup=off", f"--timeout={TIMEOUT_S}",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, check=False, preexec_fn=pinned(cores()[0])
    )
    if not path.exists():
        raise Failed(f"pytest {file}: {done.stdout.strip()[-300:] or done.stderr.strip()[-300:]}")
    found = json.loads(path.read_text())["benchmarks"]
    path.unlink()
    return {each["name"]: (each["stats"]["median"], each["extra_info"]) for each in found}


def _wheel() -> Sample:
    found = _benchmarks(WORK / "wheel.json", "benchmarks/test_wheel.py", "test_")
    try:
        percent = found["test_a_million_deadlines_cost_at_most_two_percent_of_a_core"][1]["percent of a core"]
        memory = found["test_a_deadline_costs_at_most_32_bytes_of_process_memory"][1]["bytes a deadline, resident"]
        sample = {
            "percent": percent,
            "bytes": memory,
            "refresh_ns": found["test_refresh_in_c[1000]"][1]["ns"],
            "refresh_cold_ns": found["test_refresh_in_c[1000000]"][1]["ns"],
        }
        for loop in ("asyncio", "uvloop"):
            wheel, later = (found[f"{test}[{loop}]"][0] for test in ("test_wheel", "test_call_later"))
            sample |= {
                f"wheel_{loop}_ns": wheel / PAIRS * 1e9,
                f"later_{loop}_ns": later / PAIRS * 1e9,
                f"faster_{loop}": later / wheel,
            }
    except KeyError as error:
        raise Failed(f"benchmarks/test_wheel.py gave no {error}") from None
    return sample


def _only(case: CaseResult, key: str) -> Figure | None:
    return case.figure("imcore", key)


def wheel(plan: Plan) -> RowResult:
    """Row 5."""
    columns = [
        Column("percent", "% of a core, 1,000,000 deadlines", 1, 2),
        Column("refresh_ns", "re-arm in C, ns", 1, 2),
        Column("refresh_cold_ns", "the same, of a million in random order, ns", 1, 2),
        Column("wheel_uvloop_ns", "arm + cancel from Python, ns"),
        Column("later_asyncio_ns", "asyncio's call_later + cancel, ns"),
        Column("later_uvloop_ns", "uvloop's, ns"),
        Column("bytes", "bytes a deadline", 1, 1),
    ]
    case = run_case(plan, "wheel", [("imcore", _wheel)], columns)
    verdicts = [
        at_most("% of a core, 1,000,000 deadlines, refreshed every 60 s, tick 100 ms", 2, _only(case, "percent")),
        at_most("re-arm in C, ns", 10, _only(case, "refresh_ns")),
        at_least("arm + cancel from Python: times faster than asyncio's", 10, _only(case, "faster_asyncio")),
        at_least("arm + cancel from Python: times faster than uvloop's", 10, _only(case, "faster_uvloop")),
        at_most("bytes of process memory a deadline", 32, _only(case, "bytes")),
    ]
    notes = [
        "Re-arm in C is one store where the timer lies in the cache; of a million timers in random order each waits "
        "for memory, which is the second figure, and the % of a core has it in."
    ]
    return RowResult("5", "heartbeats: the timer wheel (benchmarks/test_wheel.py)", [case], verdicts, notes)


def _decode(test: str) -> Sample:
    pattern = f"TestDecode and not TestDecodeCut and {test}"
    found = _benchmarks(WORK / "decode.json", "benchmarks/test_codec.py", pattern)
    if test not in found:
        raise Failed(f"benchmarks/test_codec.py gave no {test}")
    return {"frames_per_s": FRAMES / found[test][0]}


def decode(plan: Plan) -> RowResult:
    """Row 6."""
    tests = {"imcore, C level": "test_scan", "imcore": "test_feed", "struct": "test_struct", "picows": "test_picows"}
    columns = [Column("frames_per_s", "million frames a second", 1e6, 2)]
    contenders: list[Contender] = [(name, partial(_decode, test)) for name, test in tests.items()]
    case = run_case(plan, "64-byte frames", contenders, columns, "frames_per_s")
    scan = [each["frames_per_s"] / 1e6 for each in case.samples["imcore, C level"] if each is not None]
    feed = [each["frames_per_s"] / 1e6 for each in case.samples["imcore"] if each is not None]
    verdicts = [
        at_least("C level, million frames a second", 100, figure(scan)),
        at_least("to Python objects, million frames a second", 5, figure(feed)),
        at_least("C level ÷ struct", 25, case.ratio("struct", "frames_per_s", "imcore, C level")),
    ]
    notes = [
        "The target of 25 times speaks of what a link does with a frame, which is the C level; objects in a Python "
        f"loop come {_times(case.ratio('struct', 'frames_per_s'))} times as fast as struct's, "
        f"{_times(case.ratio('picows', 'frames_per_s'))} times as fast as picows'."
    ]
    return RowResult("6", "decode 64-byte frames (benchmarks/test_codec.py)", [case], verdicts, notes)


def _http(group: str, test: str) -> Sample:
    found = _benchmarks(WORK / "http.json", "benchmarks/test_tunnel.py", f"{group} and {test}")
    name = test if test == "test_scan" else f"test_read[{test}]"
    if name not in found:
        raise Failed(f"benchmarks/test_tunnel.py gave no {name} of {group}")
    seconds = found[name][0]
    return {"per_s": MESSAGES / seconds if group == "TestMessages" else CHUNKED_BYTES / seconds}


def http(plan: Plan) -> RowResult:
    """Row http."""
    tests = {"imcore, C level": "test_scan", "imcore": "by_reader", "httptools": "by_httptools", "h11": "by_h11"}
    cases = []
    for name, group, title, scale in (
        ("requests with a body of 64 bytes", "TestMessages", "million messages a second", 1e6),
        ("a body in chunks of 512 bytes, in reads of 64 KiB", "TestChunks", "GB a second", 1e9),
        ("the same, a chunk a read", "TestAlone", "GB a second", 1e9),
    ):
        contenders: list[Contender] = [
            (who, partial(_http, group, test))
            for who, test in tests.items()
            if (group, test) != ("TestAlone", "test_scan")
        ]
        cases.append(run_case(plan, name, contenders, [Column("per_s", title, scale, 2)], "per_s"))
    messages, chunks, alone = cases
    scans = [
        [each["per_s"] for each in case.samples["imcore, C level"] if each is not None] for case in (messages, chunks)
    ]
    verdicts = [
        at_least("C level, million messages a second", 3, figure([each / 1e6 for each in scans[0]])),
        at_least("C level, GB a second in chunks of 512 bytes", 3, figure([each / 1e9 for each in scans[1]])),
        at_least("messages from Python: times httptools", 1.5, messages.ratio("httptools", "per_s")),
        at_least("chunks from Python: times httptools", 1.5, chunks.ratio("httptools", "per_s")),
    ]
    notes = [
        "Chunks that lie in one read are joined to one object; where each is read by itself there is nothing to join, "
        f"and ours comes {_times(alone.ratio('httptools', 'per_s'))} times as fast as httptools."
    ]
    return RowResult("http", "read HTTP (benchmarks/test_tunnel.py)", cases, verdicts, notes)


def _times(value: Figure | None) -> str:
    return "?" if value is None else f"{value.median:.1f}"
