"""Memory: how well it finds, what it holds, and how agents fare with what they keep of its answers."""

from deploy.grafana.board import Board, Query, Row, lines, number, probed, quantile

MEMORY = Board(
    "workmesh-memory",
    "Memory",
    "Retrieval accuracy, facts, and the agents' caches.",
    (
        Row(
            "Retrieval",
            (
                number("recall@10", "percentunit", probed("workmesh_memory_probe_recall_at_10")),
                number("nDCG@10", "percentunit", probed("workmesh_memory_probe_ndcg_at_10")),
                number("Facts", "short", "max(workmesh_memory_facts)"),
                number("Contested", "short", "max(workmesh_memory_contested)"),
                lines(
                    "Probes by result",
                    "short",
                    Query("sum by (result) (increase(workmesh_memory_probes_total[$__range]))", "{{result}}"),
                ),
                lines(
                    "One recall of a probe, p50 and p99",
                    "s",
                    Query(quantile(0.5, "workmesh_memory_probe_seconds", "", window="$__range"), "p50"),
                    Query(quantile(0.99, "workmesh_memory_probe_seconds", "", window="$__range"), "p99"),
                ),
                lines(
                    "Answers that did not stand any more",
                    "short",
                    Query("sum(workmesh_memory_probe_stale_hits_total)", "stale"),
                ),
            ),
        ),
        Row(
            "Holding",
            (
                lines("Facts", "short", Query("max(workmesh_memory_facts)", "facts")),
                lines(
                    "Facts that contradict each other", "short", Query("max(workmesh_memory_contested)", "contested")
                ),
                lines(
                    "Found by their words only, as yet",
                    "short",
                    Query("max(workmesh_memory_without_vectors)", "documents"),
                ),
            ),
        ),
        Row(
            "Caches of the agents",
            (
                lines(
                    "Questions by how they were answered",
                    "ops",
                    Query("sum by (result) (rate(workmesh_recalls_total[$__rate_interval]))", "{{result}}"),
                ),
                lines(
                    "Age of answers from the cache, p99",
                    "s",
                    Query(
                        quantile(0.99, "workmesh_recall_staleness_seconds", "result", window="$__range"), "{{result}}"
                    ),
                ),
                lines("Answers kept", "short", Query("sum by (role) (workmesh_recall_answers_kept)", "{{role}}")),
                lines(
                    "Answers dropped, for they changed",
                    "ops",
                    Query("sum by (role) (rate(workmesh_recall_answers_dropped_total[$__rate_interval]))", "{{role}}"),
                ),
                lines(
                    "Decisions put off for memory",
                    "short",
                    Query("sum(workmesh_decisions_put_off_for_memory_total)", "decisions"),
                ),
            ),
        ),
    ),
)
