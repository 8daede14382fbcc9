"""A fact as memory answers it."""

from mesh.facts import Fact, RecalledFact


def recalled(fact: Fact, score: float = 0.0) -> RecalledFact:
    """A fact as it is answered."""
    return RecalledFact(
        id=fact.id,
        version=fact.version,
        scope=fact.scope.text,
        subject=fact.subject,
        predicate=fact.predicate,
        text=fact.text,
        source=fact.source.uri,
        value=fact.value,
        authority=fact.source.authority,
        confidence=fact.confidence,
        valid_from=fact.valid_from,
        valid_to=fact.valid_to,
        score=score,
    )
