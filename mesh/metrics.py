"""Every metric of Workmesh, declared in one place.

The rule: labels are small closed sets (stages, kinds, tools, results), never ids.
"""

from typing import Generic, TypeVar

from prometheus_client import Counter, Gauge, Histogram

M = TypeVar("M", Counter, Gauge, Histogram)

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # to batch_max of the settings

RECORDS = Counter("workmesh_records_committed", "Records that this process committed to the journal.", ["kind"])
COMMIT_BATCH = Histogram("workmesh_commit_batch_records", "Records in one group commit.", buckets=_BATCHES)
COMMIT_SECONDS = Histogram(
    "workmesh_commit_seconds", "Seconds from handing a record over until it was durable.", buckets=_SECONDS
)
COMMIT_CONFLICTS = Counter("workmesh_commit_conflicts", "Group commits that were rejected whole and taken apart.")
LOST_RACES = Counter("workmesh_lost_races", "Records that another writer had written first, otherwise.", ["kind"])

DELIVERIES = Counter("workmesh_deliveries_handled", "Deliveries handled, by how they ended.", ["stage", "result"])
HANDLER_SECONDS = Histogram(
    "workmesh_handler_seconds", "Seconds that a handler took for one delivery.", ["stage"], buckets=_SECONDS
)
RECOVERY_SECONDS = Histogram(
    "workmesh_recovery_seconds",
    "Of inputs that had to be delivered again, for their process died or failed: seconds from stored until done.",
    ["stage"],
    buckets=(0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 7.5, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0),
)
REDELIVERIES = Counter("workmesh_redeliveries", "Deliveries that were not the first of their message.", ["stage"])
DEAD_LETTERS = Counter("workmesh_dead_letters", "Deliveries given up and quarantined.", ["stage"])
PUMP_RESTARTS = Counter("workmesh_pump_idle_restarts", "Pumps restarted, being idle beside a backlog.", ["stage"])
QUEUE_DEPTH = Gauge("workmesh_queue_depth", "Inputs of a stage that no copy of it has been given yet.", ["stage"])
QUEUE_OLDEST = Gauge(
    "workmesh_queue_oldest_seconds",
    "How long the oldest of these inputs has been stored; 0 where there are none.",
    ["stage"],
)
QUEUE_IN_HAND = Gauge(
    "workmesh_queue_in_hand", "Inputs of a stage that were given to a copy of it, or wait for their turn.", ["stage"]
)
COMMITS_WAITING = Gauge("workmesh_commits_waiting", "Streams that take no records now, so that commits wait.")
DISK_FREE = Gauge("workmesh_disk_free_bytes", "Room on the disk of this process's state folder.")
DISK_SIZE = Gauge("workmesh_disk_size_bytes", "Size of the disk of this process's state folder.")
RECONNECTS = Counter("workmesh_bus_reconnects", "Times that the connection to the bus came back.")
QUARANTINED = Counter("workmesh_quarantined", "Items put into quarantine, by class of reason.", ["reason"])
QUARANTINE_WAITING = Gauge(
    "workmesh_quarantine_waiting", "Items in quarantine that nobody has released.", ["stage", "reason"]
)
QUARANTINE_OLDEST = Gauge(
    "workmesh_quarantine_oldest_seconds", "How long the oldest of these items waits; 0 where there are none."
)
OUTBOX_PENDING = Gauge("workmesh_outbox_pending", "Messages that wait in the local outbox for the bus.")

INTAKE_ITEMS = Counter(
    "workmesh_intake_items",
    "What came in by a source, by what became of it: event, duplicate, ignored (by a rule), quarantined.",
    ["source", "result"],
)
INTAKE_REQUESTS = Counter("workmesh_intake_requests", "Requests to intake's server, by status.", ["status"])
INTAKE_BACKLOG = Gauge("workmesh_intake_backlog", "Events that perception has not yet taken.")

