"""How the answers of models become a request: step by step, each held against what was shown."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.planner.reading import Ask, Asked, Await, Classified, HandOver, Move, agreed_form, read_text
from mesh.inference import ModelRole
from mesh.records import Understood
from tests.agents.planner.answers import asked, exchange, prompts

BACK = {"intent": "shop.back.requested", "thing": "A-1"}
READ = {"things": ["A-1", "A-2"]}


def after(*, plans: bool = True, **answers: Any) -> Move:
    return read_text(prompts(plans=plans), lambda _: {"user": "u1"}, exchange(**answers))


def asks(move: Move) -> list[tuple[str, str, int]]:
    assert isinstance(move, tuple)
    assert all(isinstance(ask, Ask) for ask in move)
    return [(ask.role, ask.name, ask.sample) for ask in move]


def test_first_the_text_is_classified_and_then_read_as_often_as_its_risk_asks() -> None:
    assert asks(after()) == [(ModelRole.CLASSIFY, "classify", 0)]
    assert after(classify=asked("classify")) == Await()
    readings = [("extract", "extract", 0), ("extract", "extract-2", 1), ("extract", "extract-3", 2)]
    assert asks(after(classify=BACK)) == readings


def test_as_many_readings_as_must_agree_are_enough() -> None:
    found = after(classify=BACK, extract=READ, extract_2=asked("extract-2"), extract_3=READ)
    assert isinstance(found, Understood)
    assert found.event_type == "shop.back.requested"
    assert msgspec.json.decode(found.data) == {"things": ["A-1", "A-2"], "user": "u1"}


def test_fewer_wait_for_the_others_and_then_a_person_reads_it_with_all_readings_side_by_side() -> None:
    other = {"things": ["A-1"]}
    third = {"things": ["A-2"]}
    assert after(classify=BACK, extract=READ, extract_2=other, extract_3=asked("extract-3")) == Await()
    found = after(classify=BACK, extract=READ, extract_2=other, extract_3=third)
    assert isinstance(found, HandOver)
    assert found.reason == "models read the text differently"
    assert [label for label, _ in found.readings] == [
        "extract (m-extract)",
        "extract-2 (m-extract-2)",
        "extract-3 (m-extract-3)",
    ]


def test_a_model_has_no_say_in_what_the_event_tells() -> None:
    lying = {**READ, "user": "somebody-else"}
    move = after(classify=BACK, extract=lying, extract_2=READ, extract_3=asked("extract-3"))
    assert asks(move) == [("extract", "extract~2", 0)]


WRONG: list[tuple[str, Any, str]] = [
    ("made up", {"things": ["A-9"]}, "/things/0: 'A-9' occurs nowhere in what was shown"),
    ("a part of an id", {"things": ["A"]}, "occurs nowhere"),
    ("a made-up number", {"things": ["A-1"], "sizes": [13]}, "/sizes/0: 13 occurs nowhere"),
    ("an unknown field", {"things": ["A-1"], "run": "rm"}, "run: no such field"),
    ("another type", {"things": "A-1"}, "Expected `array`"),
    ("no object", ["A-1"], "Expected `object`"),
    ("nothing", {}, "missing required field `things`"),
]


@pytest.mark.parametrize(("_", "answer", "why"), WRONG, ids=[name for name, *_ in WRONG])
def test_a_wrong_answer_is_asked_for_once_more_with_the_mistake(_: str, answer: Any, why: str) -> None:
    move = after(classify=BACK, extract=answer, extract_2=asked("extract-2"), extract_3=asked("extract-3"))
    assert isinstance(move, tuple)
    [ask] = move
    assert (ask.name, ask.sample) == ("extract~2", 0)
    assert why in ask.mistake


@pytest.mark.parametrize(("_", "answer", "why"), WRONG, ids=[name for name, *_ in WRONG])
def test_wrong_twice_it_counts_as_no_reading(_: str, answer: Any, why: str) -> None:
    wrong: dict[str, Asked] = {
        name: asked(name, answer) for first in ("extract", "extract-2", "extract-3") for name in (first, f"{first}~2")
    }
    found = read_text(prompts(), lambda _: {"user": "u1"}, {**exchange(classify=BACK), **wrong})
    assert isinstance(found, HandOver)
    assert "wrong twice" in found.reason
    assert why in found.reason


@pytest.mark.parametrize(
    "raw", [b'{"things": ["A-1"', b"\xff\xfe", b"[" * 5000, b'{"things": ["' + b"A" * 40_000 + b'"]}']
)
def test_what_is_no_answer_at_all_is_asked_for_again(raw: bytes) -> None:
    broken = asked("extract", raw=raw)
    move = after(classify=BACK, extract=broken, extract_2=asked("extract-2"), extract_3=asked("extract-3"))
    assert asks(move) == [("extract", "extract~2", 0)]


def test_a_mistake_that_is_told_is_no_source_for_the_next_answer() -> None:
    again = asked("extract~2", {"things": ["A-9"]}, shown={"mistake": "'A-9' occurs nowhere"})
    move = after(classify=BACK, extract={"things": ["A-9"]}, extract__2=again, extract_2=READ, extract_3=READ)
    assert isinstance(move, Understood)  # of the other two
    move = after(classify=BACK, extract={"things": ["A-9"]}, extract__2=again, extract_2=READ, extract_3=asked("x"))
    assert move == Await()


def test_what_records_show_is_a_source() -> None:
    shown = {"records": {"order": {"items": [{"id": "B-7"}]}}}
    read = asked("extract", {"things": ["B-7"]}, shown=shown)
    found = after(classify=BACK, extract=read, extract_2=asked("extract-2", {"things": ["B-7"]}, shown=shown))
    assert isinstance(found, Understood)


def test_what_the_text_does_not_tell_goes_to_a_person() -> None:
    missing = {"things": [], "missing": "which of the two"}
    found = after(classify=BACK, extract=missing, extract_2=missing, extract_3=READ)
    assert isinstance(found, HandOver)
    assert found.reason == "the text is not enough: which of the two"
    assert len(found.readings) == 1


def test_models_that_cannot_be_had_leave_it_to_a_person() -> None:
    away = asked("x", failed="overloaded")
    found = after(classify=BACK, extract=away, extract_2=away, extract_3=away)
    assert isinstance(found, HandOver)
    assert found.reason == "the text is not enough: overloaded"
    found = after(classify=away)
    assert isinstance(found, HandOver)
    assert found.reason == "the text could not be classified: overloaded"


def test_what_no_playbook_is_for_is_planned_by_a_model_or_read_by_a_person() -> None:
    other = {"intent": "other", "thing": "", "note": "asks for a catalogue"}
    found = after(classify=other)
    assert isinstance(found, Classified)
    without = after(plans=False, classify=other)
    assert isinstance(without, HandOver)
    assert without.reason == "no playbook is for this request: asks for a catalogue"


def test_a_text_that_cannot_be_told_is_read_by_a_person() -> None:
    found = after(classify={"intent": "unclear", "thing": ""})
    assert isinstance(found, HandOver)


@pytest.mark.parametrize("answer", [{"intent": "shop.wipe"}, {"intent": "shop.back.requested", "thing": "A-9"}, {}, 7])
def test_classifying_is_held_to_the_same_rules(answer: Any) -> None:
    assert asks(after(classify=answer)) == [("classify", "classify~2", 0)]
    found = after(classify=answer, classify__2=answer)
    assert isinstance(found, HandOver)
    assert found.reason.startswith("the text could not be classified: its answer was wrong twice")


pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=5)


@given(pairs, st.randoms(use_true_random=False))
def test_readings_agree_in_whatever_order_they_list_what_belongs_together(rows: Any, chance: Any) -> None:
    mixed = list(rows)
    chance.shuffle(mixed)

    def form(of: Any) -> str:
        data = {"old": [a for a, _ in of], "new": [b for _, b in of], "how": "x"}
        return agreed_form(msgspec.Raw(msgspec.json.encode(data)))

    assert form(rows) == form(mixed)


@given(pairs, pairs)
def test_readings_that_pair_things_otherwise_do_not_agree(ones: Any, others: Any) -> None:
    def form(of: Any) -> str:
        return agreed_form(msgspec.Raw(msgspec.json.encode({"old": [a for a, _ in of], "new": [b for _, b in of]})))

    assert (form(ones) == form(others)) == (sorted(ones) == sorted(others))
