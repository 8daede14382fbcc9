"""Tells the metrics how long tasks took, from the times that their outcomes hold.

The rule: counted once a task, here, from what is on record, rather than by whoever wrote it.
"""

from mesh import metrics
from mesh.records import Outcome, OutcomeStatus

_SECONDS = metrics.Bound(metrics.TASK_SECONDS)


def count_times(ending: Outcome) -> None:
    """Count a task's times by stage, apart for tasks that a person's word was waited for."""
    waited = ending.status is OutcomeStatus.EXPIRED or any(time.stage == "approval" for time in ending.times)
    for time in ending.times:
        _SECONDS.of(ending.header.domain, time.stage, "yes" if waited else "no").observe(time.ms / 1000)
