"""The alerts that are no objectives: what a person has to look at whatever the budgets say, each with its page.

The rule: an alert is something to do; its page in docs/operations says what.
"""

from dataclasses import dataclass

from mesh.site import ROLES

PAGE, TICKET = "page", "ticket"


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert: its condition as PromQL, how long it must hold, and what it says."""

    name: str
    expr: str
    holds: str
    severity: str
    summary: str
    dashboard: str


def _absent() -> str:
    """Roles without a process that answers; model, intake and tracer only where they ran within the last hour."""
    wanted = " or ".join(f'label_replace(vector(1), "role", "{role}", "", "")' for role in ROLES)
    ran = 'max by (role) (max_over_time(up{job="workmesh", role=~"model|intake|tracer"}[1h])) == 1'
    return f'({wanted} or {ran}) unless on (role) up{{job="workmesh"}} == 1'


ALERTS = (
    Alert(
        "RoleDown",
        _absent(),
        "1m",
        PAGE,
        "no process of the role {{ $labels.role }} answers",
        "workmesh-bus",
    ),
    Alert(
        "JournalBlocked",
        "max(workmesh_commits_waiting) > 0",
        "1m",
        PAGE,
        "the bus takes no records: every stage waits",
        "workmesh-bus",
    ),
    Alert(
        "BusStoreFilling",
        "max(workmesh_bus_store_bytes) / (max(workmesh_bus_store_limit_bytes) > 0) > 0.85",
        "5m",
        TICKET,
        "the bus has {{ $value | humanizePercentage }} of what it may keep",
        "workmesh-bus",
    ),
    Alert(
        "DiskFilling",
        "min by (role) (workmesh_disk_free_bytes / workmesh_disk_size_bytes) < 0.1",
        "5m",
        TICKET,
        "the disk of {{ $labels.role }} has {{ $value | humanizePercentage }} left",
        "workmesh-bus",
    ),
    Alert(
        "ActionRepeated",
        "max by (domain, target) (increase(workmesh_actions_repeated_total[15m])) > 0",
        "0m",
        PAGE,
        "{{ $labels.target }} of {{ $labels.domain }} says that a change was done twice",
        "workmesh-overview",
    ),
    Alert(
        "ActionUnknown",
        "max by (domain, target) (increase(workmesh_actions_unknown_total[15m])) > 0",
        "0m",
        TICKET,
        "{{ $labels.target }} of {{ $labels.domain }} has a change that the journal knows nothing of",
        "workmesh-overview",
    ),
    Alert(
        "TargetLogUnread",
        "time() - max by (domain, target) (workmesh_actions_checked_timestamp_seconds) > 600",
        "5m",
        TICKET,
        "the log of {{ $labels.target }} was last read {{ $value | humanizeDuration }} ago",
        "workmesh-overview",
    ),
    Alert(
        "DeadLetters",
        "sum by (stage) (increase(workmesh_dead_letters_total[15m])) > 0",
        "0m",
        TICKET,
        "the stage {{ $labels.stage }} gave up on inputs",
        "workmesh-loop",
    ),
    Alert(
        "QuarantineWaits",
        "max(workmesh_quarantine_oldest_seconds) > 86400",
        "5m",
        TICKET,
        "an item has been in quarantine for {{ $value | humanizeDuration }}",
        "workmesh-loop",
    ),
    Alert(
        "QueueStuck",
        "max by (stage) (workmesh_queue_oldest_seconds) > 60",
        "5m",
        PAGE,
        "an input waits for {{ $labels.stage }} for {{ $value | humanizeDuration }}",
        "workmesh-loop",
    ),
    Alert(
        "BreakerOpen",
        'max by (target, role) (max_over_time(workmesh_breaker_state{state="closed"}[2m])) == 0',
        "1m",
        TICKET,
        "calls of {{ $labels.target }} fail: its breaker in {{ $labels.role }} stays open",
        "workmesh-loop",
    ),
    Alert(
        "ApprovalsOverdue",
        "max(workmesh_approvals_overdue) > 0",
        "5m",
        TICKET,
        "{{ $value }} plans wait beyond the time to escalate",
        "workmesh-policy",
    ),
    Alert(
        "PermitsRefused",
        "sum by (reason) (increase(workmesh_permit_refusals_total[15m])) > 0",
        "0m",
        TICKET,
        "the executor refused permits: {{ $labels.reason }}",
        "workmesh-policy",
    ),
    Alert(
        "NoticesUnmet",
        "sum by (domain) (increase(workmesh_notices_unmet_total[15m])) > 0",
        "0m",
        TICKET,
        "{{ $labels.domain }}: notices that policy obliges to were not delivered",
        "workmesh-policy",
    ),
    Alert(
        "HubSilent",
        "max(workmesh_hub_silent_seconds) > 300",
        "0m",
        TICKET,
        "the hub of this site has not been heard for {{ $value | humanizeDuration }}",
        "workmesh-bus",
    ),
    Alert(
        "AuditBehind",
        "max(workmesh_audit_unsigned_seconds) > 120",
        "2m",
        TICKET,
        "a record has been without a signed checkpoint for {{ $value | humanizeDuration }}",
        "workmesh-bus",
    ),
    Alert(
        "TracesBehind",
        "max(workmesh_traces_behind_seconds) > 600",
        "5m",
        TICKET,
        "spans have waited for their collector for {{ $value | humanizeDuration }}",
        "workmesh-bus",
    ),
    Alert(
        "AuditProblem",
        "max by (kind) (workmesh_audit_problems_total) > 0",
        "0m",
        PAGE,
        "the journal contradicts the audit log: {{ $labels.kind }}",
        "workmesh-bus",
    ),
    Alert(
        "FactsContested",
        "max(workmesh_memory_contested) > 0",
        "1h",
        TICKET,
        "{{ $value }} facts contradict each other, and wait for a person",
        "workmesh-memory",
    ),
    Alert(
        "BudgetSpent",
        "min by (domain) (workmesh_model_budget_left_micro_usd)"
        " <= 0.05 * (max by (domain) (workmesh_model_budget_micro_usd) > 0)",
        "1m",
        TICKET,
        "{{ $labels.domain }} has spent its budget for models of today",
        "workmesh-models",
    ),
)
