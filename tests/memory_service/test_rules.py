"""What is current, superseded, contested or retracted: each rule, and what users of other memories complain of."""

import pytest

from memory_service.rules import judge, judge_at_its_time, once, standing, value_of
from mesh.errors import TerminalError
from mesh.facts import Cardinality, FactStatus
from tests.memory_service.claims import History, day

CURRENT, SUPERSEDED = FactStatus.CURRENT, FactStatus.SUPERSEDED
CONTESTED, RETRACTED = FactStatus.CONTESTED, FactStatus.RETRACTED


def statuses(history: History, *ids: str, at: float | None = None) -> list[FactStatus]:
    """What is made of facts now, or on a day."""
    judged = judge(history.held, history.now if at is None else day(at))
    return [judged[fact_id].status for fact_id in ids]


def values(history: History, at: float | None = None) -> list[bytes]:
    """What stands now, or on a day."""
    found = once(standing(history.held, history.now if at is None else day(at)))
    return [value_of(one.fact).partition(b" ")[2] for one in found]


def test_a_later_claim_of_equal_authority_supersedes_and_says_what_it_displaced() -> None:
    history = History()
    old = history.say("Main St 1", uri="crm:7")
    new = history.say("Oak Ave 2", uri="mail:9")
    assert statuses(history, old, new) == [SUPERSEDED, CURRENT]
    assert history.fact(new).supersedes == old and history.fact(old).supersedes == ""


def test_the_one_before_stands_for_the_time_before() -> None:
    history = History()
    history.say("Main St 1", valid_from=day(0))
    history.say("Oak Ave 2", valid_from=day(100))
    assert values(history, at=99) == [b'"Main St 1"'] and values(history, at=100) == [b'"Oak Ave 2"']


def test_a_lower_authority_that_comes_later_is_contested_and_changes_nothing() -> None:
    history = History()
    high = history.say("Main St 1", uri="erp:7", authority=2)
    low = history.say("Oak Ave 2", uri="mail:9", authority=1)
    assert statuses(history, high, low) == [CURRENT, CONTESTED]
    assert history.fact(low).supersedes == ""


def test_a_higher_authority_supersedes_what_was_there() -> None:
    history = History()
    low = history.say("Main St 1", uri="mail:9", authority=0)
    high = history.say("Oak Ave 2", uri="erp:7", authority=2)
    assert statuses(history, low, high) == [SUPERSEDED, CURRENT]


def test_claims_of_the_same_moment_and_authority_are_contested_both() -> None:
    history = History()
    one = history.say("Main St 1", uri="a", valid_from=day(0))
    two = history.say("Oak Ave 2", uri="b", valid_from=day(0))
    assert statuses(history, one, two) == [CONTESTED, CONTESTED] and values(history) == []


def test_a_source_may_correct_what_it_said_of_the_same_moment() -> None:
    history = History()
    one = history.say("Main St 1", digest="sha256:1", valid_from=day(0))
    two = history.say("Main St 11", digest="sha256:2", valid_from=day(0))
    assert statuses(history, one, two) == [SUPERSEDED, CURRENT]


def test_one_document_that_says_two_things_of_one_moment_is_contested() -> None:
    history = History()
    one = history.say("Main St 1", digest="sha256:1", valid_from=day(0))
    two = history.say("Main St 11", digest="sha256:1", valid_from=day(0))
    assert statuses(history, one, two) == [CONTESTED, CONTESTED]


def test_a_second_canonical_source_is_contested_however_often_the_first_changes() -> None:
    history = History()
    first = history.say("Main St 1", uri="erp:7", authority=3)
    rival = history.say("Oak Ave 2", uri="crm:7", authority=3)
    second = history.say("Main St 3", uri="erp:7", authority=3)
    again = history.say("Oak Ave 4", uri="crm:7", authority=3)
    assert statuses(history, first, rival, second, again) == [SUPERSEDED, SUPERSEDED, CURRENT, CONTESTED]


def test_the_source_of_a_canonical_fact_cannot_retire_it_with_a_guess() -> None:
    history = History()
    canonical = history.say("Main St 1", uri="erp:7", authority=3)
    guess = history.say("Oak Ave 2", uri="erp:7", authority=0)
    assert statuses(history, canonical, guess) == [CURRENT, CONTESTED]


def test_a_person_chooses_a_contested_fact_over_a_canonical_one() -> None:
    history = History()
    canonical = history.say("Main St 1", uri="erp:7", authority=3)
    claimed = history.say("Oak Ave 2", uri="mail:9")
    history.resolve(claimed)
    assert statuses(history, canonical, claimed) == [SUPERSEDED, CURRENT]