OUTCOMES = Counter("workmesh_outcomes", "Tasks that ended, by how.", ["domain", "status"])
TASK_SECONDS = Histogram(
    "workmesh_task_seconds",
    "Of tasks that ended: seconds from the event's acceptance until the last record of each kind (stage).",
    ["domain", "stage", "person"],  # person: whether somebody's word was waited for
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 4 * 3600, 86_400, 259_200),
)
PLANNING_SECONDS = Histogram(
    "workmesh_planning_seconds",
    "Seconds from a task's turn until its plan was made, answers of models waited for.",
    ["domain", "slo"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 4 * 3600, 86_400),
)
ACTIONS_APPLIED = Counter(
    "workmesh_actions_applied", "Effect keys in a target's own log, each counted once.", ["domain", "target"]
)
ACTIONS_REPEATED = Counter(
    "workmesh_actions_repeated", "Times that a target's own log has a key beyond the first.", ["domain", "target"]
)
ACTIONS_UNKNOWN = Counter(
    "workmesh_actions_unknown", "Keys in a target's own log that the journal has no effect of.", ["domain", "target"]
)
ACTIONS_CHECKED_AT = Gauge(
    "workmesh_actions_checked_timestamp_seconds",
    "When a target's own log was last read to its end.",
    ["domain", "target"],
)
EFFECTS = Counter("workmesh_effects", "Effects that ended, by how.", ["tool", "status"])
RECOVERED_EFFECTS = Counter(
    "workmesh_effects_recovered", "Effects in doubt that were settled, by how.", ["tool", "how"]
)
TOOL_SECONDS = Histogram("workmesh_tool_call_seconds", "Seconds that a tool call took.", ["tool"], buckets=_SECONDS)
TOOL_CACHE = Counter(
    "workmesh_tool_cache_reads",
    "Reads of tools whose answers may be kept: hit, valid (its version still held), miss (the target was asked).",
    ["tool", "result"],
)
BREAKER = Gauge("workmesh_breaker_state", "1 for the state that the breaker of a target is in.", ["target", "state"])

APPROVALS_WAITING = Gauge("workmesh_approvals_waiting", "Plans that wait for a person.")
APPROVALS_OLDEST = Gauge(
    "workmesh_approvals_oldest_seconds", "How long the oldest of these plans waits; 0 where there are none."
)
APPROVALS_OVERDUE = Gauge(
    "workmesh_approvals_overdue", "Plans that wait beyond the time after which others may approve them too."
)
APPROVAL_WORDS = Counter(
    "workmesh_approval_words",
    "Words of people on plans, by what they said: for how often they override.",
    ["word", "tool", "policy"],
)
APPROVAL_SECONDS = Histogram(
    "workmesh_approval_seconds",
    "Seconds that a plan waited for a person's word.",
    ["tool"],
    buckets=(10, 60, 300, 900, 1800, 3600, 4 * 3600, 24 * 3600, 3 * 24 * 3600),
)
LIMIT_CONFLICTS = Counter("workmesh_limit_conflicts", "Times that another copy counted against a limit first.")
LIMITS_EXCEEDED = Counter(
    "workmesh_limits_exceeded", "Plans that a limit over time stood against.", ["domain", "limit"]
)
AUTONOMY_STAGE = Gauge(
    "workmesh_autonomy_stage", "How far a tool may act by itself: 0 observe to 3 autonomous.", ["domain", "tool"]
)
SHADOW_DECISIONS = Counter(
    "workmesh_shadow_decisions", "Plans also decided under a shadow bundle.", ["domain", "live", "shadow"]
)
DRIFT = Gauge("workmesh_drift_raised", "Things that have drifted from their past, by kind.", ["kind"])
PROPOSALS = Gauge("workmesh_proposals", "Proposals of the learner, by where they stand.", ["state"])
LEARNED_ROLLBACKS = Counter("workmesh_learned_rollbacks", "Learned changes that were taken back by themselves.")
NOTICES_UNMET = Counter(
    "workmesh_notices_unmet", "Notices that policy obliged to and that failed for good.", ["domain"]
)
PERMIT_REFUSALS = Counter("workmesh_permit_refusals", "Permits that the executor did not accept, by why.", ["reason"])

RECALLS = Counter(
    "workmesh_recalls",
    "Questions to memory, by how they were answered: hit, miss (memory was asked), stale (it did not answer), none.",
    ["result"],
)
RECALL_STALENESS = Histogram(
    "workmesh_recall_staleness_seconds",
    "Age of the answers that came from the cache, fresh (hit) or because memory did not answer (stale).",
    ["result"],
    buckets=(0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800),
)
RECALL_KEPT = Gauge("workmesh_recall_answers_kept", "Answers of memory in the cache of this process.")
RECALL_DROPPED = Counter("workmesh_recall_answers_dropped", "Answers dropped because memory said that they changed.")

PLANS_VOID = Counter(
    "workmesh_plans_void", "Plans that cite facts which had changed by the decision, by its phase.", ["domain", "phase"]
)
DECISIONS_WAITING_FOR_MEMORY = Counter(
    "workmesh_decisions_put_off_for_memory",
    "Times that a decision on a plan with citations was put off since memory did not answer.",
)

