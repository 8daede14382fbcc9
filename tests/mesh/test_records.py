"""Records: written once, read by every later version, and held against each other by what they say."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh import journal, records, subjects
from mesh.records import AnyRecord
from tests.mesh.samples import AT, effect, header, lesson, one_of_each, plan, result

each_kind = pytest.mark.parametrize("record", one_of_each(), ids=lambda record: record.kind)


def changed(record: AnyRecord, **changes: Any) -> AnyRecord:
    """The record with other fields in its header."""
    head = msgspec.structs.replace(record.header, **changes)
    return msgspec.structs.replace(record, header=head)


@each_kind
def test_every_kind_comes_back_as_it_was(record: AnyRecord) -> None:
    assert records.decode(records.encode(record)) == record


def test_every_kind_that_has_a_subject_has_a_record() -> None:
    assert [record.kind for record in one_of_each()] == list(subjects.KINDS)


@given(st.text(), st.text(), st.floats(allow_nan=False, allow_infinity=False))
def test_any_text_comes_back_as_it_was(rationale: str, writer: str, ms: float) -> None:
    made = msgspec.structs.replace(plan(rationale=rationale), header=header(writer=writer))
    assert records.decode(records.encode(made)) == made
    timed = msgspec.structs.replace(result(), duration_ms=ms)
    assert records.decode(records.encode(timed)) == timed


@each_kind
def test_a_field_that_a_later_version_added_is_passed_over(record: AnyRecord) -> None:
    plain = msgspec.json.decode(records.encode(record))
    plain["added_later"] = {"x": 1}
    plain["header"]["added_later"] = True
    assert records.decode(msgspec.json.encode(plain)) == record


@each_kind
def test_a_record_of_an_older_version_reads_with_defaults(record: AnyRecord) -> None:
    plain = msgspec.json.decode(records.encode(record))
    for field in msgspec.structs.fields(type(record)):
        if not field.required:
            del plain[field.encode_name]
    del plain["header"]["traceparent"], plain["header"]["v"]
    read = records.decode(msgspec.json.encode(plain))
    assert type(read) is type(record) and read.header.v == records.SCHEMA_VERSION


@each_kind
def test_a_newer_schema_is_refused_with_what_to_do(record: AnyRecord) -> None:
    with pytest.raises(ValueError, match="newer than 1: upgrade this process first"):
        records.decode(records.encode(changed(record, v=2)))


@given(st.binary() | st.from_regex(rb'\{"kind":"(plan|effect|odd)".*\}', fullmatch=True))
def test_bytes_that_are_no_record_only_ever_raise_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        records.decode(data)


@each_kind
def test_the_writer_the_time_and_the_trace_do_not_change_what_is_meant(record: AnyRecord) -> None:
    other = changed(record, writer="another/two", at=AT + timedelta(seconds=1), traceparent="")
    assert journal.same_intent(record, other)


@each_kind
def test_anything_else_changes_what_is_meant(record: AnyRecord) -> None:
    assert not journal.same_intent(record, changed(record, task_id="t2"))
    assert not journal.same_intent(record, changed(record, domain="bank"))
    cause = msgspec.structs.replace(record.header.causation, seq=8)
    assert not journal.same_intent(record, changed(record, causation=cause))


def test_another_content_or_kind_is_another_intent() -> None:
    assert not journal.same_intent(plan(), plan(rationale="else"))
    assert not journal.same_intent(effect(), effect(executor="executor/two"))
    assert not journal.same_intent(lesson(), lesson(status="failed"))
    assert not journal.same_intent(effect(), result())


def test_records_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        plan().rationale = "else"  # type: ignore[misc]
