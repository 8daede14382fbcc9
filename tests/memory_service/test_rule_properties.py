"""What holds of every history of a slot, whatever was said and done in it."""

import random
from collections.abc import Sequence
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_service.rules import Held, covers, judge, standing, value_of
from mesh.facts import CANONICAL, FactStatus
from tests.memory_service.claims import History, day

VALUES = ("a", "b", "c")
SOURCES = ("erp:7", "crm:7", "mail:9", "note:1")


def random_history(seed: int) -> History:
    """Up to seven claims and acts, drawn from this seed."""
    draw = random.Random(seed)
    history = History()
    for _ in range(draw.randint(2, 7)):
        move = draw.random()
        living = [one.fact.id for one in history.held if one.retracted is None]
        if move < 0.82 or not living:
            start = draw.choice((None, None, day(draw.randint(0, 4))))
            end = day(draw.randint(5, 12)) if draw.random() < 0.2 else None
            history.say(
                draw.choice(VALUES),
                uri=draw.choice(SOURCES),
                authority=draw.randint(0, CANONICAL),
                digest=draw.choice(("", "1", "2")),
                by=draw.choice(("agent", "reader")),
                valid_from=start,
                valid_to=end,
            ) if end is None or (start or history.now) < end else None
        elif move < 0.92:
            history.retract(draw.choice(living), by=draw.choice(("agent", "anna")))
        else:
            history.resolve(draw.choice([*living, ""]))
    return history


def counting_canonical(held: Sequence[Held], at: datetime) -> list[Held]:
    """The canonical facts that hold at this moment and that nobody spoke against."""
    return [
        one
        for one in held
        if covers(one.fact, at)
        and one.fact.source.authority == CANONICAL
        and not (one.retracted or one.settled or one.undermined)
        and not said_again(one, held)
    ]


def said_again(one: Held, held: Sequence[Held]) -> bool:
    return one.chosen is None and any(
        other.retracted is not None
        and other.retracted.seq < one.seq
        and other.retracted.by != one.fact.asserted_by
        and (other.fact.source.uri, value_of(other.fact)) == (one.fact.source.uri, value_of(one.fact))
        for other in held
    )


def overrides(history: History, at: datetime) -> list[Held]:
    """The facts that stand against a canonical one, without a person having chosen them."""
    canonical = counting_canonical(history.held, at)
    if not canonical:
        return []
    said = {value_of(one.fact) for one in canonical}
    chosen = {
        value_of(one.fact) for one in history.held if one.chosen is not None and one.chosen.authority == CANONICAL
    }
    return [one for one in standing(history.held, at) if value_of(one.fact) not in said | chosen]


@pytest.mark.timeout(300)
def test_nothing_overrides_a_canonical_source_in_a_hundred_thousand_histories() -> None:
    wrong, with_canonical = [], 0
    for seed in range(100_000):
        history = random_history(seed)
        for at in (history.now if seed % 2 else day(4),):
            with_canonical += bool(counting_canonical(history.held, at))
            if overrides(history, at):
                wrong.append(seed)
    assert with_canonical > 25_000
    assert not wrong


def test_the_check_of_overrides_finds_one() -> None:
    history = History()
    history.say("a", uri="erp:7", authority=CANONICAL)
    history.say("b", uri="mail:9", authority=1)
    broken = History()
    broken.seq = history.seq
    broken.held = [history.held[1]]  # as if the canonical fact had been lost on the way to the judge
    assert not overrides(history, history.now)
    assert standing(broken.held, broken.now) and value_of(standing(broken.held, broken.now)[0].fact) == b'text "b"'


@given(st.integers(0, 2**32))
def test_of_one_value_at_a_time_there_is_one_value(seed: int) -> None:
    history = random_history(seed)
    for at in (history.now, day(2), day(30)):
        assert len({value_of(one.fact) for one in standing(history.held, at)}) <= 1


@given(st.integers(0, 2**32))
def test_without_acts_of_people_the_last_word_of_the_only_canonical_source_stands(seed: int) -> None:
    draw, history = random.Random(seed), History()
    last = ""
    for _ in range(draw.randint(1, 9)):
        if draw.random() < 0.4:
            last = history.say(draw.choice(VALUES), uri="erp:7", authority=CANONICAL)
        else:
            history.say(draw.choice(VALUES), uri=draw.choice(SOURCES[1:]), authority=draw.randint(0, 2))
    if last:
        assert last in {one.fact.id for one in standing(history.held, history.now)}


@given(st.integers(0, 2**32), st.integers(0, 40))
def test_every_fact_that_holds_then_is_judged_and_what_is_retracted_never_stands(seed: int, number: int) -> None:
    history, at = random_history(seed), day(number)
    judged = judge(history.held, at)
    assert judged.keys() == {one.fact.id for one in history.held if covers(one.fact, at)}
    for one in history.held:
        if one.retracted is not None and one.fact.id in judged:
            assert judged[one.fact.id].status is FactStatus.RETRACTED


@given(st.integers(0, 2**32))
def test_the_order_in_which_facts_are_looked_at_does_not_matter(seed: int) -> None:
    history = random_history(seed)
    shuffled = list(history.held)
    random.Random(seed).shuffle(shuffled)
    statuses = [
        {key: said.status for key, said in judge(held, history.now).items()} for held in (history.held, shuffled)
    ]
    assert statuses[0] == statuses[1]


@given(st.integers(0, 2**32))
def test_a_claim_that_is_refused_its_place_takes_no_other_fact_with_it(seed: int) -> None:
    """A contradicting fact never deletes the old one without standing itself, or being contested with it."""
    history = random_history(seed)
    before = {one.fact.id for one in standing(history.held, day(40))}
    new = history.say("d", uri="late:1", authority=random.Random(seed).randint(0, 2), valid_from=day(39))
    after = judge(history.held, day(40))
    lost = {fact_id for fact_id in before if after[fact_id].status is FactStatus.SUPERSEDED}
    assert not lost or after[new].status is FactStatus.CURRENT
    contested = {fact_id for fact_id in before if after[fact_id].status is FactStatus.CONTESTED}
    assert not contested or after[new].status is FactStatus.CONTESTED


@given(st.integers(0, 2**32))
def test_retracting_what_was_said_last_gives_back_what_stood_before(seed: int) -> None:
    history = random_history(seed)
    before = {one.fact.id for one in standing(history.held, day(40))}
    new = history.say("d", uri="late:1", authority=random.Random(seed).randint(0, CANONICAL), valid_from=day(39))
    history.retract(new)
    assert {one.fact.id for one in standing(history.held, day(40))} == before
