"""Two rankings made one: min-max weighted fusion, a pure function.

The rule: a document that only one side found counts nothing on the other. Rank fusion (RRF) measured worse than words
alone on LoCoMo, because it throws away by how much the first is better than the tenth.
"""

from collections.abc import Mapping, Sequence

from memory_service.retrieval.documents import Weights

Scores = Mapping[int, float]


def scaled(scores: Scores) -> dict[int, float]:
    """The scores stretched to 0 to 1, the best 1; all of them 1 when they are equal."""
    if not scores:
        return {}
    low, high = min(scores.values()), max(scores.values())
    if high <= low:
        return dict.fromkeys(scores, 1.0)
    return {row: (score - low) / (high - low) for row, score in scores.items()}


def fused(lexical: Scores, vector: Scores, weights: Weights) -> list[tuple[int, float]]:
    """All rows of both, best first, with a score of 0 to 1; equals stand in the order of their rows, newest first.

    Where one side found nothing at all, the other has all the weight.
    """
    sides: Sequence[tuple[Scores, float]] = [
        (scores, weight) for scores, weight in ((lexical, weights.lexical), (vector, weights.vector)) if scores
    ]
    total = sum(weight for _, weight in sides)
    found: dict[int, float] = {}
    for scores, weight in sides:
        for row, score in scaled(scores).items():
            found[row] = found.get(row, 0.0) + (weight / total * score if total else 0.0)
    return sorted(found.items(), key=lambda item: (-item[1], -item[0]))
