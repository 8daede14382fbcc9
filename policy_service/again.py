"""Deciding again: what policy would say of a plan from the journal's records alone, under any bundle.

The rule: the recorded facts, amounts, approvals and taint, and nothing read anew. Facts that came as Cedar entities are
not on record, so a bundle that needs them decides otherwise here. This is the one place that weighs a second time.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mesh.journal import Stored
from mesh.pack import Sheet
from mesh.records import AnyRecord, Approval, Context, Decision, Phase, Plan, Purpose, Word
from policy_service.bundle import Bundle
from policy_service.deciding import weigh
from policy_service.engine import Assessment, Question
from policy_service.taint import read_outside, tainted_arguments


@dataclass(frozen=True, slots=True)
class Past:
    """A decision on record, with what it was made from. ``approvals`` are the roles that had approved by then."""

    context: Context
    plan: Plan
    decision: Decision
    approvals: frozenset[str]

    def again(self, bundle: Bundle) -> Assessment:
        """What policy would say under this bundle."""
        return weigh(bundle, self.context, self.plan, self._sheets(), self.approvals)

    def questions(self, bundle: Bundle) -> list[Question]:
        """The steps as policy saw them; those without facts are left out."""
        outside, sheets = read_outside(self.context.data, self.context.taint), self._sheets()
        return [
            Question(
                step=step.id,
                tool=step.call.tool,
                sheet=sheets[step.id],
                tainted=tainted_arguments(step.call.args, outside),
            )
            for step in self.plan.steps
            if step.id in sheets
        ]

    def _sheets(self) -> dict[str, Sheet]:
        return {
            sheet.step: Sheet(facts=sheet.facts, amount=sheet.amount, currency=sheet.currency)
            for sheet in self.decision.sheets
        }


def past_of(items: Sequence[Stored]) -> list[Past]:
    """The decisions in a task's records that policy made on facts; not what people or time alone decided."""
    return list(pasts(item.record for item in items))


def pasts(found: Iterable[AnyRecord]) -> Iterator[Past]:
    """The same, from the records of one task in the order they were written."""
    context: Context | None = None
    plans: dict[int, Plan] = {}
    words: list[Approval] = []
    for record in found:
        match record:
            case Context():
                context = record
            case Plan():
                plans[record.revision] = record
            case Approval():
                words.append(record)
            case Decision(sheets=sheets, revision=revision) if sheets and context is not None and revision in plans:
                yield Past(context, plans[revision], record, _approvals(words, record))


def _approvals(words: Iterable[Approval], decision: Decision) -> frozenset[str]:
    if decision.phase is Phase.PROPOSE:
        return frozenset()
    said = (word.statement for word in words)
    return frozenset(
        each.role
        for each in said
        if each.purpose is Purpose.PLAN and each.word is Word.APPROVE and each.plan_digest == decision.plan_digest
    )
