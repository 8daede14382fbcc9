"""The record that ends a task, whoever writes it: status, money, and the time that each stage took."""

from collections.abc import Iterable

from mesh import metrics
from mesh.clock import now
from mesh.experience import Experience
from mesh.journal import Stored
from mesh.plans import plans_of
from mesh.records import (
    Approval,
    Context,
    Decision,
    Header,
    Outcome,
    OutcomeStatus,
    Plan,
    Purpose,
    Result,
    ResultStatus,
    StageTime,
    Word,
)

_OUTCOMES = metrics.Bound(metrics.OUTCOMES)


def outcome(
    header: Header, status: OutcomeStatus, items: Iterable[Stored], *, reason: str = "", amount: int | None = None
) -> Outcome:
    """The outcome of a task with these records.

    ``amount`` is the money moved, in minor units: by default the sum of the decision's sheets when it completed.
    """
    items = list(items)
    plan = next(reversed(plans_of(items)), None)
    decisions = [item.record for item in items if isinstance(item.record, Decision)]
    sheets = decisions[-1].sheets if decisions else ()
    if amount is None:
        amount = sum(sheet.amount for sheet in sheets) if status is OutcomeStatus.COMPLETED else 0
    _OUTCOMES.of(header.domain, status).inc()
    return Outcome(
        header=header,
        status=status,
        reason=reason,
        playbook=plan.playbook if plan else "",
        tools=tuple(step.call.tool for step in plan.steps) if plan else (),
        amount=amount,
        currency=sheets[0].currency if sheets else "USD",
        times=stage_times(items),
        experience=_experience(items, plan),
    )


def _experience(items: Iterable[Stored], plan: Plan | None) -> Experience:
    found = [item.record for item in items]
    context = next((record for record in found if isinstance(record, Context)), None)
    results = [record for record in found if isinstance(record, Result)]
    said = [record.statement for record in found if isinstance(record, Approval)]
    words = [each.word for each in said if each.purpose is Purpose.PLAN]
    return Experience(
        event_type=context.event.type if context else "",
        entity_kind=context.entity_kind if context else "",
        retried=tuple(each.tool for each in results for _ in range(1, each.attempts)),
        doubted=tuple(each.tool for each in results if each.recovered or each.status is ResultStatus.IN_DOUBT),
        erred=tuple(each.tool for each in results if each.status is ResultStatus.FAILED),
        words=len(words),
        overrides=sum(word is not Word.APPROVE for word in words),
        cost_micro_usd=sum(use.cost_micro_usd for use in plan.usage) if plan else 0,
        learned=tuple(dict.fromkeys(use.proposal for use in plan.learned)) if plan else (),
    )


def stage_times(items: Iterable[Stored]) -> tuple[StageTime, ...]:
    """Milliseconds from the acceptance of the event to the last record of each kind, and to now (``outcome``)."""
    items = list(items)
    context = next((item.record for item in items if isinstance(item.record, Context)), None)
    if context is None:
        return ()
    start = context.event.accepted_at
    ends = {item.record.kind: item.time for item in items} | {"outcome": now()}
    return tuple(StageTime(stage=kind, ms=round((end - start).total_seconds() * 1000, 3)) for kind, end in ends.items())