PROBE_RECALL = Gauge("workmesh_memory_probe_recall_at_10", "Share of known answers in memory's first ten, last round.")
PROBE_NDCG = Gauge("workmesh_memory_probe_ndcg_at_10", "nDCG@10 of memory's answers to the probes, last round.")
PROBES = Counter(
    "workmesh_memory_probes",
    "Known answers that memory was asked for: found among its first ten, or missed.",
    ["result"],
)
PROBE_STALE = Counter("workmesh_memory_probe_stale_hits", "Facts answered to probes that did not stand any more.")
PROBE_SECONDS = Histogram(
    "workmesh_memory_probe_seconds",
    "Time of one recall of a probe.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.06, 0.1, 0.25, 1),
)
MEMORY_FACTS = Gauge("workmesh_memory_facts", "Facts that this copy of memory holds, whatever became of them.")
MEMORY_CONTESTED = Gauge("workmesh_memory_contested", "Slots whose claims contradict each other: a person resolves.")
MEMORY_WITHOUT_VECTORS = Gauge("workmesh_memory_without_vectors", "Documents found by their words only, as yet.")

MODEL_CALLS = Counter(
    "workmesh_model_calls",
    "Calls of models, by how they ended: answered, declined, no_answer, not_billed, unknown_fate, rejected.",
    ["model", "mode", "result"],
)
MODEL_TOKENS = Counter("workmesh_model_tokens", "Tokens paid for: in, out, cached, written.", ["model", "kind"])
MODEL_COST = Counter("workmesh_model_cost_micro_usd", "What calls of models cost.", ["domain", "model", "certain"])
MODEL_SECONDS = Histogram(
    "workmesh_model_call_seconds",
    "Seconds until a model answered.",
    ["model"],
    buckets=(0.1, 0.25, 0.5, 1, 2, 3, 5, 8, 13, 20, 30, 60, 120),
)
MODEL_PACED_SECONDS = Counter("workmesh_model_paced_seconds", "Seconds that calls waited for their turn.", ["model"])
COMPLETIONS = Counter("workmesh_model_completions", "Questions to models that ended, by how.", ["domain", "status"])
MODEL_REUSE = Counter("workmesh_model_reuse", "Questions with (hit) or without (miss) an equal one before.", ["result"])
BUDGET_LEFT = Gauge("workmesh_model_budget_left_micro_usd", "What the day's budget has left, as last seen.", ["domain"])
BUDGET = Gauge("workmesh_model_budget_micro_usd", "What a domain may spend on models in a day.", ["domain"])
SPEND_CONFLICTS = Counter("workmesh_spend_conflicts", "Times that another copy wrote a window of spending first.")
MODEL_BATCHES = Counter("workmesh_model_batches", "Batches, by what was done: sent, adopted, ended, lost.", ["event"])

HUB_SILENT = Gauge("workmesh_hub_silent_seconds", "Seconds since the hub of this site was last heard.")
HUB_LAG = Gauge(
    "workmesh_hub_lag_messages",
    "Messages that were not on the other side when the hub was last heard: up to it, or down to this site.",
    ["kind"],
)

JOURNAL_LAST = Gauge("workmesh_journal_last_sequence", "Where the journal ends, as the auditor last saw it.")
STORE_BYTES = Gauge("workmesh_bus_store_bytes", "What the bus keeps on disk.")
STORE_LIMIT = Gauge("workmesh_bus_store_limit_bytes", "What the bus may keep on disk.")
AUDIT_UNSIGNED = Gauge(
    "workmesh_audit_unsigned_seconds", "For how long some record of the journal has been without a signed checkpoint."
)
AUDIT_SIZE = Gauge("workmesh_audit_size", "Sequences of the journal that the auditor has taken in.")
AUDIT_SIGNED_SIZE = Gauge("workmesh_audit_signed_size", "Sequences that the last signed checkpoint covers.")
AUDIT_PROBLEMS = Counter("workmesh_audit_problems", "What contradicts the audit log, by kind.", ["kind"])

TRACE_SPANS = Counter(
    "workmesh_trace_spans",
    "Spans made from the journal, by what became of them: exported, or refused by the collector for good.",
    ["result"],
)
TRACE_WAITS = Counter(
    "workmesh_trace_waits",
    "Times that a batch of spans was not taken and kept, by why: away, busy, settings (address or credentials).",
    ["reason"],
)
TRACES_BEHIND = Gauge(
    "workmesh_traces_behind_seconds",
    "How long the oldest record has stood whose spans no collector has taken; 0 where there is none.",
)


class Bound(Generic[M]):
    """A metric's children, remembered: finding one anew costs more than counting."""

    def __init__(self, metric: M) -> None:
        self._metric: M = metric
        self._children: dict[tuple[str, ...], M] = {}

    def of(self, *labels: str) -> M:
        """The child with these label values, in the order of the metric's labels."""
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = self._metric.labels(*labels)
        return child
