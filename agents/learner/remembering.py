"""What the learner would have memory remember, once a person has approved it; the one place that talks to memory."""

import msgspec

from mesh import service
from mesh.bus import Bus
from mesh.facts import Cardinality, Claim, Judged, Scope, Source, SourceKind
from mesh.memory import ChangeAnswer, FactsPage, FactsRequest, RememberAnswer, RememberRequest, RetractRequest
from mesh.records import Causation

MEMORY_S = 2.0  # under what a person waits for an answer, so that the reason reaches them
BY = "learner"


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """A fact of a domain: of ``subject``, under ``predicate``, says ``text``. ``source`` is a uri of its own.

    ``evidence`` is where the journal has what it rests on; ``reason`` is told when it is taken back.
    """

    domain: str
    subject: str
    predicate: str
    text: str
    source: str
    evidence: Causation | None = None
    reason: str = ""


async def remember(bus: Bus, fact: Remembered) -> str:
    """Have memory remember it; the fact's id. The same again does no harm.

    Raises ``BusUnavailableError`` or ``ServiceError``.
    """
    claim = Claim(
        scope=_scope(fact),
        subject=fact.subject,
        predicate=fact.predicate,
        value=_value(fact),
        text=fact.text,
        cardinality=Cardinality.MANY,
        source=Source(uri=fact.source, kind=SourceKind.PERSON),
        evidence=(fact.evidence,) if fact.evidence else (),
    )
    request = RememberRequest(claims=(claim,), by=BY)
    answer = await service.ask(bus, "memory", "remember", request, RememberAnswer, MEMORY_S)
    return answer.facts[0].fact.id


async def retract(bus: Bus, fact: Remembered) -> None:
    """Have memory hold it true no more; raises as ``remember`` does."""
    if ids := tuple([item.fact.id for item in await _said(bus, fact)]):
        request = RetractRequest(ids=ids, by=BY, reason=fact.reason)
        await service.ask(bus, "memory", "retract", request, ChangeAnswer, MEMORY_S)


async def _said(bus: Bus, fact: Remembered) -> list[Judged]:
    """What memory holds of it, from this source."""
    found: list[Judged] = []
    request = FactsRequest(scope=_scope(fact), subject=fact.subject, status=None)
    while True:
        page = await service.ask(bus, "memory", "facts", request, FactsPage, MEMORY_S)
        found += [item for item in page.facts if _is_of(item, fact)]
        if page.next is None:
            return found
        request = msgspec.structs.replace(request, after=page.next)


def _is_of(item: Judged, fact: Remembered) -> bool:
    said = item.fact
    return (said.predicate, said.source.uri, bytes(said.value)) == (fact.predicate, fact.source, bytes(_value(fact)))


def _scope(fact: Remembered) -> Scope:
    return Scope(domain=fact.domain)


def _value(fact: Remembered) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(fact.text))
