"""The lab's judge: what it must tell apart, and what its page says."""

from __future__ import annotations

import subprocess
import sys
from xml.etree import ElementTree

import pytest

from tests.hostile.__main__ import main
from tests.hostile.cases import CASES
from tests.hostile.measure import Line, Result, measure
from tests.hostile.network import REPOSITORY
from tests.hostile.picture import picture
from tests.hostile.report import ROWS, cases, page
from tests.hostile.run import Outcome
from tests.hostile.targets import FIRST_MOST_S, NOISE_S, missed
from tests.hostile.waits import waited_s

named = {case.name: case for case in CASES}


def said(*texts: str) -> list[Line]:
    return [Line.of(f"{at:.1f} {text}\n") for at, text in enumerate(texts, 100)]


WELL = ("start", "state OPEN connected", "sent 1", "confirmed 1", "echo 1", "news 1", "confirmed 2", "echo 2", "news 2")


def test_all_that_was_confirmed_came_back_once_and_in_order() -> None:
    result = measure(said(*WELL), [])
    assert (result.up_s, result.down_s, result.messages, result.faults) == (3.0, 4.0, 6, 0)


def test_what_was_confirmed_and_did_not_come_back_is_lost() -> None:
    assert measure(said(*WELL[:7]), []).lost == 1


def test_a_hole_in_the_news_is_a_loss_and_so_is_a_gap_that_was_told() -> None:
    assert measure(said("start", "news 1", "news 3"), []).lost == 1
    assert measure(said("start", "gap 2", "news 3"), []).lost == 1


def test_news_that_stop_are_lost_though_echoes_go_on() -> None:
    lines = said(*WELL, "sent 3", "confirmed 3", "echo 3")
    assert measure(lines, [], told=2).lost == 0
    assert measure(lines, [], told=5).lost == 3
    assert measure(lines, [108.5], told=5).lost == 3, "after a break, too"
    assert measure(said("start", "sent 1", "confirmed 1", "echo 1"), [], told=4).lost == 4, (
        "and if there never were any"
    )


def test_news_before_the_first_that_came_are_lost_where_they_are_kept() -> None:
    lines = said("start", "sent 1", "confirmed 1", "echo 1", "news 3", "news 4")
    assert measure(lines, [], told=4).lost == 0
    assert measure(lines, [], told=4, all_kept=True).lost == 2


def test_of_who_is_cut_off_silence_is_told_and_no_loss_and_the_crowd_is_told_no_news() -> None:
    assert measure(said(*WELL), [108.5], told=9).lost == 0
    assert measure(said("start"), [], told=9, all_kept=True).lost == 0
    crowd = "sent@1 1", "confirmed@1 1", "echo@1 1"
    assert measure(said(*WELL, *crowd), [], told=2, all_kept=True).lost == 0


def test_twice_is_doubled_and_late_is_reordered() -> None:
    result = measure(said("start", "news 1", "news 3", "news 2", "news 3"), [])
    assert (result.doubled, result.reordered) == (1, 1)


def test_silence_is_the_longest_wait_for_a_confirmation_or_for_the_next_message() -> None:
    lines = said(
        "start", "sent 1", "confirmed 1", "echo 1", "sent 2", "news 1", "news 2", "confirmed 2", "news 3", "echo 2"
    )
    assert measure(lines, [104.5]).silences_s == [2.5]  # 2 was on its way, and waited until 107
    assert measure(lines, [107.5]).silences_s == [None]  # nothing is confirmed any more
    lines = said("start", "sent 1", "confirmed 1", "echo 1", "sent 2", "confirmed 2", *["state OPEN"] * 5, "echo 2")
    assert measure(lines, [103.5]).silences_s == [7.5]
    assert measure(said(*WELL), [108.5]).silences_s == [None]


def test_a_phone_that_said_nothing_never_got_through() -> None:
    assert measure([], []) == Result(None, None, [], 0, 0, 0, 0)


def test_what_the_client_met_is_noted_once() -> None:
    result = measure(said("start", "state WAITING 3 SILENT", "state CONNECTING to x", "state WAITING 3 SILENT"), [])
    assert result.met == ["WAITING 3 SILENT"]


