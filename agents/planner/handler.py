"""The planner stage: one context in, one plan out, when it is this task's turn (invariant 7).

The rule: what a plan rests on (readings, recalled facts, what could not be had) is in the plan.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

import msgspec
import structlog

from agents.planner.expressions import ExpressionError, Variables
from agents.planner.learned import LearnedChanges, pick
from agents.planner.planning import Inputs, make_plan, put_parameters
from agents.planner.playbook import Playbook
from agents.planner.turns import Turns
from mesh import tracing
from mesh.clock import unix
from mesh.errors import NotSentError, RetryableError, TerminalError, ToolRefusedError, UncertainError
from mesh.journal import Journal, Write
from mesh.plans import declared_void, plans_of
from mesh.recall import Recall, Recollection
from mesh.records import Call, Context, Header, Plan, Reading
from mesh.runtime import Outputs, Work
from mesh.toolbox import Toolbox

log = structlog.get_logger(__name__)

_MAX_PLAN_BYTES = 64 * 1024
_LOOKS = 5  # a replica of the journal, or a copy of memory, can lag behind policy, but not for seconds
_BEHIND_S = 0.2


@dataclass(frozen=True, slots=True)
class Place:
    """Where a plan stands among those of its task: its revision, the facts that the one before fell by, and why."""

    revision: int = 0
    old: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


_FIRST = Place()


class Planner:
    """Plans by playbooks. One for all packs of the process."""

    def __init__(
        self,
        journal: Journal,
        recall: Recall,
        playbooks: Mapping[str, tuple[Playbook, ...]],
        toolboxes: Mapping[str, Toolbox],
        turns: Turns,
        learned: LearnedChanges,
        *,
        at_once: int,
    ) -> None:
        self._journal = journal
        self._recall = recall
        self._playbooks = playbooks
        self._toolboxes = toolboxes
        self._turns = turns
        self._learned = learned
        self._slots = asyncio.Semaphore(at_once)

    async def plan(self, work: Work) -> Outputs:
        """The handler of the planner stage."""
        context = work.record()
        if not isinstance(context, Context):
            raise TerminalError(f"{work.subject} at {work.seq} is a {context.kind}, not a context")
        place = await self._place(work, context) if work.is_released else _FIRST
        if place is None:
            return ()
        await self._turns.wait(context)
        head = context.header
        trace = tracing.child(head.traceparent, "plan")
        async with self._slots:
            plan = await self.make(context, work.header(head.task_id, head.domain, trace), place)
        if place.old & {cited.fact_id for cited in plan.citations} and work.attempt < _LOOKS:
            raise RetryableError(f"memory still gives {sorted(place.old)} for task {head.task_id}", delay_s=_BEHIND_S)
        size = len(msgspec.json.encode(plan))
        if size > _MAX_PLAN_BYTES:
            raise TerminalError(f"the plan has {size} bytes; {_MAX_PLAN_BYTES} are allowed")
        return (Write(plan),)

    async def make(self, context: Context, header: Header, place: Place = _FIRST) -> Plan:
        """The plan of a context, with readings and recalls made now."""
        domain = context.header.domain
        if domain not in self._playbooks:
            raise TerminalError(f"this planner has no pack {domain!r}: install it and release the record")
        inputs = Inputs(context, notes=place.notes)
        try:
            books, in_force = self._playbooks[domain], self._learned.of(domain)
            playbook, learned = pick(books, context.event.type, inputs.variables, in_force)
            if learned:
                inputs = replace(inputs, learned=learned)
            if playbook is not None and (playbook.recall or playbook.reads):
                inputs = await self._gather(playbook, inputs, self._toolboxes[domain], anew=place.revision > 0)
        except ExpressionError as error:
            raise TerminalError(f"the playbooks of {domain} cannot be applied to {header.task_id}: {error}") from error
        return make_plan(playbook, inputs, header, place.revision)

    async def _place(self, work: Work, context: Context) -> Place | None:
        """Which plan is wanted of a context that comes again: the next after a void one; none when one stands.

        Raises ``RetryableError`` while the journal may not show yet what the release came with.
        """
        items = await self._journal.task(context.header.task_id, context.header.domain)
        if not (found := plans_of(items)):
            return _FIRST
        void = declared_void(items, found[-1])
        if void is not None:
            return Place(found[-1].revision + 1, frozenset(void.void), (f"planned anew: {void.reason}",))
        if work.attempt < _LOOKS:
            raise RetryableError(f"the plan of task {context.header.task_id} stands, as far as the journal shows yet")
        return None

    async def _gather(self, playbook: Playbook, inputs: Inputs, toolbox: Toolbox, *, anew: bool) -> Inputs:
        put_parameters(playbook, inputs)
        variables = inputs.variables
        recalled = await self._remember(playbook, inputs, anew=anew)
        readings: list[Reading] = []
        for name, invocation in playbook.reads:
            args = invocation.arguments(variables)
            readings.append(await self._read(toolbox, name, Call(tool=invocation.tool, args=args), variables))
            variables.put("reads", {read.name: msgspec.json.decode(read.answer) for read in readings})
        notes = (*inputs.notes, *recalled.notes)
        return replace(inputs, readings=tuple(readings), recalled=recalled.facts, notes=notes)

    async def _read(self, toolbox: Toolbox, name: str, call: Call, variables: Variables) -> Reading:
        tool = toolbox.find(call.tool)
        try:
            answer = await toolbox.call(
                tool, call.args, key=f"read-{variables['task_id']}", epoch=0, call_by=unix() + tool.timeout_s
            )
        except ToolRefusedError as error:
            raise TerminalError(f"read {name} ({call.tool}) was refused: {error}") from error
        except (NotSentError, UncertainError) as error:
            raise RetryableError(f"read {name} ({call.tool}): {error}", delay_s=toolbox.wait_s(tool)) from error
        return Reading(name=name, call=call, answer=answer, taint=tool.outside)

    async def _remember(self, playbook: Playbook, inputs: Inputs, *, anew: bool) -> Recollection:
        asked = [recall.question(inputs.context.header.domain, inputs.variables) for recall in playbook.recall]
        questions = [question for question in asked if question is not None]
        found = await self._recall.recall(questions, anew=anew) if questions else Recollection()
        if left_out := len(asked) - len(questions):
            note = f"did not ask memory {left_out} of {len(asked)} questions: a part of them is empty, or no prefix"
            return Recollection(found.facts, (*found.notes, note))
        return found
