"""How long connections may be silent, by many devices' word: a low figure, one voice a day, and no harm by liars."""

from __future__ import annotations

import random

import msgspec
import pytest

from imcore.access.carriers import NOWHERE, Origin
from imcore.access.figures import FRESH
from imcore.access.server import read_report
from imcore.access.stills import DAY_S, Stills
from imcore.access_list import Measured, Report

NOW = 1_800_000_000.0
TELECOM, OTHER = Origin("telecom", "east"), Origin("other", "east")


def heard(words: list[int], into: Stills | None = None, origin: Origin = TELECOM) -> Stills:
    stills = into or Stills()
    for number, seconds in enumerate(words):
        stills.hear((f"{origin} {number}",), origin, seconds, NOW)
    return stills


def test_most_devices_may_be_silent_for_so_long_and_it_is_never_said_to_be_more() -> None:
    for limit_s in (30, 45, 180, 300, 599, 600, 1800):
        assert limit_s / 1.2 <= heard([limit_s] * 20).of(TELECOM, NOW) <= limit_s
    words = random.Random(1).choices([60, 240, 300, 600], [1, 2, 10, 10], k=200)
    assert 200 <= heard(words).of(TELECOM, NOW) <= 300


@pytest.mark.parametrize("lie", [1, 65535])
def test_one_liar_in_five_shifts_it_little(lie: int) -> None:
    assert 240 <= heard([300] * 80 + [lie] * 20).of(TELECOM, NOW) <= 300


def test_a_few_are_not_believed_and_a_device_has_one_voice_a_day() -> None:
    assert heard([300] * (int(FRESH) - 1)).of(TELECOM, NOW) == 0
    stills = Stills()
    for _ in range(100):
        stills.hear(("one",), TELECOM, 300, NOW)
    assert stills.of(TELECOM, NOW) == 0


def test_carriers_are_apart_and_without_one_nothing_is_said() -> None:
    stills = heard([300] * 20)
    assert stills.of(OTHER, NOW) == stills.of(NOWHERE, NOW) == 0
    assert stills.of(Origin("telecom", "west"), NOW) > 0, "elsewhere at the same carrier it is better than nothing"
    assert heard([300] * 20, origin=NOWHERE).of(NOWHERE, NOW) == 0


def test_it_fades_over_days_and_outlives_the_process() -> None:
    stills = heard([300] * 40)
    assert stills.of(TELECOM, NOW + DAY_S) > 0
    assert stills.of(TELECOM, NOW + 10 * DAY_S) == 0
    rows = heard([300] * 40).figures.changed(NOW)
    again = Stills()
    again.restore(rows, NOW)
    assert again.of(TELECOM, NOW) == heard([300] * 40).of(TELECOM, NOW)


def test_a_report_may_say_it_and_an_old_one_does_not() -> None:
    report = Report("phone", "down", [Measured("p", 443, "tls", "SILENT")], 300)
    assert read_report(msgspec.json.encode(report)).still_s == 300
    old = {"device": "phone", "role": "down", "measured": [msgspec.to_builtins(report.measured[0])]}
    assert read_report(msgspec.json.encode(old)).still_s == 0
