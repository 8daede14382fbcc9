"""Models: what they cost, what a successful task costs, budgets, calls and answers."""

from deploy.grafana.board import Board, Query, Row, lines, number, quantile

_DOMAIN = 'domain=~"$domain"'
_COST = f"sum(increase(workmesh_model_cost_micro_usd_total{{{_DOMAIN}}}[$__range])) / 1e6"
_DONE = f'sum(increase(workmesh_outcomes_total{{{_DOMAIN}, status="completed"}}[$__range]))'

MODELS = Board(
    "workmesh-models",
    "Models and cost",
    "Spending, budgets, calls of models and their answers.",
    (
        Row(
            "Money",
            (
                number("Spent", "currencyUSD", _COST),
                number("Per successful task", "currencyUSD", f"{_COST} / ({_DONE} > 0)"),
                number(
                    "Left of today's budget",
                    "percentunit",
                    f"min(min by (domain) (workmesh_model_budget_left_micro_usd{{{_DOMAIN}}})"
                    f" / (max by (domain) (workmesh_model_budget_micro_usd{{{_DOMAIN}}}) > 0))",
                    says="Of the domain that has least.",
                ),
                number(
                    "Questions answered by earlier answers",
                    "percentunit",
                    'sum(increase(workmesh_model_reuse_total{result="hit"}[$__range]))'
                    " / (sum(increase(workmesh_model_reuse_total[$__range])) > 0)",
                ),
                lines(
                    "Spending an hour",
                    "currencyUSD",
                    Query(
                        "sum by (domain, model) (rate(workmesh_model_cost_micro_usd_total"
                        f"{{{_DOMAIN}}}[$__rate_interval])) * 3600 / 1e6",
                        "{{domain}} {{model}}",
                    ),
                ),
                lines(
                    "Left of today's budget",
                    "currencyUSD",
                    Query(f"min by (domain) (workmesh_model_budget_left_micro_usd{{{_DOMAIN}}}) / 1e6", "{{domain}}"),
                ),
                lines(
                    "Per successful task in a day",
                    "currencyUSD",
                    Query(f"workmesh:cost_per_success:usd1d{{{_DOMAIN}}}", "{{domain}}"),
                ),
            ),
        ),
        Row(
            "Calls",
            (
                lines(
                    "Calls by how they ended",
                    "ops",
                    Query(
                        "sum by (model, result) (rate(workmesh_model_calls_total[$__rate_interval]))",
                        "{{model}} {{result}}",
                    ),
                ),
                lines(
                    "Until an answer, p50 and p99",
                    "s",
                    Query(quantile(0.5, "workmesh_model_call_seconds", "model", window="$__range"), "{{model}} p50"),
                    Query(quantile(0.99, "workmesh_model_call_seconds", "model", window="$__range"), "{{model}} p99"),
                ),
                lines(
                    "Tokens",
                    "short",
                    Query(
                        "sum by (model, kind) (rate(workmesh_model_tokens_total[$__rate_interval]))",
                        "{{model}} {{kind}}",
                    ),
                ),
                lines(
                    "Questions by how they ended",
                    "ops",
                    Query(
                        "sum by (domain, status) (rate(workmesh_model_completions_total"
                        f"{{{_DOMAIN}}}[$__rate_interval]))",
                        "{{domain}} {{status}}",
                    ),
                ),
                lines(
                    "Waiting for the provider's pace",
                    "s",
                    Query(
                        "sum by (model) (rate(workmesh_model_paced_seconds_total[$__rate_interval])) or vector(0)",
                        "{{model}}",
                    ),
                ),
                lines("Batches", "short", Query("sum by (event) (workmesh_model_batches_total)", "{{event}}")),
            ),
        ),
    ),
)
