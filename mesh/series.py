"""Series begin at zero: what has not happened yet is 0, not absent, so that the first time counts.

The rule: only what is known at the start and closed; Prometheus takes no increase from a series that begins at 1.
"""

from collections.abc import Iterable

from mesh import metrics
from mesh.quarantine import Reason
from mesh.records import OutcomeStatus, Phase, ResultStatus
from mesh.tools import Recovery, Tool

_ENDS = ("done", "waits", "retried", "failed", "lost_race")
_ENDING = ("perception", "policy", "executor")  # the roles that write outcomes
_REFUSING = ("perception", "intake")
_SETTLED = {  # how an effect in doubt may be settled, beside a result that was kept
    Recovery.IDEMPOTENT: ("kept", "called_again"),
    Recovery.VERIFIABLE: ("kept", "verified_absent", "verified_done"),
    Recovery.MANUAL: ("kept", "not_sent", "person_happened", "person_not_happened"),
}


def begin_stage(stage: str, domains: Iterable[str]) -> None:
    """The series of a stage, and those of the outcomes that it may write."""
    domains = tuple(domains)
    for result in _ENDS:
        metrics.DELIVERIES.labels(stage, result)
    for each in (metrics.HANDLER_SECONDS, metrics.RECOVERY_SECONDS, metrics.REDELIVERIES, metrics.DEAD_LETTERS):
        each.labels(stage)
    if stage in _ENDING:
        for domain in domains:
            for status in OutcomeStatus:
                metrics.OUTCOMES.labels(domain, status)
    if stage == "policy":
        for domain in domains:
            for phase in Phase:
                metrics.PLANS_VOID.labels(domain, phase)
    if stage in _REFUSING:
        for reason in (Reason.MALFORMED, Reason.UNKNOWN_TYPE, Reason.CONFLICT):
            metrics.QUARANTINED.labels(reason)


def begin_effects(domain: str, tools: Iterable[Tool]) -> None:
    """The series of a domain's tools that act."""
    metrics.NOTICES_UNMET.labels(domain)
    for tool in tools:
        if not tool.read_only:
            for status in ResultStatus:
                metrics.EFFECTS.labels(tool.name, status)
            for how in _SETTLED[tool.recovery]:
                metrics.RECOVERED_EFFECTS.labels(tool.name, how)


def begin_refusals(causes: Iterable[str]) -> None:
    """The series of permits refused."""
    for cause in causes:
        metrics.PERMIT_REFUSALS.labels(cause)
