"""The lab's judge: what it must tell apart, and what its page says."""

from __future__ import annotations

from tests.hostile.cases import CASES
from tests.hostile.measure import Line, Result, measure
from tests.hostile.report import page, picture
from tests.hostile.run import Outcome


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


def test_twice_is_doubled_and_late_is_reordered() -> None:
    result = measure(said("start", "news 1", "news 3", "news 2", "news 3"), [])
    assert (result.doubled, result.reordered) == (1, 1)


def test_silence_lasts_until_messages_go_both_ways_again() -> None:
    broken = [104.5]
    assert measure(said(*WELL), broken).silences_s == [1.5]
    assert measure(said(*WELL[:5]), broken).silences_s == [None]


def test_a_phone_that_said_nothing_never_got_through() -> None:
    assert measure([], []) == Result(None, None, [], 0, 0, 0, 0)


def test_what_the_client_met_is_noted_once() -> None:
    result = measure(said("start", "state WAITING 3 SILENT", "state CONNECTING to x", "state WAITING 3 SILENT"), [])
    assert result.met == ["WAITING 3 SILENT"]


def test_the_page_has_a_row_for_each_network_and_the_picture_a_field_for_each_contender() -> None:
    fine = Outcome(CASES[0], "imcore", measure(said(*WELL), []), alone_s=1.0, bytes=600)
    lost = Outcome(CASES[0], "MQTT", measure(said(*WELL[:7]), []))
    broken = Outcome(CASES[1], "imcore", failed="RuntimeError: no")
    text = page([fine, lost, broken], 40)
    assert (
        f"| **{CASES[0].name}**: {CASES[0].network} | 1.00 | 3.00 / 4.00; -; 0; 100 | 3.00 / 4.00; -; 1 / 0 / 0; 0 |"
        in text
    )
    assert "Not run: 8080 only, imcore: RuntimeError: no" in text
    assert picture([fine, lost, broken]).count("not run") == 2  # MQTT there, too
    assert (fine.good, lost.good, broken.good) == (True, False, False)


def test_each_case_has_a_name_of_its_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
