"""Policy and approvals: what is decided, what waits for people, what they say, and how far tools may act alone."""

from deploy.grafana.board import Board, Query, Row, lines, number, quantile

_DOMAIN = 'domain=~"$domain"'
_NOES = f'{_DOMAIN}, status=~"denied|refused|expired|observed"'

POLICY = Board(
    "workmesh-policy",
    "Policy and approvals",
    "Decisions, plans that wait for people, their words, limits and stages.",
    (
        Row(
            "Approvals",
            (
                number("Plans that wait", "short", "max(workmesh_approvals_waiting)"),
                number("Oldest", "s", "max(workmesh_approvals_oldest_seconds)"),
                number("Beyond their time to escalate", "short", "max(workmesh_approvals_overdue)"),
                number(
                    "Overridden in a day",
                    "percentunit",
                    'sum(increase(workmesh_approval_words_total{word=~"reject|correct"}[1d]))'
                    " / (sum(increase(workmesh_approval_words_total[1d])) > 0)",
                ),
                lines(
                    "Words of people",
                    "short",
                    Query("sum by (word) (increase(workmesh_approval_words_total[$__range]))", "{{word}}"),
                ),
                lines(
                    "Overridden in a day, by tool and policy",
                    "percentunit",
                    Query("workmesh:overrides:ratio1d", "{{tool}} {{policy}}"),
                ),
                lines(
                    "Until a person's word, p50",
                    "s",
                    Query(quantile(0.5, "workmesh_approval_seconds", "tool", window="$__range"), "{{tool}}"),
                ),
            ),
        ),
        Row(
            "Decisions",
            (
                lines(
                    "Decisions, p50 and p99",
                    "s",
                    Query(quantile(0.5, "workmesh_handler_seconds", "", 'stage="policy"'), "p50"),
                    Query(quantile(0.99, "workmesh_handler_seconds", "", 'stage="policy"'), "p99"),
                ),
                lines(
                    "Tasks that policy ended",
                    "ops",
                    Query(
                        f"sum by (domain, status) (rate(workmesh_outcomes_total{{{_NOES}}}[$__rate_interval]))",
                        "{{domain}} {{status}}",
                    ),
                ),
                lines(
                    "Permits that the executor refused",
                    "short",
                    Query("sum by (reason) (workmesh_permit_refusals_total)", "{{reason}}"),
                ),
                lines(
                    "Plans void, for what they cite changed",
                    "short",
                    Query(f"sum by (domain) (workmesh_plans_void_total{{{_DOMAIN}}})", "{{domain}}"),
                ),
                lines(
                    "Limits in the way",
                    "short",
                    Query(
                        "sum by (domain, limit) (workmesh_limits_exceeded_total) or vector(0)", "{{domain}} {{limit}}"
                    ),
                ),
                lines(
                    "Notices not delivered",
                    "short",
                    Query(f"sum by (domain) (workmesh_notices_unmet_total{{{_DOMAIN}}})", "{{domain}}"),
                ),
            ),
        ),
        Row(
            "Autonomy and learning",
            (
                lines(
                    "How far tools may act alone",
                    "short",
                    Query(f"max by (domain, tool) (workmesh_autonomy_stage{{{_DOMAIN}}})", "{{domain}} {{tool}}"),
                    says="0 observe to 3 autonomous; only tools that have been staged.",
                ),
                lines(
                    "Shadow bundles that decide otherwise",
                    "short",
                    Query(
                        "sum by (domain, live, shadow) (workmesh_shadow_decisions_total) or vector(0)",
                        "{{domain}} {{live}}, {{shadow}}",
                    ),
                ),
                lines(
                    "Proposals of the learner",
                    "short",
                    Query("max by (state) (workmesh_proposals)", "{{state}}"),
                    Query("sum(workmesh_learned_rollbacks_total)", "taken back by themselves"),
                ),
                lines("What has drifted", "short", Query("max by (kind) (workmesh_drift_raised)", "{{kind}}")),
            ),
        ),
    ),
)
