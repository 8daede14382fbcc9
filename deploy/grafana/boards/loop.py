"""The loop by stage: how long tasks take, what waits, what failed, what is called."""

from deploy.grafana.board import Board, Query, Row, lines, quantile

_DOMAIN = 'domain=~"$domain"'
_TASK = "workmesh_task_seconds"
_ALONE = f'{_DOMAIN}, person="no"'

LOOP = Board(
    "workmesh-loop",
    "The loop by stage",
    "From an event's acceptance to its outcome: times, queues, failures and calls.",
    (
        Row(
            "Times",
            (
                lines("Event to record, p50 by stage", "s", Query(quantile(0.5, _TASK, "stage", _ALONE), "{{stage}}")),
                lines("Event to record, p99 by stage", "s", Query(quantile(0.99, _TASK, "stage", _ALONE), "{{stage}}")),
                lines(
                    "Event to outcome, p99 by domain",
                    "s",
                    Query(
                        quantile(0.99, _TASK, "domain, person", f'{_DOMAIN}, stage="outcome"'),
                        "{{domain}}, person: {{person}}",
                    ),
                    says="Apart for tasks that a person's word was waited for.",
                ),
                lines(
                    "Planning, p99 by class",
                    "s",
                    Query(quantile(0.99, "workmesh_planning_seconds", "domain, slo", _DOMAIN), "{{domain}} {{slo}}"),
                    says="From the task's turn until its plan; batch where nobody waits for it.",
                ),
                lines(
                    "Handlers, p99 by stage",
                    "s",
                    Query(quantile(0.99, "workmesh_handler_seconds", "stage"), "{{stage}}"),
                ),
                lines(
                    "Tasks that ended",
                    "ops",
                    Query(
                        f"sum by (domain, status) (rate(workmesh_outcomes_total{{{_DOMAIN}}}[$__rate_interval]))",
                        "{{domain}} {{status}}",
                    ),
                ),
            ),
        ),
        Row(
            "Queues",
            (
                lines("Waiting for a stage", "short", Query("max by (stage) (workmesh_queue_depth)", "{{stage}}")),
                lines("Oldest that waits", "s", Query("max by (stage) (workmesh_queue_oldest_seconds)", "{{stage}}")),
                lines(
                    "In hand, or waiting for their turn",
                    "short",
                    Query("max by (stage) (workmesh_queue_in_hand)", "{{stage}}"),
                ),
            ),
        ),
        Row(
            "Failures",
            (
                lines(
                    "Deliveries by how they ended",
                    "ops",
                    Query(
                        "sum by (stage, result) (rate(workmesh_deliveries_handled_total[$__rate_interval]))",
                        "{{stage}} {{result}}",
                    ),
                ),
                lines(
                    "Delivered again",
                    "ops",
                    Query("sum by (stage) (rate(workmesh_redeliveries_total[$__rate_interval]))", "{{stage}}"),
                ),
                lines(
                    "Time to recover, p99",
                    "s",
                    Query(quantile(0.99, "workmesh_recovery_seconds", "stage", window="$__range"), "{{stage}}"),
                ),
                lines("Given up", "short", Query("sum by (stage) (workmesh_dead_letters_total)", "{{stage}}")),
                lines(
                    "In quarantine",
                    "short",
                    Query("max by (stage, reason) (workmesh_quarantine_waiting)", "{{stage}} {{reason}}"),
                ),
                lines("Oldest in quarantine", "s", Query("max(workmesh_quarantine_oldest_seconds)", "oldest")),
                lines("Refused", "short", Query("sum by (reason) (workmesh_quarantined_total)", "{{reason}}")),
            ),
        ),
        Row(
            "Intake",
            (
                lines(
                    "What came in, by source",
                    "short",
                    Query("sum by (source, result) (workmesh_intake_items_total)", "{{source}} {{result}}"),
                ),
                lines(
                    "Requests by status",
                    "short",
                    Query("sum by (status) (workmesh_intake_requests_total)", "{{status}}"),
                ),
                lines("Not yet perceived", "short", Query("max(workmesh_intake_backlog)", "events")),
            ),
        ),
        Row(
            "Tools",
            (
                lines(
                    "Effects by how they ended",
                    "ops",
                    Query(
                        "sum by (tool, status) (rate(workmesh_effects_total[$__rate_interval]))", "{{tool}} {{status}}"
                    ),
                ),
                lines(
                    "Calls of tools, p99", "s", Query(quantile(0.99, "workmesh_tool_call_seconds", "tool"), "{{tool}}")
                ),
                lines(
                    "Breakers that are not closed",
                    "short",
                    Query(
                        'max by (target, role) (1 - workmesh_breaker_state{state="closed"})', "{{target}} of {{role}}"
                    ),
                ),
                lines(
                    "Effects in doubt, settled",
                    "short",
                    Query("sum by (how) (workmesh_effects_recovered_total)", "{{how}}"),
                ),
                lines(
                    "Actions by the targets' own logs",
                    "short",
                    Query("max by (domain, target) (workmesh_actions_applied_total)", "{{domain}} {{target}} done"),
                    Query("max by (domain, target) (workmesh_actions_repeated_total)", "{{domain}} {{target}} twice"),
                    Query("max by (domain, target) (workmesh_actions_unknown_total)", "{{domain}} {{target}} not ours"),
                ),
                lines(
                    "Answers of tools that were kept",
                    "percentunit",
                    Query(
                        'sum(rate(workmesh_tool_cache_reads_total{result!="miss"}[$__range]))'
                        " / (sum(rate(workmesh_tool_cache_reads_total[$__range])) > 0) or vector(0)",
                        "kept",
                    ),
                ),
            ),
        ),
    ),
)
