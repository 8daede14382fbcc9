"""The record that ends a task, whoever writes it: status, money, and the time that each stage took."""

from collections.abc import Iterable

from mesh import metrics
from mesh.clock import now
from mesh.journal import Stored
from mesh.plans import plans_of
from mesh.records import Context, Decision, Header, Outcome, OutcomeStatus, StageTime

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
