"""The planner stage: a context comes in, and a plan goes out, when it is this task's turn (invariant 7).

Where a text must be understood first, questions to models go out, and their answers come in as contexts do.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from agents.planner.making import Maker
from agents.planner.place import FIRST, Place, place_of
from agents.planner.reading import exchange_of
from agents.planner.repeats import Repeats
from agents.planner.texts import Texts
from agents.planner.turns import Turns
from mesh import metrics, tracing
from mesh.clock import now
from mesh.errors import RetryableError, TerminalError
from mesh.journal import Journal, Stored, Write
from mesh.records import Completion, Context, Plan, Prompt
from mesh.runtime import Outputs, Work

_MAX_PLAN_BYTES = 64 * 1024
_LOOKS = 5  # a replica of the journal, or a copy of memory, can lag behind policy, but not for seconds
_BEHIND_S = 0.2
_SECONDS = metrics.Bound(metrics.PLANNING_SECONDS)

SloOf = Callable[[str], str]
"""The class of a domain: whether somebody waits for its plans (``interactive``) or not (``batch``)."""


class Planner:
    """The planner's handler. One for all packs of the process."""

    def __init__(
        self,
        journal: Journal,
        maker: Maker,
        texts: Texts,
        turns: Turns,
        repeats: Repeats,
        *,
        at_once: int,
        slo_of: SloOf,
    ) -> None:
        self._journal = journal
        self._maker = maker
        self._texts = texts
        self._turns = turns
        self._slots = asyncio.Semaphore(at_once)
        self._repeats = repeats
        self._slo_of = slo_of

    async def plan(self, work: Work) -> Outputs:
        """The handler of the stage: a context, or the answer of a model to a question about one."""
        match work.record():
            case Context() as context:
                known = work.is_released or self._texts.reads(context)
                items = await self._journal.task(context.header.task_id, context.header.domain) if known else []
                place = _place(work, context, items) if work.is_released else FIRST
            case Completion() as completion:
                context, items = await self._asked_about(completion)
                place = place_of(items)
            case record:
                raise TerminalError(f"{work.subject} at {work.seq} is a {record.kind}: not for the planner")
        if place is None:
            return ()
        await self._turns.wait(context)
        since = _asked_at(items) or now()
        head = context.header
        header = work.header(head.task_id, head.domain, tracing.child(head.traceparent, "plan"))
        async with self._slots:
            if self._texts.reads(context):
                outputs = await self._texts.next(context, header, place, exchange_of(items))
            else:
                outputs = (await self._maker.make(context, header, place),)
        outputs = tuple([await self._repeats.judged(context, record) for record in outputs])
        for record in outputs:
            match record:
                case Plan():
                    _check(record, place, work)
                    slo = self._slo_of(head.domain)
                    _SECONDS.of(head.domain, slo).observe(max(0.0, (now() - since).total_seconds()))
                case Prompt():
                    _require_unanswered(record, items)
        return tuple(Write(record) for record in outputs)

    async def _asked_about(self, completion: Completion) -> tuple[Context, list[Stored]]:
        """What a model was asked about, and all that the journal holds of its task.

        Raises ``RetryableError`` while a replica of the journal does not show this very answer yet.
        """
        head = completion.header
        items = await self._journal.task(head.task_id, head.domain)
        context = next((item.record for item in items if isinstance(item.record, Context)), None)
        if context is None or all(item.record != completion for item in items):
            raise RetryableError(f"the journal does not show answer {completion.name} of task {head.task_id} yet")
        return context, items


def _asked_at(items: Sequence[Stored]) -> datetime | None:
    """When the first question about this task went out: its turn had come then."""
    return min((item.record.header.at for item in items if isinstance(item.record, Prompt)), default=None)


def _place(work: Work, context: Context, items: Sequence[Stored]) -> Place | None:
    """Which plan is wanted of a context that comes again: the next after a void one; none when one stands.

    Raises ``RetryableError`` while the journal may not show yet what the release came with.
    """
    place = place_of(items)
    if place is None and work.attempt < _LOOKS:
        raise RetryableError(f"the plan of task {context.header.task_id} stands, as far as the journal shows yet")
    return place


def _require_unanswered(prompt: Prompt, items: Sequence[Stored]) -> None:
    """Raises ``TerminalError`` for an answer that stands before its question: nobody would be woken by it again."""
    names = {(type(item.record), item.record.token) for item in items}
    if (Completion, prompt.name) in names and (Prompt, prompt.name) not in names:
        task = prompt.header.task_id
        raise TerminalError(f"an answer to {prompt.name} of task {task} stood before the question: it is no answer")


def _check(plan: Plan, place: Place, work: Work) -> None:
    """Raises ``RetryableError`` while memory lags behind what made the plan before void, ``TerminalError`` for size."""
    if place.old & {cited.fact_id for cited in plan.citations} and work.attempt < _LOOKS:
        task = plan.header.task_id
        raise RetryableError(f"memory still gives {sorted(place.old)} for task {task}", delay_s=_BEHIND_S)
    size = len(msgspec.json.encode(plan))
    if size > _MAX_PLAN_BYTES:
        raise TerminalError(f"the plan has {size} bytes; {_MAX_PLAN_BYTES} are allowed")
