"""The planner stage: one context in, one plan out, when it is this task's turn (invariant 7).

The rule: what a plan rests on (readings, recalled facts, what could not be had) is in the plan.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import msgspec
import structlog

from agents.planner.expressions import ExpressionError, Variables
from agents.planner.learned import LearnedChanges, pick
from agents.planner.planning import Inputs, make_plan, put_parameters
from agents.planner.playbook import Playbook
from agents.planner.turns import Turns
from mesh import service, tracing
from mesh.bus import Bus
from mesh.clock import unix
from mesh.errors import (
    BusUnavailableError,
    NotSentError,
    RetryableError,
    TerminalError,
    ToolRefusedError,
    UncertainError,
)
from mesh.facts import RecalledFact, RecallRequest
from mesh.journal import Write
from mesh.records import Call, Context, Header, Plan, Reading
from mesh.runtime import Outputs, Work
from mesh.toolbox import Toolbox

log = structlog.get_logger(__name__)

_RECALL_LIMIT_S = 0.5
_MAX_PLAN_BYTES = 64 * 1024


class Planner:
    """Plans by playbooks. One for all packs of the process."""

    def __init__(
        self,
        bus: Bus,
        playbooks: Mapping[str, tuple[Playbook, ...]],
        toolboxes: Mapping[str, Toolbox],
        turns: Turns,
        learned: LearnedChanges,
        *,
        at_once: int,
    ) -> None:
        self._bus = bus
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
        await self._turns.wait(context)
        head = context.header
        trace = tracing.child(head.traceparent, "plan")
        async with self._slots:
            plan = await self.make(context, work.header(head.task_id, head.domain, trace))
        size = len(msgspec.json.encode(plan))
        if size > _MAX_PLAN_BYTES:
            raise TerminalError(f"the plan has {size} bytes; {_MAX_PLAN_BYTES} are allowed")
        return (Write(plan),)

    async def make(self, context: Context, header: Header) -> Plan:
        """The plan of a context, with readings and recalls made now."""
        domain = context.header.domain
        if domain not in self._playbooks:
            raise TerminalError(f"this planner has no pack {domain!r}: install it and release the record")
        inputs = Inputs(context)
        try:
            books, in_force = self._playbooks[domain], self._learned.of(domain)
            playbook, learned = pick(books, context.event.type, inputs.variables, in_force)
            if learned:
                inputs = replace(inputs, learned=learned)
            if playbook is not None and (playbook.recall or playbook.reads):
                inputs = await self._gather(playbook, inputs, self._toolboxes[domain])
        except ExpressionError as error:
            raise TerminalError(f"the playbooks of {domain} cannot be applied to {header.task_id}: {error}") from error
        return make_plan(playbook, inputs, header)

    async def _gather(self, playbook: Playbook, inputs: Inputs, toolbox: Toolbox) -> Inputs:
        put_parameters(playbook, inputs)
        variables = inputs.variables
        recalled, notes = await self._recall(playbook, variables)
        readings: list[Reading] = []
        for name, invocation in playbook.reads:
            args = invocation.arguments(variables)
            readings.append(await self._read(toolbox, name, Call(tool=invocation.tool, args=args), variables))
            variables.put("reads", {read.name: msgspec.json.decode(read.answer) for read in readings})
        return replace(inputs, readings=tuple(readings), recalled=recalled, notes=notes)

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
        return Reading(name=name, call=call, answer=answer)

    async def _recall(
        self, playbook: Playbook, variables: Variables
    ) -> tuple[tuple[RecalledFact, ...], tuple[str, ...]]:
        found: dict[str, RecalledFact] = {}
        notes: list[str] = []
        for scope, query, limit in playbook.recall:
            request = RecallRequest(scope=scope.text_value(variables), query=query.text_value(variables), limit=limit)
            try:
                facts = await service.ask(
                    self._bus, "memory", "recall", request, tuple[RecalledFact, ...], _RECALL_LIMIT_S
                )
            except (BusUnavailableError, service.ServiceError) as error:
                notes.append(f"planned without memory of {request.scope}: {error}")
                continue
            found |= {fact.id: fact for fact in facts}
        return tuple(found.values()), tuple(notes)
