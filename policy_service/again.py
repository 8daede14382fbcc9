"""Deciding again: what policy would say of a plan from the journal's records alone, under any bundle.

The rule: the recorded facts, amounts, approvals and taint, and nothing read anew. Facts that came as Cedar entities are
not on record, so a bundle that needs them decides otherwise here. This is the one place that weighs a second time.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mesh.journal import Stored
from mesh.records import AnyRecord, Approval, Context, Decision, Phase, Plan, Purpose, Word
from policy_service.bundle import Bundle
from policy_service.deciding import Matter, agent_of, around_of, sheets_of
from policy_service.engine import Assessment, Question
from policy_service.quorum import Voice, granted, roles_of, stand_ins_of


@dataclass(frozen=True, slots=True)
class Past:
    """A decision on record, with what it was made from. ``approvals`` is what people's words amounted to by then."""

    context: Context
    plan: Plan
    decision: Decision
    approvals: frozenset[str]
    agent: str

    def again(self, bundle: Bundle) -> Assessment:
        """What policy would say under this bundle; limits over time had been taken of as the record says."""
        return self._matter(bundle).weigh(self.approvals, self.decision.limits)

    def questions(self, bundle: Bundle) -> list[Question]:
        """The steps as policy saw them; those without facts are left out."""
        return self._matter(bundle).questions()

    def _matter(self, bundle: Bundle) -> Matter:
        around = around_of(self.decision, self.context, self.plan, self.agent)
        return Matter(self.context, self.plan, sheets_of(self.decision), bundle, around)


def past_of(items: Sequence[Stored]) -> list[Past]:
    """The decisions in a task's records that policy made on facts; not what people or time alone decided."""
    return list(pasts(item.record for item in items))


def pasts(found: Iterable[AnyRecord]) -> Iterator[Past]:
    """The same, from the records of one task in the order they were written."""
    context: Context | None = None
    plans: dict[int, Plan] = {}
    first: dict[int, Decision] = {}
    words: list[Approval] = []
    void: set[int] = set()
    for record in found:
        match record:
            case Context():
                context = record
            case Plan(anew=True, revision=revision) if revision - 1 not in void:
                pass  # no plan of this task: nothing had declared the one before it void
            case Plan():
                plans[record.revision] = record
            case Approval():
                words.append(record)
            case Decision(void=facts, revision=revision) if facts:
                void.add(revision)
            case Decision(sheets=sheets, revision=revision) if sheets and context is not None and revision in plans:
                asked = first.setdefault(revision, record)
                approvals = _approvals(words, asked) if record.phase is Phase.EXECUTE else frozenset[str]()
                agent = agent_of(plans.get(0, plans[revision]))
                yield Past(context, plans[revision], record, approvals, agent)


def _approvals(words: Iterable[Approval], asked: Decision) -> frozenset[str]:
    """What the words on a plan amount to; ``asked`` is the first decision on it."""
    voices = [
        Voice(
            person=word.statement.person,
            role=word.statement.role,
            escalated=asked.escalate_at is not None and word.header.at >= asked.escalate_at,
        )
        for word in words
        if word.statement.purpose is Purpose.PLAN
        and word.statement.word is Word.APPROVE
        and word.statement.plan_digest == asked.plan_digest
    ]
    return granted(voices, roles_of(asked), stand_ins_of(asked))
