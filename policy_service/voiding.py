"""What follows when a plan is void: its context goes to the planner again, a few times, and then the task is denied.

The rule: what declares a plan void and what has it made anew are one commit; a plan that a person corrected is not
thrown away for another: its task ends, and the reason says so.
"""

from collections.abc import Iterable, Sequence

import msgspec
import structlog

from mesh import metrics, records, subjects
from mesh.journal import Message, Stored, Write
from mesh.outcomes import outcome
from mesh.records import REPLANS_MAX, Context, Decision, OutcomeStatus, Plan

log = structlog.get_logger(__name__)

PLANNER = "planner"


def void_outputs(decision: Decision, items: Sequence[Stored]) -> tuple[Write | Message, ...]:
    """The decision that the last plan of these records is void, with what comes of it."""
    head = decision.header
    metrics.PLANS_VOID.labels(domain=head.domain, phase=decision.phase).inc()
    log.info("plan_void", task_id=head.task_id, phase=decision.phase, reason=decision.reason)
    if not (why := _for_good(items, decision)):
        return (Write(decision), _again(items, decision))
    said = msgspec.structs.replace(decision, reason=f"{decision.reason}; {why}")
    return (Write(said), Write(outcome(head, OutcomeStatus.DENIED, items, reason=said.reason)))


def parted(outputs: Iterable[Write | Message]) -> tuple[list[Write], list[Message]]:
    """The records and the other messages of these outputs."""
    writes: list[Write] = []
    messages: list[Message] = []
    for item in outputs:
        if isinstance(item, Write):
            writes.append(item)
        else:
            messages.append(item)
    return writes, messages


def _for_good(items: Iterable[Stored], decision: Decision) -> str:
    """Why the task is not planned anew, or an empty string."""
    plans = [item.record for item in items if isinstance(item.record, Plan)]
    plan = next(plan for plan in reversed(plans) if plan.digest == decision.plan_digest)
    if plan.revision and not plan.anew:
        return "a plan that a person corrected is not made anew"
    if plan.revision >= REPLANS_MAX:
        return f"it was planned anew {REPLANS_MAX} times before"
    return ""


def _again(items: Iterable[Stored], decision: Decision) -> Message:
    """The context for the planner, as a person would release it; once for each void plan."""
    context = next(item for item in items if isinstance(item.record, Context))
    head = decision.header
    return Message(
        f"release.{PLANNER}.{head.task_id}.{decision.token.replace('~', '-')}",
        records.encode(context.record),
        headers={
            subjects.ORIGIN_STREAM: subjects.JOURNAL,
            subjects.ORIGIN_SUBJECT: context.subject,
            subjects.ORIGIN_SEQUENCE: str(context.seq),
        },
    )