def test_what_a_person_decided_against_does_not_come_back_by_being_said_again() -> None:
    history = History()
    wrong = history.say("Main St 1", uri="erp:7", authority=3)
    right = history.say("Oak Ave 2", uri="mail:9")
    history.resolve(right)
    again = history.say("Main St 1", uri="erp:7", authority=3)
    dated = history.say("Main St 1", uri="erp:7", authority=3, valid_from=day(5))
    assert again == dated == wrong and values(history) == [b'"Oak Ave 2"']


def test_the_canonical_source_may_say_something_new_after_a_choice_against_it() -> None:
    history = History()
    history.say("Main St 1", uri="erp:7", authority=3)
    history.resolve(history.say("Oak Ave 2", uri="mail:9"))
    moved = history.say("Elm Rd 3", uri="erp:7", authority=3)
    assert statuses(history, moved) == [CURRENT]
    other = history.say("Fir Rd 4", uri="crm:7", authority=3)
    assert statuses(history, moved, other) == [CURRENT, CONTESTED]


def test_a_choice_of_none_leaves_nothing() -> None:
    history = History()
    history.say("Main St 1", uri="a", valid_from=day(0))
    history.say("Oak Ave 2", uri="b", valid_from=day(0))
    history.resolve("")
    assert values(history) == []


def test_what_a_wrong_fact_displaced_stands_again_when_it_is_retracted() -> None:
    history = History()
    right = history.say("Main St 1", uri="crm:7")
    wrong = history.say("Oak Ave 2", uri="poison:1")
    history.retract(wrong)
    assert statuses(history, right, wrong) == [CURRENT, RETRACTED]


def test_what_was_retracted_does_not_come_back_by_being_said_again() -> None:
    history = History()
    wrong = history.say("Oak Ave 2", uri="mail:9", by="reader")
    history.retract(wrong, by="anna")
    again = history.say("Oak Ave 2", uri="mail:9", by="reader")
    assert again != wrong and statuses(history, again) == [CONTESTED]
    history.resolve(again)
    assert statuses(history, again) == [CURRENT]


def test_who_retracted_a_fact_may_say_it_again() -> None:
    history = History()
    history.retract(history.say("Oak Ave 2", by="reader"), by="reader")
    assert statuses(history, history.say("Oak Ave 2", by="reader")) == [CURRENT]


def test_saying_what_stands_makes_no_new_fact() -> None:
    history = History()
    first = history.say("Main St 1")
    assert history.say("Main St 1") == first and len(history.held) == 1
    history.say("Oak Ave 2")
    assert history.say("Main St 1") != first  # it has moved back


def test_two_sources_that_agree_stand_both_and_are_answered_once() -> None:
    history = History()
    weak = history.say("Main St 1", uri="mail:9", authority=0)
    strong = history.say("Main St 1", uri="erp:7", authority=3)
    assert statuses(history, weak, strong) == [CURRENT, CURRENT]
    assert [one.fact.id for one in once(standing(history.held, history.now))] == [strong]


def test_many_values_live_side_by_side() -> None:
    history = History()
    tea = history.say("tea", cardinality=Cardinality.MANY)
    rum = history.say("rum", cardinality=Cardinality.MANY)
    assert history.say("tea", cardinality=Cardinality.MANY) == tea
    assert statuses(history, tea, rum) == [CURRENT, CURRENT]


def test_one_or_many_is_settled_by_the_first() -> None:
    history = History()
    history.say("tea", cardinality=Cardinality.MANY)
    with pytest.raises(TerminalError, match=r"has many value\(s\) at a time"):
        history.say("rum")


def test_facts_of_times_that_do_not_meet_never_conflict() -> None:
    history = History()
    winter = history.say("Lodge", uri="a", valid_from=day(0), valid_to=day(50), authority=3)
    summer = history.say("Beach", uri="b", valid_from=day(50), valid_to=day(90))
    judged = [judge_at_its_time(history.held, one, day(60)).status for one in history.held]
    assert judged == [SUPERSEDED, CURRENT]  # winter is over, for no other reason
    assert statuses(history, winter, at=49) == [CURRENT] and statuses(history, summer, at=50) == [CURRENT]


def test_an_expected_version_that_does_not_stand_is_refused() -> None:
    history = History()
    history.say("Main St 1", expected=0)
    with pytest.raises(TerminalError, match="stands at version 1, not at 0"):
        history.say("Oak Ave 2", expected=0)
    history.say("Oak Ave 2", expected=1)
