"""The cache of answers against a model: it never has an answer older than a change that it heard, nor too many."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.answers import ANY, Answers, tokens_of
from mesh.facts import Level, RecalledFact, Scope, Slot, subject_token
from mesh.memory import Question
from mesh.subjects import memory_changed

AT = datetime(2026, 1, 1, tzinfo=UTC)
SCOPES = (Scope(domain="a"), Scope(level=Level.SESSION, domain="a", session="s"))
SUBJECTS = ("x", "x/y", "z")
PREDICATES = ("p", "q")
QUESTIONS = [
    Question(scope=scope, subject=subject, predicate=predicate, query=query)
    for scope in SCOPES
    for subject, predicate, query in [
        ("x", "p", ""),
        ("x", "q", ""),
        ("x", "", ""),
        ("x/y", "p", ""),
        ("z", "", ""),
        ("x/", "", ""),
        ("", "p", ""),
        ("", "", "words"),
        ("x", "p", "words"),
    ]
]


def fact(text: str, seq: int = 1) -> RecalledFact:
    return RecalledFact(id=f"f{seq}", version=seq, scope="", subject="", predicate="", text=text, source="")


def put(answers: Answers, question: Question, text: str = "", seq: int = 1, connection: int = 1) -> bool:
    return answers.keep(question, (fact(text, seq),), seq, at=AT, clock_s=0.0, connection=connection)


def change(answers: Answers, scope: Scope, subject: str, predicate: str, seq: int) -> int:
    """As memory tells it; an empty name is all of them."""
    tokens = Slot(scope=scope, subject=subject, predicate=predicate).tokens
    return answers.changed(tokens[0], tokens[1] if subject else ANY, tokens[2] if predicate else ANY, seq)


def concerns(question: Question, scope: Scope, subject: str, predicate: str) -> bool:
    """Whether a change of this slot may be one of the answer: by names, knowing nothing of tokens or topics."""
    if question.scope != scope:
        return False
    if question.query or not question.subject or question.subject.endswith("/"):
        return True
    return subject in ("", question.subject) and (not question.predicate or predicate in ("", question.predicate))


@dataclass
class Model:
    """What was heard, in full."""

    heard: list[tuple[Scope, str, str, int]] = field(default_factory=list)

    def reach(self, question: Question) -> int:
        return max((told[3] for told in self.heard if concerns(question, *told[:3])), default=0)


CHANGES = st.tuples(
    st.just("change"),
    st.sampled_from(SCOPES),
    st.sampled_from((*SUBJECTS, "")),
    st.sampled_from((*PREDICATES, "")),
    st.integers(1, 30),
)
PUTS = st.tuples(st.just("put"), st.sampled_from(QUESTIONS), st.integers(0, 30), st.integers(0, 300), st.integers(1, 3))
OTHERS = st.one_of(
    st.tuples(st.just("find"), st.sampled_from(QUESTIONS)),
    st.tuples(st.just("drop"), st.sampled_from(QUESTIONS)),
    st.tuples(st.just("age"), st.integers(0, 100)),
)


@settings(max_examples=400)
@given(st.lists(st.one_of(CHANGES, PUTS, PUTS, OTHERS), max_size=60))
def test_an_answer_is_never_older_than_a_change_heard_and_they_are_never_too_many(steps: list[tuple]) -> None:  # type: ignore[type-arg]
    answers, model = Answers(max_answers=5, max_bytes=2500), Model()
    for number, step in enumerate(steps):
        match step:
            case "change", scope, subject, predicate, seq:
                change(answers, scope, subject, predicate, seq)
                model.heard.append((scope, subject, predicate, seq))
            case "put", question, seq, size, connection:
                before = answers.connection
                facts = (fact("t" * size, seq),)
                taken = answers.keep(question, facts, seq, at=AT, clock_s=float(number), connection=connection)
                assert not taken or (seq >= model.reach(question) and connection >= before)
                if seq >= model.reach(question) and connection >= before:
                    assert taken  # what may be kept is kept: a cache that keeps nothing is none
            case "find", question:
                answers.find(question)
            case "drop", question:
                answers.drop(question)
                assert answers.find(question) is None
            case "age", clock_s:
                answers.drop_before(float(clock_s))
        found = {question: kept for question in QUESTIONS if (kept := answers.find(question)) is not None}
        assert len(found) == len(answers) <= 5
        assert sum(kept.size for kept in found.values()) == answers.bytes <= 2500
        for question, kept in found.items():
            assert kept.seq >= model.reach(question)
            assert answers.reach(question) == model.reach(question)
        if step[0] == "change":
            assert not [question for question in found if concerns(question, *step[1:4])]
        if step[0] == "age":
            assert all(kept.clock_s >= step[1] for kept in found.values())


def test_the_least_recently_used_goes_first() -> None:
    answers = Answers(max_answers=2, max_bytes=10_000)
    first, second, third = QUESTIONS[:3]
    put(answers, first)
    put(answers, second)
    answers.find(first)
    put(answers, third)
    assert [answers.find(each) is not None for each in (first, second, third)] == [True, False, True]


def test_an_answer_larger_than_all_room_is_not_kept_and_pushes_nothing_out() -> None:
    answers = Answers(max_answers=9, max_bytes=2000)
    assert put(answers, QUESTIONS[0])
    assert not put(answers, QUESTIONS[1], "t" * 2000)
    assert len(answers) == 1


def test_what_was_kept_under_another_connection_is_dropped_by_the_first_answer_of_the_new_one() -> None:
    answers = Answers(max_answers=9, max_bytes=10_000)
    put(answers, QUESTIONS[0], connection=1)
    put(answers, QUESTIONS[1], connection=2)
    assert answers.find(QUESTIONS[0]) is None
    assert not put(answers, QUESTIONS[0], connection=1)


def test_changes_of_more_topics_than_are_remembered_one_by_one_still_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.answers._HEARD_MAX", 30)
    answers = Answers(max_answers=9, max_bytes=10_000)
    change(answers, SCOPES[0], "x", "p", 7)
    for number in range(40):
        change(answers, SCOPES[0], f"other-{number}", "p", 8 + number)
    assert answers.reach(QUESTIONS[0]) >= 7
    assert not put(answers, QUESTIONS[0], seq=6)
    assert put(answers, QUESTIONS[0], seq=47)


def test_the_subject_of_a_change_names_its_slot() -> None:
    slot = Slot(scope=SCOPES[0], subject="customer/omar", predicate="tier")
    assert tokens_of(memory_changed(*slot.tokens)) == slot.tokens
    assert slot.tokens[1] == subject_token(slot.scope, slot.subject)
    assert tokens_of("memory.changed.one") is None


def test_questions_are_told_apart_by_every_field() -> None:
    one = Question(scope=SCOPES[0], subject="x")
    others = [
        msgspec.structs.replace(one, limit=3),
        msgspec.structs.replace(one, min_authority=2),
        msgspec.structs.replace(one, known_at=AT),
        msgspec.structs.replace(one, token_budget=9),
    ]
    answers = Answers(max_answers=9, max_bytes=10_000)
    put(answers, one)
    assert [answers.find(each) for each in others] == [None] * 4
