"""What waits for people, as metrics: how many, how long the oldest, and how many beyond their time to escalate."""

import math
from collections.abc import Iterable

from mesh import metrics
from mesh.approvals import Waiting
from mesh.records import Decision, Plan, Verdict, Word

_WORDS = (Word.APPROVE, Word.REJECT, Word.CORRECT)


Times = tuple[float, float]
"""Since when something waits, and from when others may act on it too (infinite: never), in Unix seconds."""


def times_of(item: Waiting) -> Times:
    """The times of one thing that waits."""
    return item.since.timestamp(), item.escalate_at.timestamp() if item.escalate_at else math.inf


def show_waiting(items: Iterable[Times], at: float) -> None:
    """Set the gauges from all that waits at this time (Unix seconds)."""
    oldest, overdue = at, 0
    for since, escalates in items:
        oldest = min(oldest, since)
        overdue += escalates <= at
    metrics.APPROVALS_OLDEST.set(at - oldest)
    metrics.APPROVALS_OVERDUE.set(overdue)


def begin_words(plan: Plan, decision: Decision) -> None:
    """Have the series of the words that may come on this plan begin at zero: so the first of them counts too."""
    tools = {step.id: step.call.tool for step in plan.steps}
    for step in decision.steps:
        if step.verdict is Verdict.NEEDS_APPROVAL and (tool := tools.get(step.step)):
            metrics.APPROVAL_SECONDS.labels(tool)
            for policy in step.policies:
                for word in _WORDS:
                    metrics.APPROVAL_WORDS.labels(word, tool, policy)
