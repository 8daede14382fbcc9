"""The overview: the four measures of the mission, the error budgets, and what waits."""

from deploy.grafana.board import Board, Panel, Query, Row, lines, number, probed, quantile

_DOMAIN = 'domain=~"$domain"'


def _actions(name: str) -> str:
    """Of a target's log, which each executor counts for itself: by the one that has counted most."""
    return f"sum(max by (domain, target) (increase(workmesh_actions_{name}_total{{{_DOMAIN}}}[$__range])))"


_WORDS = "sum(increase(workmesh_approval_words_total{}[$__range]))"
_OVERRIDES = _WORDS.replace("{}", '{word=~"reject|correct"}')

_MEASURES = Row(
    "The four measures",
    (
        number(
            "Time to recover, p99",
            "s",
            quantile(0.99, "workmesh_recovery_seconds", "", window="$__range"),
            says="Of inputs whose process died or failed, from stored until done. Objective: 99 % within 5 s.",
        ),
        number(
            "Actions done twice",
            "percentunit",
            f"{_actions('repeated')} / ({_actions('applied')} > 0)",
            says="By the targets' own logs. Objective: under 0.5 %.",
        ),
        number(
            "Retrieval, recall@10",
            "percentunit",
            probed("workmesh_memory_probe_recall_at_10"),
            says="Of probes with known answers, asked of the memory that runs.",
        ),
        number(
            "Plans that people override",
            "percentunit",
            f"{_OVERRIDES} / ({_WORDS.replace('{}', '')} > 0)",
            says="Rejected or corrected, of all words on plans.",
        ),
    ),
)

OVERVIEW = Board(
    "workmesh-overview",
    "Overview",
    "The four measures, what is left of the error budgets, and what waits.",
    (
        _MEASURES,
        Row(
            "Objectives",
            (
                Panel(
                    "Error budget left",
                    "percentunit",
                    (Query("workmesh:slo_budget_left:ratio", "{{slo}}"),),
                    "Over the objective's window; below 0 the objective is missed.",
                    "bars",
                    8,
                    1.0,
                ),
                lines(
                    "Errors over an hour", "percentunit", Query("workmesh:slo_errors:ratio_rate1h", "{{slo}}"), width=8
                ),
                lines(
                    "Alerts that fire",
                    "short",
                    Query('sum by (severity) (ALERTS{alertstate="firing"}) or vector(0)', "{{severity}}"),
                    width=8,
                ),
            ),
        ),
        Row(
            "Work",
            (
                lines(
                    "Tasks that ended",
                    "ops",
                    Query(
                        f"sum by (status) (rate(workmesh_outcomes_total{{{_DOMAIN}}}[$__rate_interval]))", "{{status}}"
                    ),
                ),
                lines(
                    "Time to recover, p99 by stage",
                    "s",
                    Query(quantile(0.99, "workmesh_recovery_seconds", "stage", window="$__range"), "{{stage}}"),
                ),
                lines(
                    "What waits for people",
                    "short",
                    Query("max(workmesh_approvals_waiting)", "plans"),
                    Query("sum(max by (stage, reason) (workmesh_quarantine_waiting)) or vector(0)", "quarantine"),
                    Query("max(workmesh_memory_contested)", "contested facts"),
                ),
            ),
        ),
    ),
)
