"""Two rankings made one: weighted fusion of scores, a pure function.

The rule: each side is scaled from its lowest possible score, 0, to the best that it found: min-max with a theoretical
minimum (Bruch, Gai and Ingber 2023, "An Analysis of Fusion Functions for Hybrid Retrieval"). It keeps by how much the
first is better than the tenth, which rank fusion (RRF) throws away, and does not depend on how many were looked at.
"""

from collections.abc import Mapping
from typing import TypeVar

from memory_service.retrieval.documents import Weights

K = TypeVar("K", int, str)  # rows, or ids


def scaled(scores: Mapping[K, float]) -> dict[K, float]:
    """The scores as shares of the best one; what is below 0 counts as 0."""
    best = max(scores.values(), default=0.0)
    return {name: max(0.0, score) / best if best > 0 else 0.0 for name, score in scores.items()}


def fused(lexical: Mapping[K, float], vector: Mapping[K, float], weights: Weights) -> list[tuple[K, float]]:
    """All names of both, best first, with a score of 0 to 1; of equals, the later row.

    Where one side found nothing at all, the other has all the weight.
    """
    sides = [(scores, weight) for scores, weight in ((lexical, weights.lexical), (vector, weights.vector)) if scores]
    total = sum(weight for _, weight in sides)
    found: dict[K, float] = {}
    for scores, weight in sides:
        for name, score in scaled(scores).items():
            found[name] = found.get(name, 0.0) + (weight / total * score if total else 0.0)
    return sorted(found.items(), key=lambda item: (item[1], item[0]), reverse=True)
