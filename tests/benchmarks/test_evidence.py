"""The verdict on what a cell left behind: every way to lose or repeat something is told, and nothing else."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.chaos.evidence import ONCE, Accepted, Evidence, Seen, judge, keys_of
from mesh.records import OutcomeStatus

START = datetime(2026, 1, 2, 12, tzinfo=UTC)
DONE, UNDONE = OutcomeStatus.COMPLETED, OutcomeStatus.COMPENSATED


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def records(task: str, seconds: float, status: OutcomeStatus = DONE) -> list[Seen]:
    """What a task that ended well has in the journal."""
    kinds = [Seen(kind, task, at(seconds)) for kind in ONCE]
    return [*kinds, Seen("effect", task, at(seconds)), Seen("outcome", task, at(seconds), status)]


def evidence(tasks: Sequence[Accepted]) -> Evidence:
    """Of tasks that all ended well, the nth after n seconds."""
    return Evidence(
        published=len(tasks),
        accepted=tasks,
        records=[seen for n, task in enumerate(tasks) for seen in records(task.task_id, n, task.ending)],
        applied=[key for task in tasks for key in keys_of(task)],
        letters=frozenset(task.task_id for task in tasks),
        fault_at=at(0.5),
    )


TASKS = (
    Accepted("t0", "order-1", at(0)),
    Accepted("t1", "order-1", at(0)),
    Accepted("t2", "order-2", at(0), UNDONE),
    Accepted("t3", "order-3", at(1)),
)
WELL = evidence(TASKS)


def test_where_all_is_well_nothing_is_said() -> None:
    verdict = judge(WELL)
    assert (verdict.tasks, verdict.lost, verdict.duplicates, verdict.problems) == (4, 0, 0, ())


def test_recovery_is_until_the_last_task_accepted_before_the_fault() -> None:
    assert judge(WELL).recovery_s == 1.5  # t3 ended later, and came later
    assert judge(replace(WELL, fault_at=at(10))).recovery_s == 0.0
    assert judge(replace(WELL, fault_at=None)).recovery_s is None
    assert judge(replace(WELL, confirmed=[(at(0), at(7.5))])).recovery_s == 7.0


def test_a_task_that_waits_for_a_person_is_neither_lost_nor_does_recovery_wait_for_it() -> None:
    left = [seen for seen in WELL.records if not (seen.task_id == "t2" and seen.kind in ("outcome", "lesson"))]
    verdict = judge(
        replace(WELL, records=left, applied=[k for k in WELL.applied if "t2" not in k], waiting=frozenset({"t2"}))
    )
    assert (verdict.lost, verdict.problems, verdict.recovery_s) == (0, (), 0.5)


def test_a_repeated_effect_is_a_duplicate() -> None:
    verdict = judge(replace(WELL, applied=[*WELL.applied, "wm-t1-change"]))
    assert (verdict.lost, verdict.duplicates) == (0, 1)
    assert verdict.problems == ("duplicate: effect wm-t1-change, 2 times",)


@pytest.mark.parametrize("kind", [*ONCE, "outcome"])
def test_a_record_that_is_there_twice_is_a_duplicate(kind: str) -> None:
    verdict = judge(
        replace(WELL, records=[*WELL.records, Seen(kind, "t0", at(9), DONE if kind == "outcome" else None)])
    )
    assert (verdict.lost, verdict.duplicates) == (0, 1)


def test_an_effect_of_a_later_epoch_is_no_duplicate() -> None:
    assert judge(replace(WELL, records=[*WELL.records, Seen("effect", "t0", at(9))])).duplicates == 0


def test_an_undoing_that_happened_twice_is_a_duplicate_and_one_that_did_not_is_told() -> None:
    assert judge(replace(WELL, applied=[*WELL.applied, "wm-t2-readdress~undo"])).duplicates == 1
    left = [key for key in WELL.applied if key != "wm-t2-readdress~undo"]
    assert judge(replace(WELL, applied=left)).problems == ("task t2 lacks effect wm-t2-readdress~undo",)


def test_an_acknowledged_event_that_is_not_in_the_stream_is_lost() -> None:
    verdict = judge(replace(WELL, published=5))
    assert verdict.lost == 1


@pytest.mark.parametrize("task", ["t0", "t2", "t3"])
def test_a_task_without_an_outcome_is_lost(task: str) -> None:
    left = [seen for seen in WELL.records if (seen.kind, seen.task_id) != ("outcome", task)]
    assert judge(replace(WELL, records=left)).lost == 1


def test_a_completed_task_without_its_change_or_its_letter_is_lost() -> None:
    assert judge(replace(WELL, applied=[key for key in WELL.applied if "t3" not in key])).lost == 1
    assert judge(replace(WELL, letters=frozenset({"t0", "t1", "t2"}))).lost == 1


def test_facts_are_there_once() -> None:
    assert judge(replace(WELL, facts={"a": 1, "b": 0})).lost == 1
    assert judge(replace(WELL, facts={"a": 3})).duplicates == 2


def test_what_ended_otherwise_or_was_set_aside_or_nobody_asked_for_is_told() -> None:
    failed = [replace(seen, status=OutcomeStatus.FAILED) if seen.kind == "outcome" else seen for seen in WELL.records]
    assert len(judge(replace(WELL, records=failed)).problems) == 4
    assert judge(replace(WELL, quarantined=["planner: dead_letter"])).problems == ("quarantined: planner: dead_letter",)
    assert judge(replace(WELL, applied=[*WELL.applied, "wm-t9-change"])).problems
    assert judge(replace(WELL, records=[seen for seen in WELL.records if seen.kind != "lesson"])).problems


def test_tasks_of_one_order_that_acted_in_another_order_are_told() -> None:
    turned = ["wm-t1-change", "wm-t0-change", *WELL.applied[2:]]
    (problem,) = judge(replace(WELL, applied=turned)).problems
    assert problem == "order: task t1 acted before t0, whose event came first"


@given(st.data())
def test_however_the_evidence_is_doctored_it_is_told(data: st.DataObject) -> None:
    tasks = [Accepted(f"t{n}", f"o{n % 3}", at(0), data.draw(st.sampled_from([DONE, UNDONE]))) for n in range(6)]
    well = evidence(tasks)
    assert judge(well).problems == ()
    key = data.draw(st.sampled_from(well.applied))
    times = data.draw(st.integers(1, 5))
    assert judge(replace(well, applied=[*well.applied, *[key] * times])).duplicates == times
    assert judge(replace(well, applied=[each for each in well.applied if each != key])).problems
