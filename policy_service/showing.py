"""A waiting task as a person must see it: exactly what would be executed, with the facts and policies behind it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import msgspec

from mesh.approvals import Shown, ShownCandidate, ShownStep, Waiting
from mesh.errors import TerminalError
from mesh.journal import Stored
from mesh.plans import candidate_digest, plans_of
from mesh.records import (
    EMPTY_OBJECT,
    Approval,
    Context,
    Decision,
    FactSheet,
    Outcome,
    Phase,
    Plan,
    Purpose,
    Result,
    ResultStatus,
    StepVerdict,
    Verdict,
    Word,
)
from policy_service.deciding import agent_of
from policy_service.quorum import roles_of, stand_ins_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Case:
    """A task's records, as far as a person's word needs them: its plan as it stands, and the first decision on that."""

    items: Sequence[Stored]
    context: Context
    plan: Plan
    decision: Decision
    decision_item: Stored

    @classmethod
    def of(cls, task_id: str, items: Sequence[Stored]) -> "Case":
        """Raises ``TerminalError`` when there is no such task, or it has no decision yet."""
        found = plans_of(items)
        decisions = [item for item in items if isinstance(item.record, Decision)]
        if not decisions or not found:
            raise TerminalError(f"no task {task_id} with a decision: see `workmesh tasks`")
        plan = found[-1]
        for item in decisions:
            decision = item.record
            assert isinstance(decision, Decision)
            if decision.phase is Phase.PROPOSE and decision.revision == plan.revision:
                return cls(items, _one(items, Context), plan, decision, item)
        raise TerminalError(f"the plan of task {task_id} was corrected and is being decided on: look again in a moment")

    @property
    def waits(self) -> bool:
        """Whether the plan waits for approval."""
        ended = any(isinstance(item.record, Outcome) for item in self.items)
        second = any(
            isinstance(item.record, Decision)
            and item.record.phase is Phase.EXECUTE
            and item.record.revision == self.plan.revision
            for item in self.items
        )
        return self.decision.verdict is Verdict.NEEDS_APPROVAL and not ended and not second

    def require_unchanged(self) -> None:
        """Raises ``TerminalError`` when the plan is not the one that was decided on: a change voids every approval."""
        if self.plan.digest != self.decision.plan_digest:
            raise TerminalError(
                f"the plan of task {self.plan.header.task_id} was changed after the decision on it: "
                f"{self.decision.plan_digest} was decided on, {self.plan.digest} stands there"
            )

    @property
    def agent(self) -> str:
        """Which agent planned, whoever has corrected the plan since."""
        return agent_of(plans_of(self.items)[0])

    def roles(self) -> tuple[str, ...]:
        """The roles that must approve, ``role:2`` where two people must."""
        return roles_of(self.decision)

    def stand_ins(self) -> tuple[str, ...]:
        """The roles that may act in place of those, once it has been escalated."""
        return stand_ins_of(self.decision)

    def is_escalated(self, at: datetime) -> bool:
        """Whether the stand-ins may act at this time."""
        return self.decision.escalate_at is not None and at >= self.decision.escalate_at

    def words(self) -> list[Approval]:
        """All words on the plan, whichever revision, in order."""
        found = [item.record for item in self.items if isinstance(item.record, Approval)]
        return [word for word in found if word.statement.purpose is Purpose.PLAN]

    def approvals(self) -> list[Approval]:
        """Approvals of this very plan so far."""
        return [
            word
            for word in self.words()
            if word.statement.word is Word.APPROVE
            and word.statement.plan_digest == self.plan.digest
            and word.revision == self.plan.revision
        ]

    def correctors(self) -> frozenset[str]:
        """Who has corrected the plan: it is theirs too, so they do not approve it."""
        return frozenset(word.statement.person for word in self.words() if word.statement.word is Word.CORRECT)

    def asked_by(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The tools and the policies that the approval is asked for by."""
        waiting = [step for step in self.decision.steps if step.verdict is Verdict.NEEDS_APPROVAL]
        tools = {step.id: step.call.tool for step in self.plan.steps}
        named = dict.fromkeys(tools[step.step] for step in waiting if step.step in tools)
        return tuple(named), tuple(dict.fromkeys(name for step in waiting for name in step.policies))

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


def show(case: Case, targets: Mapping[str, str]) -> Shown:
    """Everything a person must see; ``targets`` are the systems that tools act on.

    Raises ``TerminalError`` when nothing of the task waits.
    """
    doubt = case.in_doubt()
    if not case.waits and not doubt:
        raise TerminalError(f"task {case.context.header.task_id} does not wait for a person")
    case.require_unchanged()
    decision, context = case.decision, case.context
    waiting = waiting_on(decision)
    if doubt:
        in_doubt = case.doubt(doubt)
        assert in_doubt is not None and isinstance(in_doubt.record, Result)
        waiting = msgspec.structs.replace(
            waiting,
            purpose=Purpose.IN_DOUBT,
            until=None,
            step=doubt,
            reason=in_doubt.record.error,
            stand_ins=(),
            escalate_at=None,
        )
    return Shown(
        waiting=waiting,
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
        steps=_steps(case, targets),
        limits=decision.limits,
        voices=tuple(f"{word.statement.person} ({word.statement.role})" for word in case.approvals()),
        notes=case.plan.notes,
        revision=case.plan.revision,
        anew=case.plan.revision if case.plan.anew else 0,
        candidates=tuple(
            ShownCandidate(
                number=number,
                digest=candidate_digest(candidate),
                label=candidate.label,
                rationale=candidate.rationale,
                calls=tuple(step.call for step in candidate.steps),
            )
            for number, candidate in enumerate(case.plan.candidates, 1)
        ),
    )


def waiting_on(decision: Decision) -> Waiting:
    """A plan that waits for approval, as in the list."""
    sheets = decision.sheets
    return Waiting(
        task_id=decision.header.task_id,
        domain=decision.header.domain,
        purpose=Purpose.PLAN,
        roles=roles_of(decision),
        since=decision.header.at,
        until=decision.approve_by,
        amount=sum(sheet.amount for sheet in sheets),
        currency=sheets[0].currency if sheets else "USD",
        reason=decision.reason,
        stand_ins=stand_ins_of(decision),
        escalate_at=decision.escalate_at,
    )


def _steps(case: Case, targets: Mapping[str, str]) -> tuple[ShownStep, ...]:
    """The steps exactly as they would be executed, with what policy read and said of each."""
    sheets = {sheet.step: sheet for sheet in case.decision.sheets}
    verdicts = {step.step: step for step in case.decision.steps}
    nothing, unsaid = FactSheet(step="", facts=EMPTY_OBJECT, currency=""), StepVerdict(step="", verdict=Verdict.DENY)
    steps = []
    for step in case.plan.steps:
        sheet, verdict = sheets.get(step.id, nothing), verdicts.get(step.id, unsaid)
        steps.append(
            ShownStep(
                id=step.id,
                call=step.call,
                effect_key=step.effect_key,
                verdict=verdict.verdict if verdict.step else "",
                policies=verdict.policies,
                reasons=verdict.reasons,
                roles=verdict.roles,
                facts=sheet.facts,
                source=sheet.source,
                amount=sheet.amount,
                currency=sheet.currency,
                optional=step.optional,
                compensation=step.compensation,
                obligations=verdict.obligations,
                tainted=verdict.tainted,
                target=targets.get(step.call.tool, ""),
                stage=verdict.stage,
                needs=step.needs,
            )
        )
    return tuple(steps)


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
