"""Answers that were given before to an equal question: where they stand, by the digest of all that is sent.

The rule: a digest is of everything that an answer depends on, and of the domain: none pays with another's answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import structlog

from agents.model.bucket import Shelf
from agents.model.tiers import Target
from mesh import canonical, metrics, subjects
from mesh.bus import Bus
from mesh.clock import unix
from mesh.errors import WorkmeshError
from mesh.inference import Completion, CompletionStatus, Prompt
from mesh.journal import Journal
from mesh.record import Struct

log = structlog.get_logger(__name__)

_REUSE = metrics.Bound(metrics.MODEL_REUSE)


class _Known(Struct, frozen=True, kw_only=True):
    """Where an answer stands, and when it was given (Unix time)."""

    subject: str
    at: float


@dataclass(frozen=True, slots=True)
class Answer:
    """A completion with an answer, and its subject."""

    subject: str
    completion: Completion


class Reuse:
    """Finds and keeps answers; one that cannot be read now is not there."""

    def __init__(self, bus: Bus, journal: Journal, reuse_s: float) -> None:
        self._shelf = Shelf(bus, "reuse", _Known)
        self._journal = journal
        self._reuse_s = reuse_s
        for result in ("hit", "miss"):
            _REUSE.of(result)

    async def find(self, prompt: Prompt, chain: Sequence[Target]) -> Answer | None:
        """The answer to an equal question, if it is young enough."""
        if not self._reuse_s:
            return None
        found = await self._find(_digest(prompt, chain))
        _REUSE.of("hit" if found else "miss").inc()
        return found

    async def keep(self, prompt: Prompt, chain: Sequence[Target], completion: Completion) -> None:
        """Keep where this answer stands."""
        if not self._reuse_s or completion.status is not CompletionStatus.ANSWERED or completion.reused:
            return
        try:
            await self._shelf.put(_digest(prompt, chain), _Known(subject=subjects.of(completion), at=unix()))
        except WorkmeshError as error:
            log.warning("answer_not_kept", reason=str(error))

    async def _find(self, digest: str) -> Answer | None:
        try:
            _, known = await self._shelf.get(digest)
            if known is None or unix() - known.at > self._reuse_s:
                return None
            stands = await self._journal.record(known.subject)
        except WorkmeshError as error:
            log.warning("answer_not_found", reason=str(error))
            return None
        record = stands.record if stands else None
        if not isinstance(record, Completion) or record.status is not CompletionStatus.ANSWERED:
            return None
        return Answer(known.subject, record)


def _digest(prompt: Prompt, chain: Sequence[Target]) -> str:
    asked = [
        prompt.header.domain,
        prompt.system,
        prompt.user,
        msgspec.json.decode(prompt.schema),
        [target.model for target in chain],
        prompt.max_tokens,
        prompt.sample,
    ]
    return canonical.digest(asked).rpartition(":")[2]
