"""The lifecycles: every state and trigger walked."""

from enum import StrEnum
from typing import Any

import pytest

from mesh.errors import TerminalError
from mesh.lifecycle import (
    ACTION,
    APPROVAL,
    TASK,
    ActionState,
    ActionTrigger,
    ApprovalState,
    ApprovalTrigger,
    IllegalTransitionError,
    Lifecycle,
    TaskState,
    TaskTrigger,
)

LIFECYCLES: list[tuple[Lifecycle[Any, Any], type[StrEnum], type[StrEnum]]] = [
    (TASK, TaskState, TaskTrigger),
    (ACTION, ActionState, ActionTrigger),
    (APPROVAL, ApprovalState, ApprovalTrigger),
]
each = pytest.mark.parametrize(
    ("lifecycle", "states", "triggers"), LIFECYCLES, ids=lambda part: getattr(part, "name", "")
)
PAIRS = [(cycle, state, trigger) for cycle, states, triggers in LIFECYCLES for state in states for trigger in triggers]


@pytest.mark.parametrize(("lifecycle", "state", "trigger"), PAIRS, ids=lambda part: getattr(part, "name", str(part)))
def test_a_step_leads_where_the_table_says_or_is_refused_and_changes_nothing(
    lifecycle: Lifecycle[Any, Any], state: StrEnum, trigger: StrEnum
) -> None:
    before = dict(lifecycle.table)
    if (state, trigger) in before:
        assert lifecycle.step(state, trigger) is before[state, trigger]
    else:
        with pytest.raises(IllegalTransitionError, match=f"a {lifecycle.name} that is {state} cannot take {trigger}"):
            lifecycle.step(state, trigger)
    assert lifecycle.table == before


@each
def test_every_state_is_reached_and_every_trigger_used(
    lifecycle: Lifecycle[Any, Any], states: type[StrEnum], triggers: type[StrEnum]
) -> None:
    reached = {lifecycle.initial}
    while more := {target for (source, _), target in lifecycle.table.items() if source in reached} - reached:
        reached |= more
    assert reached == set(states)
    assert {trigger for _, trigger in lifecycle.table} == set(triggers)


@each
def test_from_every_state_an_end_can_be_reached(
    lifecycle: Lifecycle[Any, Any], states: type[StrEnum], triggers: type[StrEnum]
) -> None:
    ending = {state for state in states if lifecycle.is_final(state)}
    assert ending
    while more := {source for (source, _), target in lifecycle.table.items() if target in ending} - ending:
        ending |= more
    assert ending == set(states)


@each
def test_the_diagram_has_a_line_for_every_row_and_every_end(
    lifecycle: Lifecycle[Any, Any], states: type[StrEnum], triggers: type[StrEnum]
) -> None:
    lines = lifecycle.mermaid().splitlines()
    assert lines[:2] == ["stateDiagram-v2", f"    [*] --> {lifecycle.initial}"]
    rows = {f"    {source} --> {target}: {trigger}" for (source, trigger), target in lifecycle.table.items()}
    ends = {f"    {state} --> [*]" for state in states if lifecycle.is_final(state)}
    assert set(lines[2:]) == rows | ends and len(lines) == 2 + len(rows) + len(ends)


def test_a_task_that_ended_takes_nothing_more() -> None:
    finals = {state for state in TaskState if TASK.is_final(state)}
    assert finals == {
        TaskState.COMPLETED,
        TaskState.REFUSED,
        TaskState.DENIED,
        TaskState.FAILED,
        TaskState.COMPENSATED,
        TaskState.EXPIRED,
        TaskState.OBSERVED,
    }


def test_nothing_acts_without_a_permit() -> None:
    to_acting = {source for (source, _), target in TASK.table.items() if target is TaskState.ACTING}
    assert to_acting == {TaskState.PERMITTED, TaskState.ACTING, TaskState.IN_DOUBT}


def test_an_illegal_step_is_terminal() -> None:
    assert issubclass(IllegalTransitionError, TerminalError)
