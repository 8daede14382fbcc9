"""What a completed task has made known, as its pack tells it: memory holds it before the lesson is on record.

The rule: an outcome that comes again tells the same again, which memory takes as said already; what memory refuses is
logged, and holds nothing up.
"""

from collections.abc import Mapping

import msgspec
import structlog

from agents.learner.handler import learn
from agents.learner.remembering import BY, MEMORY_S
from mesh import service, subjects
from mesh.bus import Bus
from mesh.facts import Claim, Scope
from mesh.journal import Journal
from mesh.memory import RememberAnswer, RememberRequest
from mesh.pack import Pack
from mesh.records import Causation, Context, Outcome, OutcomeStatus
from mesh.runtime import Outputs, Work

log = structlog.get_logger(__name__)


class Knowing:
    """The learner's stage for packs that say what is to be remembered; of all others, as it was."""

    def __init__(self, bus: Bus, journal: Journal, packs: Mapping[str, Pack]) -> None:
        self._bus = bus
        self._journal = journal
        self._telling = {name: pack.remembers for name, pack in packs.items() if pack.remembers is not None}

    async def learn(self, work: Work) -> Outputs:
        """The lesson of this outcome; raises ``BusUnavailableError`` while memory is away."""
        outputs = await learn(work)
        match work.record():
            case Outcome(header=head, status=OutcomeStatus.COMPLETED) if head.domain in self._telling:
                await self._tell(head.domain, head.task_id, work)
        return outputs

    async def _tell(self, domain: str, task: str, work: Work) -> None:
        stored = await self._journal.record(subjects.record("context", domain, task, "-"))
        if stored is None or not isinstance(stored.record, Context):
            return
        evidence = Causation(stream=subjects.JOURNAL, subject=work.subject, seq=work.seq)
        claims = tuple(_of(claim, domain, evidence) for claim in self._telling[domain](stored.record))
        if not claims:
            return
        try:
            await service.ask(
                self._bus, "memory", "remember", RememberRequest(claims=claims, by=BY), RememberAnswer, MEMORY_S
            )
        except service.ServiceError as error:
            log.warning("not_remembered", task_id=task, domain=domain, error=str(error))


def _of(claim: Claim, domain: str, evidence: Causation) -> Claim:
    """The claim in its domain's own memory, with the record that it rests on."""
    return msgspec.structs.replace(claim, scope=Scope(domain=domain), evidence=(evidence,))
