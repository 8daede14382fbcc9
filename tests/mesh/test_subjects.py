"""Every name on the bus is made in one place, and a name that cannot be one is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh import streams, subjects
from mesh.records import AnyRecord
from tests.mesh.samples import one_of_each

TOKENS = st.from_regex(r"[A-Za-z0-9_\-~=]{1,64}", fullmatch=True)


def matches(flt: str, subject: str) -> bool:
    """Whether a NATS filter matches a subject."""
    wanted, given_ = flt.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted, given_ = wanted[:-1], given_[: len(wanted) - 1] if len(given_) >= len(wanted) else [""]
    return len(wanted) == len(given_) and all(w in ("*", g) for w, g in zip(wanted, given_, strict=True))


@pytest.mark.parametrize("record", one_of_each(), ids=lambda record: record.kind)
def test_the_subject_of_a_record_says_its_kind_domain_task_and_step(record: AnyRecord) -> None:
    subject = subjects.of(record)
    head, kind, domain, task_id, step = subject.split(".")
    assert (head, kind, domain, task_id) == ("task", record.kind, record.header.domain, record.header.task_id)
    assert step == record.token
    assert kind in subjects.KINDS
    assert subjects.stream_of(subject) == subjects.JOURNAL
    assert matches(subjects.whole_task(task_id), subject) and matches(subjects.kind(kind), subject)


@given(TOKENS, TOKENS, TOKENS, TOKENS)
def test_parts_can_be_read_back_from_a_subject(kind: str, domain: str, task_id: str, step: str) -> None:
    assert subjects.record(kind, domain, task_id, step).split(".") == ["task", kind, domain, task_id, step]


@pytest.mark.parametrize("bad", ["", "a.b", "*", ">", "a b", "é", "a\n", "x" * 65])
@pytest.mark.parametrize("place", range(4))
def test_a_part_that_is_not_one_token_is_refused(bad: str, place: int) -> None:
    parts = ["plan", "retail", "t1", "-"]
    parts[place] = bad
    with pytest.raises(ValueError, match="cannot be one token of a subject"):
        subjects.record(*parts)


def test_an_event_stands_under_its_type() -> None:
    assert subjects.event("retail.return.requested") == "event.retail.return.requested"
    assert subjects.domain_of("retail.return.requested") == "retail"


@pytest.mark.parametrize("bad", ["retail", "", "retail..x", "retail.*", "retail.>", "retail.x y", "retail.x\n", "é.x"])
def test_an_event_whose_type_cannot_be_a_subject_is_kept_all_the_same(bad: str) -> None:
    assert subjects.event(bad) == subjects.UNREADABLE_EVENT
    assert subjects.stream_of(subjects.UNREADABLE_EVENT) == subjects.EVENTS


def test_every_stream_holds_the_subjects_that_are_said_to_be_its_own() -> None:
    made = [
        subjects.event("retail.x"),
        "task.plan.d.t.-",
        "release.planner.i",
        subjects.quarantine("planner", "i"),
        subjects.fact("s", "f", "p"),
        "audit.x",
    ]
    for subject in made:
        stream = subjects.stream_of(subject)
        assert any(matches(flt, subject) for flt in subjects.heads(stream))
        others = set(streams.STREAM_NAMES) - {stream}
        assert not any(matches(flt, subject) for other in others for flt in subjects.heads(other))


def test_a_subject_that_no_stream_holds_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no stream holds svc\.memory\.recall"):
        subjects.stream_of(subjects.service("memory", "recall"))


def test_each_stage_also_hears_what_is_released_to_it_and_nothing_released_to_another() -> None:
    for stage in streams.STAGES:
        if stage.stream == subjects.JOURNAL:
            assert any(matches(flt, f"release.{stage.stage}.i.1") for flt in stage.filters)
        assert not any(matches(flt, "release.other.i.1") for flt in stage.filters)
