"""What the learner would have memory remember, once a person has approved it; the one place that talks to memory."""

import msgspec

from mesh import service
from mesh.bus import Bus
from mesh.facts import FactEvent, ForgetRequest, Provenance, RememberRequest
from mesh.records import Causation

MEMORY_S = 2.0  # under what a person waits for an answer, so that the reason reaches them


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """A fact: of ``subject``, under ``predicate``, says ``text``. ``source`` is a person or record in words.

    ``evidence`` is where the journal has what it rests on; ``person`` has approved it.
    """

    subject: str
    predicate: str
    text: str
    source: str
    evidence: Causation | None = None
    person: str = ""


async def remember(bus: Bus, writer: str, fact: Remembered) -> str:
    """Have memory remember it; the fact's id. The same again does no harm.

    Raises ``BusUnavailableError`` or ``ServiceError``.
    """
    request = RememberRequest(
        scope=fact.subject, key=fact.predicate, text=fact.text, provenance=_provenance(writer, fact)
    )
    return (await service.ask(bus, "memory", "remember", request, FactEvent, MEMORY_S)).id


async def forget(bus: Bus, writer: str, fact: Remembered) -> None:
    """Have memory forget it; raises as ``remember`` does."""
    request = ForgetRequest(scope=fact.subject, key=fact.predicate, provenance=_provenance(writer, fact))
    await service.ask(bus, "memory", "forget", request, msgspec.Raw, MEMORY_S)


def _provenance(writer: str, fact: Remembered) -> Provenance:
    return Provenance(writer=writer, source=fact.source, causation=fact.evidence, person=fact.person)
