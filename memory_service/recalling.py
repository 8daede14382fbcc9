"""A fact as memory answers it."""

from collections.abc import Sequence
from datetime import datetime

from memory_service.rules import Held, judge_at_its_time
from mesh.facts import Fact, Judged, RecalledFact


def judged(slot: Sequence[Held], one: Held, at: datetime) -> Judged:
    """A fact of a slot, with what is made of it."""
    said = judge_at_its_time(slot, one, at)
    return Judged(fact=one.fact, status=said.status, reason=said.reason, by=said.by)


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
