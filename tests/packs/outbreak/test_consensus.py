"""When detectors agree: families, the quorum, what disagrees, and that a verdict can be made again from itself."""

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from packs.outbreak.backtest.data import load
from packs.outbreak.consensus import again, assess
from packs.outbreak.page import needed
from packs.outbreak.verdict import REPORT, Assessment, Rules, Said
from packs.outbreak.weeks import week_name, week_number

KAOHSIUNG = load()["kaohsiung"]
RULES = Rules()
weeks = st.integers(week_number("2005-W01"), max(KAOHSIUNG))


def said(week: str, signal: str, source: str = "cdc") -> Said:
    return msgspec.convert({"week": week, "signal": signal, "source": source, "document": "sha256:0"}, Said)


def test_the_outbreak_of_2014_is_seen_in_its_first_week_by_all_families() -> None:
    quiet, loud = assess(KAOHSIUNG, "2014-W21", RULES), assess(KAOHSIUNG, "2014-W22", RULES)
    assert (quiet.consensus, quiet.alarms) == (False, ())
    assert (loud.consensus, loud.alarms) == (True, ("bayes", "cumulative", "regression", "window"))


def test_who_disagrees_is_shown_beside_who_agrees() -> None:
    found = assess(KAOHSIUNG, "2015-W23", RULES)
    assert (found.alarms, found.quiet, found.consensus) == (("cumulative", "window"), ("bayes", "regression"), False)
    assert found.verdict == (
        "no consensus (2 families see an alarm, 3 must; alarm: cumulative, window; quiet: bayes, regression)"
    )


def test_a_family_has_one_voice_however_many_of_its_detectors_sound() -> None:
    found = assess(KAOHSIUNG, "2015-W24", RULES)
    alarms = [reading for reading in found.readings if reading.state == "alarm"]
    assert (len(alarms), len(found.alarms)) == (4, 2)
    assert not found.consensus


def test_the_quorum_is_a_setting() -> None:
    assert assess(KAOHSIUNG, "2015-W23", Rules(quorum=2)).consensus
    assert not assess(KAOHSIUNG, "2015-W23", Rules(quorum=4)).consensus
    with pytest.raises(msgspec.ValidationError, match="more than the quorum"):
        msgspec.json.decode(b'{"quorum": 2, "statistical": 3}', type=Rules)


def test_few_cases_are_no_alarm_whatever_they_are_measured_against() -> None:
    points = dict.fromkeys(range(week_number("2008-W01"), week_number("2014-W01")), 0) | {week_number("2014-W01"): 2}
    found = assess(points, "2014-W01", RULES)
    assert found.alarms == ()
    assert any("fewer than 3 cases" in reading.note for reading in found.readings)
    assert "window" in assess(points, "2014-W01", Rules(min_cases=1)).alarms


def test_a_bulletin_is_one_voice_and_never_enough() -> None:
    two = assess(KAOHSIUNG, "2015-W23", RULES, [said("2015-W23", "rise")])
    assert (two.consensus, REPORT in two.alarms) == (True, True)
    only = assess(KAOHSIUNG, "2014-W21", RULES, [said("2014-W21", "rise"), said("2014-W21", "rise", "city")])
    assert (only.consensus, only.alarms) == (False, (REPORT,))
    against = assess(KAOHSIUNG, "2015-W23", RULES, [said("2015-W23", "usual")])
    assert (against.consensus, REPORT in against.quiet) == (False, True)
    statistical = Rules(quorum=3, statistical=3)
    assert not assess(KAOHSIUNG, "2015-W23", statistical, [said("2015-W23", "rise")]).consensus


def test_a_bulletin_of_long_ago_has_no_voice() -> None:
    assert REPORT not in {r.family for r in assess(KAOHSIUNG, "2015-W23", RULES, [said("2015-W20", "rise")]).readings}


@given(week=weeks)
@settings(max_examples=25, deadline=None)
def test_a_verdict_can_be_made_again_from_what_it_holds_also_after_a_journey(week: int) -> None:
    found = assess(KAOHSIUNG, week_name(week), RULES, [said(week_name(week), "rise")])
    there_and_back = msgspec.json.decode(msgspec.json.encode(found), type=Assessment)
    assert again(there_and_back) == found


@given(week=weeks)
@settings(max_examples=25, deadline=None)
def test_the_count_that_would_have_changed_the_verdict_is_exact(week: int) -> None:
    name = week_name(week)
    found = assess({**KAOHSIUNG, week: KAOHSIUNG[week] + 500}, name, RULES)
    assume(found.consensus)
    least = needed(found.readings, RULES.quorum)
    assert least is not None and least >= RULES.min_cases
    assert assess({**KAOHSIUNG, week: least}, name, RULES).consensus
    assert not assess({**KAOHSIUNG, week: least - 1}, name, RULES).consensus
