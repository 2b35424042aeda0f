"""The bench: its arithmetic, and that a run of it ends with figures. What the figures are is not tested here."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.bench import device, split_picture
from benchmarks.bench.__main__ import ROWS, rows_of
from benchmarks.bench.apart import CASES
from benchmarks.bench.device import Device
from benchmarks.bench.figures import Figure, at_least, at_most, figure, ratio
from benchmarks.bench.growth import excess, spread
from benchmarks.bench.machine import cores, cpu_seconds, foreign_seconds
from benchmarks.bench.picture import draw
from benchmarks.bench.plan import CaseResult, Plan, RowResult, Sizes, run_case
from benchmarks.bench.report import merged
from benchmarks.bench.running import Failed, interleaved, lasting, sample, undisturbed
from benchmarks.bench.tables import fill
from benchmarks.peers.base import PAYLOAD, TEXT, Peer
from benchmarks.peers.frames import Imcore, Limit
from benchmarks.peers.mqtt import Mosquitto, packet
from benchmarks.peers.text import Nats, Redis
from benchmarks.peers.websocket import Picows
from imcore._codec import MSG, FrameDecoder

REPOSITORY = Path(__file__).parents[1]
ABOUT: dict[str, Any] = {
    "runs": 2,
    "seconds": 1,
    "machine": {"processor": "<p>", "system": "s", "python": "3"},
    "versions": {},
}


def case(samples: dict[str, list[dict[str, float] | None]], compared: str = "v") -> CaseResult:
    return CaseResult("a case", [], samples, {}, compared)


class TestFigures:
    def test_a_figure_is_the_median_with_its_range(self) -> None:
        assert figure([5.0, 1.0, 3.0, 2.0]) == Figure(2.5, 1.0, 5.0, 4)
        assert figure([]) is None

    def test_a_ratio_is_taken_within_each_run(self) -> None:
        """Run 2 ran on a machine that was half as fast: it does not show."""
        ours, others = [{"v": 90.0}, {"v": 45.0}, {"v": 100.0}], [{"v": 100.0}, {"v": 50.0}, {"v": 100.0}]
        assert ratio(ours, others, "v") == Figure(0.9, 0.9, 1.0, 3)

    def test_a_ratio_leaves_out_runs_that_one_of_both_lacks(self) -> None:
        assert ratio([None, {"v": 2.0}, {"v": 9.0}], [{"v": 1.0}, {"v": 1.0}, None], "v") == Figure(2.0, 2.0, 2.0, 1)
        assert ratio([None], [{"v": 1.0}], "v") is None
        assert ratio([], [], "v") is None

    def test_a_ratio_to_nothing_is_no_figure(self) -> None:
        assert ratio([{"v": 1.0}], [{"v": 0.0}], "v") is None

    @pytest.mark.parametrize(("median", "over", "under"), [(1.0, True, True), (0.99, False, True), (1.01, True, False)])
    def test_a_target_is_met_by_the_median(self, median: float, over: bool, under: bool) -> None:
        value = Figure(median, 0.0, 9.0, 3)
        assert at_least("", 1.0, value).met is over
        assert at_most("", 1.0, value).met is under

    def test_what_was_not_measured_is_neither_met_nor_missed(self) -> None:
        assert at_least("", 1.0, None).met is None
        assert at_least("", 1.0, None).as_map()["value"] is None

    def test_a_sample_tells_what_a_second_of_the_processor_does(self) -> None:
        found = sample({"messages_per_s": 1000.0, "seconds": 2.0, "cpu_s": 0.5})
        assert found["messages_per_cpu_s"] == 4000
        assert found["cpu_ns"] == 250_000

    def test_growth_is_the_dearest_to_the_cheapest_of_each_run(self) -> None:
        grown = case({"a": [{"v": 10.0}, {"v": 10.0}], "b": [{"v": 12.0}, None], "c": [{"v": 11.0}, {"v": 20.0}]})
        assert spread(grown, "v", "abc") == Figure(1.2, 1.2, 1.2, 1)

    def test_growth_beyond_the_bare_servers_is_told_run_by_run(self) -> None:
        grown = case({"a": [{"v": 10.0}, {"v": 10.0}], "b": [{"v": 30.0}, {"v": 15.0}], "x": [{"v": 5.0}, {"v": 5.0}],
                      "y": [{"v": 10.0}, None]})  # fmt: skip
        assert excess(grown, "v", "ab", "xy") == Figure(1.5, 1.5, 1.5, 1)


class TestRuns:
    def test_contenders_take_turns(self) -> None:
        order: list[str] = []

        def measure(name: str) -> dict[str, float]:
            order.append(name)
            return {"v": float(len(order))}

        samples, errors = interleaved([("a", lambda: measure("a")), ("b", lambda: measure("b"))], 2, 1, lambda _: None)
        assert order == ["a", "b", "a", "b"]
        assert samples == {"a": [{"v": 1.0}, {"v": 3.0}], "b": [{"v": 2.0}, {"v": 4.0}]}
        assert not errors

    def test_who_fails_is_not_tried_again_unless_it_is_ours(self, tmp_path: Path) -> None:
        tried: list[str] = []

        def fail(name: str) -> dict[str, float]:
            tried.append(name)
            raise Failed("no\n  answer")

        plan = Plan(3, 1.0, Sizes(), tmp_path, lambda _: None)
        result = run_case(plan, "x", [("peer", lambda: fail("peer")), ("imcore", lambda: fail("imcore"))], [])
        assert tried == ["peer", "imcore", "imcore", "imcore"]
        assert result.samples == {"peer": [None] * 3, "imcore": [None] * 3}
        assert result.as_map()["contenders"] == {"peer": {"error": "no answer"}, "imcore": {"error": "no answer"}}

    def test_a_peer_that_is_not_here_is_left_out_and_said(self, tmp_path: Path) -> None:
        plan = Plan(1, 1.0, Sizes(), tmp_path, lambda _: None)
        assert [peer.name for peer in plan.able([Limit(tmp_path / "none"), Imcore()])] == ["imcore"]
        assert "limit" in plan.left_out

    def test_the_processor_time_of_a_process_is_what_it_used(self) -> None:
        before = cpu_seconds(os.getpid())
        while cpu_seconds(os.getpid()) - before < 0.01:
            pass
        sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        with sleeper:
            assert 0 <= cpu_seconds(sleeper.pid) < 5

    def test_a_disturbed_run_is_made_again_and_the_least_disturbed_counts(self) -> None:
        def of(*others: float) -> float:
            runs = iter([{"v": 1.0, "others": each} for each in others])
            found = undisturbed(lambda: next(runs), 3)["others"]
            assert next(runs, None) is None, "as often as it takes, and no more"
            return found

        assert of(0.01) == 0.01
        assert of(0.5, 0.05) == 0.05
        assert of(0.5, 0.3, 0.4) == 0.3
        assert undisturbed(lambda: {"v": 1.0}, 3) == {"v": 1.0}

    def test_a_device_waits_for_an_answer_as_long_as_it_says(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seconds = itertools.count()
        monkeypatch.setattr(device, "time", SimpleNamespace(perf_counter=lambda: float(next(seconds))))
        with socket.create_server(("127.0.0.1", 0)) as deaf, Device(deaf.getsockname()[1], None) as sender:
            asked = next(seconds)
            with pytest.raises(Failed, match="not answered within 60 s"):
                sender.join("hall")
            assert 60 <= next(seconds) - asked < 66

    def test_a_flood_that_is_over_before_the_measurement_is_none(self, tmp_path: Path) -> None:
        over = tmp_path / "over"
        command = ["sh", "-c", f"while [ ! -e {over} ]; do sleep 0.02; done; exit 3"]
        with lasting(command) as flood:
            assert flood.poll() is None
        assert flood.returncode == -signal.SIGKILL

        def ends_too_early() -> None:
            with lasting(command) as flood:
                over.touch()
                flood.wait(20)

        with pytest.raises(Failed, match="exit code 3"):
            ends_too_early()

    @pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
    def test_who_is_named_is_no_other(self) -> None:
        """A busy child on one of the cores is seen, unless it is named."""
        command = [sys.executable, "-c", "print(flush=True)\nwhile True: pass"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            os.sched_setaffinity(child.pid, set(cores()))
            try:
                assert child.stdout is not None
                child.stdout.readline()
                before, without = foreign_seconds(), foreign_seconds(child.pid)
                used = cpu_seconds(child.pid)
                while cpu_seconds(child.pid) - used < 0.3:
                    time.sleep(0.01)
                seen, unseen = foreign_seconds() - before, foreign_seconds(child.pid) - without
            finally:
                child.kill()
        assert seen > 0.2
        assert seen - unseen > 0.2


class TestReport:
    def test_a_row_that_was_run_takes_the_place_of_its_older_self_alone(self) -> None:
        def row(name: str, value: float) -> RowResult:
            return RowResult(name, "title", [case({"imcore": [{"v": value}]})], [])

        first = merged({}, [row("2", 1.0), row("1", 1.0)], {**ABOUT, "runs": 5}, ["1", "2"])
        second = merged(json.loads(json.dumps(first)), [row("2", 7.0)], ABOUT, ["1", "2"])
        assert [each["row"] for each in second["rows"]] == ["1", "2"]
        assert [each["made"]["runs"] for each in second["rows"]] == [5, 2]
        medians = [each["cases"][0]["contenders"]["imcore"]["v"]["median"] for each in second["rows"]]
        assert medians == [1.0, 7.0]

    def test_the_picture_shows_each_contender_and_survives_any_name(self) -> None:
        samples: dict[str, list[dict[str, float] | None]] = {
            "imcore": [{"messages_per_s": 40_000.0}, {"messages_per_s": 50_000.0}],
            "<peer>": [{"messages_per_s": 10_000.0}, None],
            "broken": [None, None],
        }
        content = merged({}, [RowResult("3", "t", [case(samples, "messages_per_s")], [])], ABOUT, ["3"])
        picture = draw(json.loads(json.dumps(content)))
        words = ["".join(text.itertext()) for text in ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]
        assert "imcore" in words
        assert "<peer>" in words
        assert "45" in words
        assert "broken" not in words

    def test_tables_of_documents_are_filled_from_the_figures_and_nothing_else_is_touched(self) -> None:
        figures: dict[str, list[dict[str, float] | None]] = {
            f"{name}, {how}": [{"p50_us": 1000.0, "p99_us": 2_500_000.0}]
            for name in CASES
            for how in ("alone", "flooded")
        }
        row = RowResult("split", "t", [case(figures)], [])
        content = json.loads(json.dumps(merged({}, [row], ABOUT, ["split"])))
        mark = "<!-- bench:split -->\n"
        text = f"before\n\n{mark}old\n<!-- /bench -->\n\n<!-- bench:redis -->\nkept\n<!-- /bench -->\nafter\n"
        filled = fill(text, content)
        assert filled.startswith(f"before\n\n{mark}")
        assert "old" not in filled
        assert filled.endswith("<!-- bench:redis -->\nkept\n<!-- /bench -->\nafter\n")
        assert f"| {CASES[0]} | 1.00 (1.00 to 1.00) |" in filled
        assert fill(filled, content) == filled
        picture = split_picture.draw(content["rows"][0])
        words = ["".join(text.itertext()) for text in ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]
        assert [f"{name}, {how}" for name in CASES for how in ("alone", "flooded")] == [
            w for w in words if w in figures
        ]
        assert words.count("2.5 s") == len(figures)

    def test_rows_are_chosen_by_name(self) -> None:
        assert rows_of("all") == list(ROWS)
        assert rows_of("3, tls") == ["3", "tls"]
        with pytest.raises(Exception, match="no row '17'"):
            rows_of("17")


class TestPeers:
    @pytest.mark.parametrize("peer", [Imcore(), Mosquitto(), Nats(), Redis(), Picows()], ids=lambda peer: peer.name)
    def test_a_message_holds_the_payload(self, peer: Peer) -> None:
        assert PAYLOAD in peer.message("fanout", 0)
        assert peer.answer_size("fanout") > len(PAYLOAD)

    def test_a_pairs_message_is_written_where_the_peer_says(self) -> None:
        people = Imcore().people(7)
        message = bytearray(people.message)
        message[people.id_at : people.id_at + people.id_size] = (9).to_bytes(8, "big")
        message[people.text_at : people.text_at + TEXT] = b"z" * TEXT
        (frame,) = FrameDecoder().feed(bytes(message))
        assert (frame.type, frame.id, frame.route) == (MSG, 9, "chat")
        assert json.loads(frame.body) == {"to": "r000007", "text": "z" * TEXT}

    def test_a_packet_of_mqtt_has_its_length_in_front(self) -> None:
        """MQTT 3.1.1, 2.2.3: 7 bits a byte, the low ones first."""
        assert packet(0x30, b"a" * 127)[:2] == b"\x30\x7f"
        assert packet(0x30, b"a" * 321)[:3] == b"\x30\xc1\x02"


@pytest.mark.skipif(sys.platform != "linux", reason="the bench runs on Linux only")
@pytest.mark.platform
@pytest.mark.timeout(180)
def test_a_small_run_ends_with_figures_and_a_picture(tmp_path: Path) -> None:
    rows = ["3", "8", "slow"]
    command = [sys.executable, "-m", "benchmarks.bench", "--small", "--runs", "1", "--seconds", "0.1"]
    done = subprocess.run(
        [*command, "--rows", ",".join(rows), "--out", str(tmp_path)],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "benchmarks.json").read_text(encoding="utf-8"))
    assert [row["row"] for row in content["rows"]] == rows
    for row in content["rows"]:
        for each in row["cases"]:
            ours = each["contenders"]["imcore"]
            assert "error" not in ours, (row["row"], ours)
    durable = content["rows"][0]["cases"][0]["contenders"]["imcore"]
    assert durable["received"]["median"] > 0
    assert durable["faults"]["median"] == 0
    slow = content["rows"][2]["cases"][0]["contenders"]["imcore"]
    assert slow["durable"]["median"] == 1
    assert slow["misnumbered"]["median"] == 0
    ET.parse(tmp_path / "benchmarks.svg")
