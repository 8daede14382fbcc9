"""Whether what a plan cites still stands, asked of memory for many plans at once.

The rule: without memory's word nothing is decided on a plan that rests on facts; it waits, and that is no fault of it.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
import structlog

from mesh import metrics, service
from mesh.bus import Bus
from mesh.clock import unix
from mesh.errors import BusUnavailableError
from mesh.facts import FactStatus, Judged
from mesh.memory import StandingRequest
from mesh.records import Citation, Plan
from mesh.runtime import NotYetError

log = structlog.get_logger(__name__)

_IDS_MAX = 256  # of one request
_LIMIT_S = 1.0
_AGAIN_S = 1.0
_TELL_EVERY_S = 10.0
_NAMED_MAX = 3  # facts named in a reason

_AWAY = (BusUnavailableError, service.ServiceError, msgspec.DecodeError)


@dataclass(frozen=True, slots=True)
class Fallen:
    """The cited facts that do not stand any more, and the reason in words."""

    facts: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class _Asked:
    ids: frozenset[str]
    answer: asyncio.Future[dict[str, Judged]]


class Cited:
    """Asks memory what became of cited facts; while one request is under way, the next questions gather."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._waiting: list[_Asked] = []
        self._asking: asyncio.Task[None] | None = None
        self._told = 0.0

    async def fallen(self, plan: Plan) -> Fallen | None:
        """What the plan cites and does not stand any more; none when all of it does.

        Raises ``NotYetError`` while memory does not answer.
        """
        if not plan.citations:
            return None
        try:
            judged = await self._standing(frozenset(cited.fact_id for cited in plan.citations))
        except _AWAY as error:
            raise self._not_yet(plan, error) from error
        return fallen_of(plan.citations, judged)

    async def _standing(self, ids: frozenset[str]) -> dict[str, Judged]:
        asked = _Asked(ids, asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(), name="cited")
        return await asked.answer

    async def _ask(self) -> None:
        while self._waiting:
            asked, self._waiting = self._waiting, []
            try:
                found = await self._all(sorted(frozenset[str]().union(*(each.ids for each in asked))))
            except Exception as error:  # noqa: BLE001 - whoever asked must be told, whatever it was
                for each in asked:
                    if not each.answer.done():
                        each.answer.set_exception(error)
                continue
            for each in asked:
                if not each.answer.done():
                    each.answer.set_result(found)

    async def _all(self, ids: Sequence[str]) -> dict[str, Judged]:
        found: dict[str, Judged] = {}
        for start in range(0, len(ids), _IDS_MAX):
            request = StandingRequest(ids=tuple(ids[start : start + _IDS_MAX]))
            answer = await service.ask(self._bus, "memory", "standing", request, tuple[Judged, ...], _LIMIT_S)
            found |= {judged.fact.id: judged for judged in answer}
        return found

    def _not_yet(self, plan: Plan, error: Exception) -> NotYetError:
        metrics.DECISIONS_WAITING_FOR_MEMORY.inc()
        if unix() - self._told > _TELL_EVERY_S:
            self._told = unix()
            log.warning("decisions_wait_for_memory", task_id=plan.header.task_id, error=str(error))
        why = f"the plan of task {plan.header.task_id} rests on facts, and memory does not answer: {error}"
        return NotYetError(why, delay_s=_AGAIN_S)


def fallen_of(citations: Iterable[Citation], judged: dict[str, Judged]) -> Fallen | None:
    """The cited facts that memory does not hold current; one that it does not know has been forgotten."""
    found = {
        cited.fact_id: _what(cited, judged.get(cited.fact_id))
        for cited in citations
        if (held := judged.get(cited.fact_id)) is None or held.status is not FactStatus.CURRENT
    }
    if not found:
        return None
    named = list(found.values())[:_NAMED_MAX]
    more = f" and {len(found) - len(named)} more" if len(found) > len(named) else ""
    return Fallen(tuple(found), f"void: {'; '.join(named)}{more}")


def _what(cited: Citation, judged: Judged | None) -> str:
    if judged is None:
        return f"fact {cited.fact_id} that the plan cites is not in memory any more"
    why = f" ({judged.reason})" if judged.reason else ""
    return f"fact {cited.fact_id} that the plan cites is {judged.status} now{why}"
