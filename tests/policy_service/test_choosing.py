"""A person chooses one of the plans that models could not agree on: as it is, decided anew, and nothing else."""

import msgspec
import pytest

from mesh.errors import TerminalError
from mesh.plans import candidate_digest, faults, plan_digest
from mesh.records import Candidate, Change, Origin, Plan, Purpose, Statement, Understood, Word
from policy_service.correcting import corrected
from tests.policy_service.plans import header, plan_of, step_of

UNDERSTOOD = Understood(event_type="till.pay.requested", data=msgspec.Raw(b"{}"))
FIRST = Candidate(label="extract", playbook="pay", playbook_digest="sha256:1", steps=(step_of("a"),), rationale="one")
SECOND = msgspec.structs.replace(FIRST, label="extract-2", steps=(step_of("b"),), understood=UNDERSTOOD)


def handed() -> Plan:
    """A plan that asks a person, with two candidates."""
    return msgspec.structs.replace(plan_of(step_of("hand-over")), candidates=(FIRST, SECOND))


def said(*changes: Change) -> Statement:
    at = header().at
    return Statement(
        task_id="t",
        plan_digest="",
        purpose=Purpose.PLAN,
        word=Word.CORRECT,
        role="clerk",
        person="ann",
        nonce="n",
        at=at,
        expires_at=at,
        changes=changes,
    )


def test_the_chosen_plan_takes_the_place_as_it_is() -> None:
    plan = corrected(handed(), said(Change(step="", choose=2, digest=candidate_digest(SECOND))), header(), {})
    assert (plan.steps, plan.playbook, plan.rationale) == (SECOND.steps, "pay", "one")
    assert (plan.understood, plan.candidates, plan.revision) == (UNDERSTOOD, (), 1)
    assert plan.digest == plan_digest("t", "till", SECOND.steps)
    assert faults(plan) == []
    assert "corrected by ann (clerk)" in plan.notes[-1]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ((Change(step="", choose=3),), "there is no candidate 3: the plan has 2"),
        ((Change(step="", choose=-1),), "there is no candidate -1"),
        ((Change(step="", choose=2, digest=candidate_digest(FIRST)),), "look again"),
        ((Change(step="", choose=2),), "look again"),
        ((Change(step="", choose=1), Change(step="a", drop=True)), "choose one candidate, and correct its steps after"),
    ],
)
def test_nothing_else_can_be_chosen(changes: tuple[Change, ...], why: str) -> None:
    with pytest.raises(TerminalError, match=why):
        corrected(handed(), said(*changes), header(), {})


def test_who_wrote_the_steps_is_not_lost_by_choosing_them() -> None:
    letter = msgspec.structs.replace(FIRST, origin=Origin.MODEL)
    plan = msgspec.structs.replace(handed(), candidates=(letter,), origin=Origin.READ)
    chosen = corrected(plan, said(Change(step="", choose=1, digest=candidate_digest(letter))), header(), {})
    assert chosen.origin is Origin.MODEL
