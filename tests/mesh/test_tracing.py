"""Trace context: one task is one trace, and a redelivery writes the same identifiers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh import tracing
from tests.mesh.samples import TRACE


@given(st.text(), st.lists(st.text(), min_size=1, max_size=3))
def test_every_identifier_made_is_valid_and_made_the_same_again(task_id: str, of: list[str]) -> None:
    root = tracing.root(task_id)
    child = tracing.child(root, *of)
    assert tracing.is_valid(root) and tracing.is_valid(child)
    assert (root, child) == (tracing.root(task_id), tracing.child(root, *of))


def test_a_publishers_trace_goes_on_under_a_span_of_the_task() -> None:
    root = tracing.root("t1", TRACE)
    assert root.split("-")[1] == TRACE.split("-")[1]
    assert root.split("-")[2] != TRACE.split("-")[2]


def test_a_publishers_trace_that_is_invalid_is_not_taken_over() -> None:
    assert tracing.root("t1", "00-zz-yy-01") == tracing.root("t1")


def test_children_share_the_trace_and_differ_by_what_they_are_of() -> None:
    root = tracing.root("t1")
    plan, effect, other = (
        tracing.child(root, "plan"),
        tracing.child(root, "effect", "s1"),
        tracing.child(root, "effects1"),
    )
    assert len({root, plan, effect, other}) == 4
    assert {line.split("-")[1] for line in (root, plan, effect, other)} == {root.split("-")[1]}


def test_the_same_step_under_another_parent_is_another_span() -> None:
    root = tracing.root("t1")
    one, other = tracing.child(root, "plan"), tracing.child(root, "decision")
    assert tracing.child(one, "effect") != tracing.child(other, "effect")


def test_nothing_hangs_under_an_invalid_parent() -> None:
    assert tracing.child("", "plan") == ""


@pytest.mark.parametrize(
    "bad",
    [
        "",
        TRACE[:-1],
        TRACE.upper(),
        "01" + TRACE[2:],
        TRACE + "\n",
        TRACE.replace("ab", "00"),
        TRACE.replace("cd", "00"),
    ],
)
def test_what_is_not_a_version_00_traceparent_is_invalid(bad: str) -> None:
    assert tracing.is_valid(TRACE) and not tracing.is_valid(bad)