def test_of_a_crowd_the_slowest_counts_and_every_fault() -> None:
    crowd = (
        "sent@1 1",
        "sent@2 1",
        "confirmed@1 1",
        "echo@1 1",
        "confirmed@2 1",
        "echo@2 1",
        "echo@2 1",
        "confirmed@2 2",
    )
    result = measure(said(*WELL, *crowd), [])
    assert (result.messages, result.lost, result.doubled) == (6 + 2 + 4, 1, 1)
    slow = said("start", "sent 1", "sent@1 1", "confirmed 1", "echo 1", "confirmed@1 1", "echo@1 1")
    assert measure(slow, [100.5]).silences_s == [5.5]


def test_the_targets_are_those_of_the_page() -> None:
    case = named["open"]
    fine = measure(said(*WELL), [])
    assert missed(Outcome(case, "imcore", fine, alone_s=3.0, after_idle_s=0.5)) == []
    case = named["443 only"]
    most = f"at most {1.2 + waited_s(case) + NOISE_S:.2f} s"
    assert missed(Outcome(case, "imcore", fine, alone_s=1.0)) == [f"first message up after 3.00 s, {most}"]
    never = measure(said(*WELL[:2]), [])
    assert missed(Outcome(case, "imcore", never, alone_s=1.0))[0] == f"first message up after never, {most}"
    lost = measure(said(*WELL[:7]), [])
    assert missed(Outcome(case, "imcore", lost, alone_s=3.0)) == ["1 lost, 0 doubled, 0 reordered"]
    late = measure(said(*WELL[:5], "sent 2", *["state OPEN"] * 5, "confirmed 2", "echo 2"), [104.5])
    assert missed(Outcome(named["frozen"], "imcore", late, alone_s=3.0)) == ["silent for 7.50 s, at most 5 s"]
    assert missed(Outcome(named["portal"], "imcore", fine)) == ["PORTAL was not named"]
    idle = Outcome(named["NAT of 5 min"], "imcore", fine, alone_s=3.0, idle_bytes=201.0, after_idle_s=0.1)
    assert missed(idle) == ["201 bytes an idle minute, at most 200"]
    idle.idle_bytes = None
    assert missed(idle) == ["no idle minute was measured, at most 200 bytes"]


def test_the_page_has_a_row_for_each_network_and_the_picture_a_mark_for_each_contender() -> None:
    case = named["443 only"]
    fine = Outcome(case, "imcore", measure(said(*WELL), []), alone_s=3.0, bytes=600)
    lost = Outcome(case, "MQTT", measure(said(*WELL[:7]), []))
    broken = Outcome(named["frozen"], "imcore", failed="RuntimeError: no")
    text = page([fine, lost, broken], 40)
    ours = f"3.00 | {waited_s(case):g} | 3.00 / 4.00 | - | 0 | 100 | - | -"
    assert f"| **{case.name}**: {case.network} | {ours} | 3.00 / 4.00; -; 1 / 0 / 0; 0 |" in text
    assert "1 of 2 networks met all of them. Missed:\n\n- **frozen**: not run: RuntimeError: no" in text
    drawn = ElementTree.fromstring(picture(cases([fine, lost, broken])))
    texts = [each.text for each in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"443 only", "frozen", "imcore", "MQTT", "1"} <= set(texts)


def test_each_case_has_a_name_of_its_own_and_each_row_a_case() -> None:
    assert len(named) == len(CASES)
    assert {case.row for case in CASES} == set(range(len(ROWS)))


def test_what_the_race_waits_for_is_the_silent_ones_before_the_first_that_is_open() -> None:
    assert [waited_s(named[name]) for name in ("open", "8080 only", "portal")] == [0.0, 0.0, 0.0]
    assert 0 < waited_s(named["443 only"]) < waited_s(named["80 only"]) < waited_s(named["14000 only"]) < FIRST_MOST_S


@pytest.mark.parametrize(("words", "why"), [(["nosuch"], "no case"), (["--at-once", "0"], "at least 1, got 0")])
def test_what_can_not_be_run_is_said(
    words: list[str], why: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["hostile", *words])
    with pytest.raises(SystemExit):
        main()
    assert why in capsys.readouterr().err


def test_what_threads_say_at_once_are_whole_lines() -> None:
    program = (
        "import sys, threading\n"
        "from tests.hostile.talk import say\n"
        "sys.setswitchinterval(1e-6)\n"
        "work = [threading.Thread(target=lambda: [say('sent', 7, 'a b') for _ in range(2000)]) for _ in range(4)]\n"
        "for thread in work: thread.start()\n"
        "for thread in work: thread.join()\n"
    )
    said = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    lines = [Line.of(line) for line in said.stdout.splitlines()]
    assert {(line.what, line.words) for line in lines} == {("sent", "7 a b")}
    assert len(lines) == 8000
