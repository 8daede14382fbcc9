"""Runs a labelled set through the retriever that the service uses.

The rule: weights are chosen on one half of the scopes and reported on the other, so no number is tuned on itself.
"""

import asyncio
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from memory_service.evaluation.labelled import LabelledSet, Question
from memory_service.evaluation.measures import Measures, measured
from memory_service.retrieval.documents import EQUAL, Weights
from memory_service.retrieval.fusion import fused
from memory_service.retrieval.opening import open_parts
from memory_service.retrieval.retriever import SCHEMA, Candidates, Retriever
from mesh.checkpoint import open_database
from mesh.settings import MemorySettings

Say = Callable[[str, int, int], None]  # what is being done, how much of it is, of how much

LONGEST = 20  # what the measures look at
GRID = tuple(Weights(round(1 - step / 20, 2), round(step / 20, 2)) for step in range(21))
_WRITE_AT_ONCE = 256


class Asked(NamedTuple):
    """A question with the candidates of both sides, by document id."""

    question: Question
    lexical: Mapping[str, float]
    vector: Mapping[str, float]


class Way(NamedTuple):
    """A way to rank candidates: the weights, and how much of its neighbours' score a document is given."""

    weights: Weights
    neighbours: float = 0.0


class Chosen(NamedTuple):
    """Weights chosen on one half of the scopes, and what they measure on the other."""

    weights: Weights
    chosen_on: tuple[str, ...]
    reported_on: tuple[str, ...]
    measures: Measures
    equal: Measures  # of equal weights, on the same half


async def ask_all(labelled: LabelledSet, embedder: str, say: Say) -> list[Asked]:
    """Index the documents in a folder of its own, and ask every question.

    Raises ``EmbedderError`` when the model cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="workmesh-eval-") as name:
        folder = Path(name)
        settings = MemorySettings(embedder="none" if embedder == "none" else "minilm", embedder_threads=2)
        database = open_database(folder / "documents.db", SCHEMA)
        retriever = Retriever(database, *open_parts(settings, folder))
        try:
            for start in range(0, len(labelled.documents), _WRITE_AT_ONCE):
                database.execute("BEGIN")
                for document in labelled.documents[start : start + _WRITE_AT_ONCE]:
                    retriever.put(document)
                database.execute("COMMIT")
            await _embedded(retriever, say)
            return await _asked(retriever, labelled.questions, say)
        finally:
            await retriever.close()
            database.close()


async def _embedded(retriever: Retriever, say: Say) -> None:
    work = asyncio.create_task(retriever.catch_up(), name="embed")
    while not work.done():
        say("embedding", *retriever.progress)
        await asyncio.wait([work], timeout=0.5)
    work.result()


async def _asked(retriever: Retriever, questions: Sequence[Question], say: Say) -> list[Asked]:
    found = []
    for number, question in enumerate(questions):
        candidates: Candidates = await retriever.candidates(question.text, question.where)
        ids = candidates.ids
        lexical = {ids[row]: score for row, score in candidates.lexical.items() if row in ids}
        vector = {ids[row]: score for row, score in candidates.vector.items() if row in ids}
        found.append(Asked(question, lexical, vector))
        if number % 20 == 0:
            say("asking", number, len(questions))
    say("asking", len(questions), len(questions))
    return found


def ranked(asked: Asked, way: Way, beside: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The ids, best first; the neighbours of what was found can be found too."""
    found = dict(fused(asked.lexical, asked.vector, way.weights))
    if way.neighbours:
        near = {name: max((found.get(other, 0.0) for other in beside.get(name, ())), default=0.0) for name in found}
        found = {name: score + way.neighbours * near[name] for name, score in found.items()}
    return sorted(found, key=lambda name: (-found[name], name))[:LONGEST]


def measure(asked: Sequence[Asked], way: Way, beside: Mapping[str, tuple[str, ...]]) -> Measures:
    """The measures of this way over these questions."""
    return measured((ranked(each, way, beside), each.question.expected) for each in asked)


def measure_rrf(asked: Sequence[Asked]) -> Measures:
    """The measures of reciprocal rank fusion (Cormack et al. 2009, constant 60), for comparison."""

    def ranks(each: Asked) -> list[str]:
        found: dict[str, float] = {}
        for side in (each.lexical, each.vector):
            for place, name in enumerate(sorted(side, key=lambda name: -side[name])):
                found[name] = found.get(name, 0.0) + 1 / (61 + place)
        return sorted(found, key=lambda name: (-found[name], name))[:LONGEST]

    return measured((ranks(each), each.question.expected) for each in asked)


def by_category(asked: Sequence[Asked], way: Way, beside: Mapping[str, tuple[str, ...]]) -> dict[str, Measures]:
    """The measures of each category, by name."""
    names = sorted({each.question.category for each in asked})
    return {name: measure([each for each in asked if each.question.category == name], way, beside) for name in names}


def choose(asked: Sequence[Asked], way: Way, beside: Mapping[str, tuple[str, ...]]) -> Chosen | None:
    """Weights with the best nDCG@10 on every other scope, measured on the rest; ``None`` for a single scope."""
    scopes = sorted({each.question.where.scope for each in asked})
    chosen_on, reported_on = tuple(scopes[::2]), tuple(scopes[1::2])
    if not reported_on:
        return None
    tuning = [each for each in asked if each.question.where.scope in chosen_on]
    rest = [each for each in asked if each.question.where.scope in reported_on]
    best = max(GRID, key=lambda weights: measure(tuning, way._replace(weights=weights), beside).ndcg_10)
    measures = measure(rest, way._replace(weights=best), beside)
    return Chosen(best, chosen_on, reported_on, measures, measure(rest, way._replace(weights=EQUAL), beside))
