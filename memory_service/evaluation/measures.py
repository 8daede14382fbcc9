"""Measures of a ranking against the ids that should be in it; pure functions."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

CUTS = (5, 10, 20)


class Measures(NamedTuple):
    """Means over questions; recall is the share of the expected ids among the first so many."""

    questions: int
    recall_5: float
    recall_10: float
    recall_20: float
    hit_10: float
    ndcg_10: float


def recall(ranked: Sequence[str], expected: Collection[str], cut: int) -> float:
    """The share of what was expected that stands among the first ``cut``."""
    return len(set(ranked[:cut]) & set(expected)) / len(set(expected))


def hit(ranked: Sequence[str], expected: Collection[str], cut: int) -> float:
    """1 when anything that was expected stands among the first ``cut``, else 0."""
    return float(bool(set(ranked[:cut]) & set(expected)))


def ndcg(ranked: Sequence[str], expected: Collection[str], cut: int) -> float:
    """Normalised discounted cumulative gain with a gain of 1 for what was expected (Järvelin and Kekäläinen 2002)."""
    wanted = set(expected)
    found = sum(1 / math.log2(place + 2) for place, name in enumerate(ranked[:cut]) if name in wanted)
    return found / sum(1 / math.log2(place + 2) for place in range(min(cut, len(wanted))))


def measured(results: Iterable[tuple[Sequence[str], Collection[str]]]) -> Measures:
    """The means over rankings with what was expected of each."""
    rows = [
        (*(recall(ranked, expected, cut) for cut in CUTS), hit(ranked, expected, 10), ndcg(ranked, expected, 10))
        for ranked, expected in results
    ]
    if not rows:
        return Measures(0, 0.0, 0.0, 0.0, 0.0, 0.0)
    return Measures(len(rows), *(round(sum(column) / len(rows), 4) for column in zip(*rows, strict=True)))


def as_fields(measures: Measures) -> Mapping[str, float]:
    """The measures by the names that people write."""
    return dict(zip(("questions", *(f"recall@{cut}" for cut in CUTS), "hit@10", "nDCG@10"), measures, strict=True))
