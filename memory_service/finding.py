"""Facts as documents of the index.

The rule: what stands and what is past are kept apart, so that neither crowds out the other.
"""

from memory_service.retrieval.documents import Document, Hit, Where
from memory_service.retrieval.retriever import Retriever
from mesh.facts import Fact, Scope
from mesh.memory import Question

_PAST = "#past"


class Finding:
    """The index of facts, over a retriever of documents."""

    def __init__(self, retriever: Retriever) -> None:
        self.retriever = retriever

    def put(self, fact: Fact, seq: int, *, stands: bool) -> None:
        """Have this fact found among what stands, or among the past."""
        self.retriever.put(document_of(fact, seq, stands=stands))

    def drop(self, fact_id: str) -> None:
        """Have it not found any more."""
        self.retriever.drop(fact_id)

    async def search(self, question: Question, limit: int) -> list[Hit]:
        """The ids of facts that fit the words, best first; those of the past only for a question about a time."""
        found = await self.retriever.search(question.query, _where(question, _partition(question.scope)), limit)
        if question.valid_at is None and question.known_at is None:
            return found
        past = await self.retriever.search(question.query, _where(question, _partition(question.scope, _PAST)), limit)
        return sorted([*found, *past], key=lambda hit: -hit.score)


def document_of(fact: Fact, seq: int, *, stands: bool) -> Document:
    """A fact as the index takes it."""
    scope = _partition(fact.scope, "" if stands else _PAST)
    return Document(fact.id, scope, fact.subject, fact.predicate, fact.text, seq)


def _partition(scope: Scope, suffix: str = "") -> str:
    return scope.text + suffix


def _where(question: Question, scope: str) -> Where:
    return Where(scope, question.subject, question.predicate)
