"""One request by two channels: the later task of a case does nothing that the earlier one does.

The rule: only a request that is the same in everything but the words about it is left out, and only while the other is
carried out or has been; whatever else looks alike goes on by itself.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, TypeVar

import msgspec

from mesh.clock import now
from mesh.journal import Journal
from mesh.pack import EventType, Pack
from mesh.plans import plan_digest
from mesh.records import Context, Origin, Outcome, OutcomeStatus, Plan, Record
from mesh.runtime import NotYetError

R = TypeVar("R", bound=Record)

_WAIT_S = 0.5
_PATIENCE = timedelta(minutes=15)  # a task without a plan for longer is stuck: what comes after it goes on
_DONE = (OutcomeStatus.COMPLETED, OutcomeStatus.OBSERVED)


class Repeats:
    """Looks at the earlier tasks of a plan's case."""

    def __init__(self, journal: Journal, packs: Mapping[str, Pack]) -> None:
        self._journal = journal
        self._types = {kind.name: kind for pack in packs.values() for kind in pack.events}

    async def judged(self, context: Context, record: R) -> R | Plan:
        """The plan, or one that does nothing since an earlier task has the same request.

        Raises ``NotYetError`` while an earlier task has not been understood yet, for some minutes.
        """
        if not context.earlier or not isinstance(record, Plan) or not record.steps:
            return record
        asked = _request(context, record, self._types)
        for task in context.earlier:
            other = await self._earlier(task, context)
            if other is None:
                continue
            before, plan = other
            if asked is not None and asked == _request(before, plan, self._types):
                by = before.event.channel or before.event.source
                return repeating(record, task, f"the same request came before by {by}, and is task {task}")
        return record

    async def _earlier(self, task: str, later: Context) -> tuple[Context, Plan] | None:
        """The context and last plan of a task that is on its way, or done; ``None`` for one that ended otherwise."""
        items = [item.record for item in await self._journal.task(task, later.header.domain)]
        context = next((item for item in items if isinstance(item, Context)), None)
        outcome = next((item for item in items if isinstance(item, Outcome)), None)
        plans = [item for item in items if isinstance(item, Plan)]
        if outcome is not None and outcome.status not in _DONE:
            return None
        if context is None or not plans:
            # Its event came first, whatever the journal shows of it yet.
            if now() - later.event.accepted_at < _PATIENCE:
                raise NotYetError(f"task {task}, which may be the same request, has no plan yet", delay_s=_WAIT_S)
            return None
        return (context, plans[-1]) if plans[-1].steps else None


def repeating(plan: Plan, task: str, why: str) -> Plan:
    """The plan without its steps, which ``task`` has."""
    header = plan.header
    return msgspec.structs.replace(
        plan,
        steps=(),
        candidates=(),
        refusal=why,
        repeats=task,
        digest=plan_digest(header.task_id, header.domain, (), plan.revision if plan.anew else 0),
    )


def _request(context: Context, plan: Plan, types: Mapping[str, EventType]) -> tuple[str, Any] | None:
    """What was asked for, without the words about it; ``None`` where nobody has understood it."""
    if plan.understood is not None:
        name, data = plan.understood.event_type, plan.understood.data
    elif plan.origin is Origin.PLAYBOOK:
        name, data = context.event.type, context.data
    else:
        return None
    words = types[name].words if name in types else ()
    said = msgspec.json.decode(data)
    return name, {field: value for field, value in said.items() if field not in words and value not in ("", None)}
