"""A waiting task as a person must see it: exactly what would be executed, with the facts and policies behind it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from mesh.approvals import Shown, ShownStep, Waiting
from mesh.errors import TerminalError
from mesh.journal import Stored
from mesh.records import (
    EMPTY_OBJECT,
    Approval,
    Context,
    Decision,
    Outcome,
    Phase,
    Plan,
    Purpose,
    Result,
    ResultStatus,
    Verdict,
    Word,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Case:
    """A task's records, as far as a person's word needs them."""

    items: Sequence[Stored]
    context: Context
    plan: Plan
    decision: Decision
    decision_item: Stored

    @classmethod
    def of(cls, task_id: str, items: Sequence[Stored]) -> "Case":
        """Raises ``TerminalError`` when there is no such task, or it has no decision yet."""
        decisions = [item for item in items if isinstance(item.record, Decision)]
        if not decisions:
            raise TerminalError(f"no task {task_id} with a decision: see `workmesh tasks`")
        decision = decisions[0].record
        assert isinstance(decision, Decision)
        return cls(items, _one(items, Context), _one(items, Plan), decision, decisions[0])

    @property
    def waits(self) -> bool:
        """Whether the plan waits for approval."""
        ended = any(isinstance(item.record, Outcome) for item in self.items)
        second = any(isinstance(item.record, Decision) and item.record.phase is Phase.EXECUTE for item in self.items)
        return self.decision.verdict is Verdict.NEEDS_APPROVAL and not ended and not second

    def require_unchanged(self) -> None:
        """Raises ``TerminalError`` when the plan is not the one that was decided on: a change voids every approval."""
        if self.plan.digest != self.decision.plan_digest:
            raise TerminalError(
                f"the plan of task {self.plan.header.task_id} was changed after the decision on it: "
                f"{self.decision.plan_digest} was decided on, {self.plan.digest} stands there"
            )

    def roles(self) -> tuple[str, ...]:
        """The roles that must approve."""
        return tuple(sorted({role for step in self.decision.steps for role in step.roles}))

    def approvals(self) -> list[Approval]:
        """Approvals of this very plan so far."""
        found = [item.record for item in self.items if isinstance(item.record, Approval)]
        return [
            approval
            for approval in found
            if approval.statement.purpose is Purpose.PLAN
            and approval.statement.word is Word.APPROVE
            and approval.statement.plan_digest == self.plan.digest
        ]

    def doubt(self, step: str) -> Stored | None:
        """The result that says that this step's effect is in doubt, while no person has said a word on it.

        It stands by the results alone, as the list of what waits does: an executor that was taken for dead can still
        withdraw its effect, but it takes a word to have the task carried on.
        """
        last = next((item for item in reversed(self.items) if _is_result(item, step)), None)
        if last is None or not isinstance(last.record, Result) or last.record.status is not ResultStatus.IN_DOUBT:
            return None
        word = self.word_on(step)
        return last if word is None or word.seq < last.seq else None

    def word_on(self, step: str) -> Stored | None:
        """The last word on a doubt of this step."""
        return next((item for item in self.items if _is_word_on(item, step)), None)

    def in_doubt(self) -> str:
        """The token of the step in doubt, or an empty string."""
        steps = [item.record.step for item in self.items if isinstance(item.record, Result)]
        return next((step for step in steps if self.doubt(step) is not None), "")


def show(case: Case) -> Shown:
    """Everything a person must see; raises ``TerminalError`` when nothing of the task waits."""
    doubt = case.in_doubt()
    if not case.waits and not doubt:
        raise TerminalError(f"task {case.context.header.task_id} does not wait for a person")
    case.require_unchanged()
    decision, context = case.decision, case.context
    in_doubt = case.doubt(doubt)
    sheets = {sheet.step: sheet for sheet in decision.sheets}
    verdicts = {step.step: step for step in decision.steps}
    steps = []
    for step in case.plan.steps:
        sheet, verdict = sheets.get(step.id), verdicts.get(step.id)
        steps.append(
            ShownStep(
                id=step.id,
                call=step.call,
                effect_key=step.effect_key,
                verdict=verdict.verdict if verdict else "",
                policies=verdict.policies if verdict else (),
                roles=verdict.roles if verdict else (),
                facts=sheet.facts if sheet else EMPTY_OBJECT,
                amount=sheet.amount if sheet else 0,
                currency=sheet.currency if sheet else "",
                optional=step.optional,
                compensation=step.compensation,
                obligations=verdict.obligations if verdict else (),
            )
        )
    return Shown(
        waiting=Waiting(
            task_id=context.header.task_id,
            domain=context.header.domain,
            purpose=Purpose.IN_DOUBT if doubt else Purpose.PLAN,
            roles=case.roles(),
            since=decision.header.at,
            until=None if doubt else decision.approve_by,
            amount=sum(sheet.amount for sheet in decision.sheets),
            currency=decision.sheets[0].currency if decision.sheets else "USD",
            step=doubt,
            reason=in_doubt.record.error if in_doubt and isinstance(in_doubt.record, Result) else decision.reason,
        ),
        plan_digest=case.plan.digest,
        bundle=decision.bundle,
        playbook=case.plan.playbook,
        rationale=case.plan.rationale,
        event_type=context.event.type,
        event_id=context.event.id,
        source=context.event.source,
        entity=context.entity,
        data=context.data,
        taint=context.taint,
        steps=tuple(steps),
    )


def _is_result(item: Stored, step: str) -> bool:
    return isinstance(item.record, Result) and item.record.step == step


def _is_word_on(item: Stored, step: str) -> bool:
    if not isinstance(item.record, Approval):
        return False
    said = item.record.statement
    return said.purpose is Purpose.IN_DOUBT and said.step == step


def _one(items: Sequence[Stored], kind: type[T]) -> T:
    for item in items:
        if isinstance(item.record, kind):
            return item.record
    raise TerminalError(f"the journal has no {kind.__name__.lower()} of this task")
