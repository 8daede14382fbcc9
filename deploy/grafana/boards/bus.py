"""The bus, the journal and the audit: what is written, how fast it is on disk, how full the disks are, who lives."""

from deploy.grafana.board import Board, Query, Row, lines, number, quantile

BUS = Board(
    "workmesh-bus",
    "Bus, journal and audit",
    "Commits, connections, disks, the audit's lag, and the processes.",
    (
        Row(
            "Processes",
            (
                number("Processes that answer", "short", 'count(up{job="workmesh"} == 1)'),
                number("Streams that take no records", "short", "max(workmesh_commits_waiting)"),
                number("Without a signed checkpoint for", "s", "max(workmesh_audit_unsigned_seconds)"),
                number(
                    "Of what the bus may keep",
                    "percentunit",
                    "max(workmesh_bus_store_bytes) / (max(workmesh_bus_store_limit_bytes) > 0)",
                ),
                lines("Processes by role", "short", Query('sum by (role) (up{job="workmesh"})', "{{role}}")),
                lines(
                    "Processor time",
                    "percentunit",
                    Query(
                        'sum by (role) (rate(process_cpu_seconds_total{job="workmesh"}[$__rate_interval]))', "{{role}}"
                    ),
                ),
                lines(
                    "Memory",
                    "bytes",
                    Query('sum by (role) (process_resident_memory_bytes{job="workmesh"})', "{{role}}"),
                ),
            ),
        ),
        Row(
            "Journal",
            (
                lines(
                    "Records",
                    "ops",
                    Query("sum by (kind) (rate(workmesh_records_committed_total[$__rate_interval]))", "{{kind}}"),
                ),
                lines(
                    "Until on disk, p50 and p99",
                    "s",
                    Query(quantile(0.5, "workmesh_commit_seconds", ""), "p50"),
                    Query(quantile(0.99, "workmesh_commit_seconds", ""), "p99"),
                ),
                lines(
                    "Records in one commit, p50 and p99",
                    "short",
                    Query(quantile(0.5, "workmesh_commit_batch_records", ""), "p50"),
                    Query(quantile(0.99, "workmesh_commit_batch_records", ""), "p99"),
                ),
                lines(
                    "Conflicts",
                    "short",
                    Query("sum by (role) (workmesh_commit_conflicts_total)", "{{role}} commits taken apart"),
                    Query("sum by (kind) (workmesh_lost_races_total) or vector(0)", "{{kind}} lost races"),
                    Query("sum(workmesh_limit_conflicts_total)", "limits"),
                    Query("sum(workmesh_spend_conflicts_total)", "budgets"),
                ),
                lines("Waiting on local disk", "short", Query("sum by (role) (workmesh_outbox_pending)", "{{role}}")),
                lines(
                    "Connections remade",
                    "short",
                    Query("sum by (role) (workmesh_bus_reconnects_total)", "{{role}}"),
                    Query("sum by (stage) (workmesh_pump_idle_restarts_total) or vector(0)", "{{stage}} pumps"),
                ),
            ),
        ),
        Row(
            "Disks",
            (
                lines(
                    "Kept by the bus",
                    "bytes",
                    Query("max(workmesh_bus_store_bytes)", "kept"),
                    Query("max(workmesh_bus_store_limit_bytes)", "limit"),
                ),
                lines(
                    "Free on the disk of a process",
                    "percentunit",
                    Query("min by (role) (workmesh_disk_free_bytes / workmesh_disk_size_bytes)", "{{role}}"),
                ),
            ),
        ),
        Row(
            "Audit",
            (
                lines(
                    "Sequences",
                    "short",
                    Query("max(workmesh_journal_last_sequence)", "journal"),
                    Query("max(workmesh_audit_size)", "taken in"),
                    Query("max(workmesh_audit_signed_size)", "signed"),
                ),
                lines(
                    "Oldest without a signed checkpoint", "s", Query("max(workmesh_audit_unsigned_seconds)", "oldest")
                ),
                lines(
                    "What contradicts the log",
                    "short",
                    Query("sum by (kind) (workmesh_audit_problems_total) or vector(0)", "{{kind}}"),
                ),
            ),
        ),
        Row(
            "Traces",
            (
                lines(
                    "Spans",
                    "ops",
                    Query(
                        "sum by (result) (rate(workmesh_trace_spans_total[$__rate_interval])) or vector(0)",
                        "{{result}}",
                    ),
                ),
                lines(
                    "Oldest that no collector has taken",
                    "s",
                    Query("max(workmesh_traces_behind_seconds) or vector(0)", "oldest"),
                ),
                lines(
                    "Times that a batch was not taken",
                    "short",
                    Query("sum by (reason) (workmesh_trace_waits_total) or vector(0)", "{{reason}}"),
                ),
            ),
        ),
        Row(
            "Hub of the site",
            (
                lines("Not heard for", "s", Query("max(workmesh_hub_silent_seconds)", "hub")),
                lines(
                    "Not on the other side",
                    "short",
                    Query("max by (kind) (workmesh_hub_lag_messages) or vector(0)", "{{kind}}"),
                ),
            ),
        ),
    ),
)
