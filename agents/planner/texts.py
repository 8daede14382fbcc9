"""Events that are text: what models are asked about them, and the plan that comes of their answers.

The rule: every question is a record before it is asked, and the next step depends on records alone; a text that cannot
be understood with certainty goes to a person, with everything that was made of it.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from agents.planner.handing import Handed, hand_over
from agents.planner.looking import look, read_all
from agents.planner.making import Maker
from agents.planner.place import Place
from agents.planner.planning import Inputs, plan_of_steps
from agents.planner.playbook import Invocation
from agents.planner.prompts import Judge, PromptFile, Prompts
from agents.planner.questions import Known, Task, cited, found_in, in_revision, question
from agents.planner.reading import (
    Ask,
    Await,
    Classified,
    Exchange,
    Failed,
    HandOver,
    answer_of,
    kept_of,
    of_revision,
    read_text,
)
from agents.planner.routing import Need, judged
from agents.planner.unforeseen import Proposal, ReadFirst, propose
from mesh.canonical import canonical_json
from mesh.errors import TerminalError
from mesh.expressions import ExpressionError
from mesh.grounding import Sources
from mesh.inference import ModelRole, Prompt
from mesh.record import Json
from mesh.records import Context, Header, Origin, Plan, Understood
from mesh.settings import ModelSettings
from mesh.toolbox import Toolbox

CAN_WAIT = "low"
"""The urgency of events for whose answers nobody waits."""

_JUDGE = "judge"

Budget = Callable[[str], Awaitable[float]]
"""The part of a domain's budget of the day that is free, 0 to 1."""


class Texts:
    """Understands texts by asking models. One for all packs of the process."""

    def __init__(
        self,
        maker: Maker,
        prompts: Mapping[str, Prompts | None],
        toolboxes: Mapping[str, Toolbox],
        settings: ModelSettings,
        budget_left: Budget,
        *,
        are_on: bool,
    ) -> None:
        self._maker = maker
        self._prompts = prompts
        self._toolboxes = toolboxes
        self._settings = settings
        self._budget_left = budget_left
        self._are_on = are_on

    def reads(self, context: Context) -> bool:
        """Whether the event is text that a prompt file is for."""
        prompts = self._prompts.get(context.header.domain)
        return prompts is not None and prompts.reads_text(context.event.type)

    async def next(
        self, context: Context, header: Header, place: Place, exchange: Exchange
    ) -> tuple[Prompt | Plan, ...]:
        """The questions to ask next, or the plan; nothing while answers are on their way."""
        prompts = self._prompts[context.header.domain]
        if prompts is None:
            raise TerminalError(f"the pack {context.header.domain} has no prompts")
        inputs = Inputs(context, notes=place.notes)
        exchange = of_revision(exchange, place.revision)
        task = Task(context, header, place, prompts, exchange, inputs, self._settings.answer_within_s)
        try:
            if not self._are_on:
                return (await self._without_models(task),)
            return tuple(in_revision(record, place.revision) for record in await self._next(task))
        except ExpressionError as error:
            raise TerminalError(f"the prompts of {header.domain} cannot be applied: {error}") from error

    async def _next(self, task: Task) -> tuple[Prompt | Plan, ...]:
        match read_text(
            task.prompts, lambda classified: kept_of(task.prompts, task.context, classified), task.exchange
        ):
            case Await():
                return ()
            case HandOver() as reason:
                return (await self._hand_over(task, reason),)
            case Understood() as understood:
                return await self._understood(task, understood)
            case Classified() as classified:
                return await self._unforeseen(task, classified)
            case asks:
                return await self._ask(task, asks)

    async def _without_models(self, task: Task) -> Plan:
        """By a playbook for the text as it is, if the pack has one; else by a person."""
        plan = await self._maker.make(task.context, task.header, task.place)
        if plan.playbook:
            return plan
        return await self._hand_over(task, HandOver("no model is configured that could read it"))

    async def _ask(self, task: Task, asks: Sequence[Ask]) -> tuple[Prompt, ...]:
        """The questions, which are all of one role and about the same."""
        prompts, ask = task.prompts, asks[0]
        need, more = Need(), {}
        match ask.role:
            case ModelRole.CLASSIFY:
                file, schema = prompts.classify.file, prompts.classify.schema
                known = await self._known(task, "classify", file)
            case ModelRole.EXTRACT if prompts.extract is not None and ask.classified is not None:
                extract, intent = prompts.extract, ask.classified.intent
                file, schema = extract.file, extract.schemas[intent]
                known = await self._known(task, "extract", file, extract.reads, ask.classified)
                need, more = Need(risk=ask.classified.risk), {"request": intent, **found_in(ask.classified)}
            case ModelRole.PLAN if prompts.plan is not None:
                file, schema = prompts.plan.file, prompts.plan.schema
                known = await self._known(task, ask.name.partition("~")[0], file)
                need = Need(novel=True)
            case _:
                raise TerminalError(f"{ask.name}: the pack has no prompt file of the role {ask.role}")
        need = await self._afforded(task, need)
        return tuple(question(task, each, file, schema, need, known, more) for each in asks)

    async def _known(
        self,
        task: Task,
        first: str,
        file: PromptFile,
        reads: Sequence[tuple[str, Invocation]] = (),
        classified: Classified | None = None,
    ) -> Known:
        """What is read and recalled for a question: once, for the ``first``, its samples and its repetitions."""
        asked = task.exchange.get(first)
        if asked is not None:
            return Known.of(asked.prompt)
        if not reads and not file.recall:
            return Known()
        domain, variables = task.header.domain, Inputs(task.context).variables
        if classified is not None:
            variables.put("found", dict(classified.found))
        recalled = await self._maker.remember(file.recall, domain, variables, anew=task.place.revision > 0)
        readings = await read_all(self._toolboxes[domain], reads, variables, task.header.traceparent)
        return Known(readings, recalled.facts)

    async def _afforded(self, task: Task, need: Need) -> Need:
        """With what the domain's budget and its haste have to say."""
        left = await self._budget_left(task.header.domain)
        in_batches = self._settings.budget_of(task.header.domain).slo == "batch"
        return replace(need, can_wait=in_batches or task.context.urgency == CAN_WAIT, budget_left=left)

    async def _understood(self, task: Task, understood: Understood) -> tuple[Prompt | Plan, ...]:
        """The plan of a playbook for what was understood, if a judge has nothing against it."""
        asked = task.exchange.get(_JUDGE)
        readings = asked.prompt.readings if asked else None
        plan = await self._maker.make(task.context, task.header, task.place, understood, readings)
        plan = msgspec.structs.replace(plan, usage=task.usage, citations=cited(plan, task.exchange))
        return await self._judged(task, plan, understood, novel=False)

    async def _unforeseen(self, task: Task, classified: Classified) -> tuple[Prompt | Plan, ...]:
        """The plan of a model, round by round."""
        unforeseen = task.prompts.plan
        if unforeseen is None:
            raise TerminalError(f"the pack {task.header.domain} has no prompt file of the role plan")
        match propose(unforeseen, task.header.task_id, task.exchange):
            case Await():
                return ()
            case HandOver() as reason:
                return (await self._hand_over(task, reason),)
            case ReadFirst(name, reads):
                known = Known.of(task.exchange[_round_before(name)].prompt)
                toolbox = self._toolboxes[task.header.domain]
                head = task.header
                more = [await look(toolbox, each, call, head.task_id, head.traceparent) for each, call in reads]
                need = await self._afforded(task, Need(novel=True))
                ask = Ask(ModelRole.PLAN, name)
                return (
                    question(
                        task,
                        ask,
                        unforeseen.file,
                        unforeseen.schema,
                        need,
                        replace(known, readings=(*known.readings, *more)),
                    ),
                )
            case Proposal() as proposal:
                last = max((name for name in task.exchange if name.startswith("plan")), key=_round)
                known = Known.of(task.exchange[last].prompt)
                inputs = replace(task.inputs, readings=known.readings, recalled=known.recalled)
                plan = plan_of_steps(
                    inputs, task.header, task.place.revision, unforeseen.file, proposal.steps, proposal.rationale
                )
                plan = msgspec.structs.replace(plan, usage=task.usage, origin=Origin.MODEL)
                return await self._judged(task, plan, None, novel=True)
            case asks:
                return await self._ask(task, asks)

    async def _judged(
        self, task: Task, plan: Plan, understood: Understood | None, *, novel: bool
    ) -> tuple[Prompt | Plan, ...]:
        judge = task.prompts.judge
        if judge is None or not plan.steps:
            return (plan,)
        variables = Inputs(task.context, plan.readings, understood=understood).variables
        amount = 0 if novel else judge.amount.value(variables)
        risk = _risk(task, understood)
        need = Need(risk=risk, amount=int(amount), large_amount=judge.source.above, novel=novel)
        if not (why := judged(need)):
            return (plan,)
        steps = [{"tool": step.call.tool, "args": msgspec.json.decode(step.call.args)} for step in plan.steps]
        match answer_of(task.exchange, _JUDGE, _verdict):
            case (bool(), _) if not _was_shown(task.exchange[_JUDGE].prompt, steps):
                return (await self._hand_over(task, HandOver("the plan changed while it was judged"), plan),)
            case (bool() as agrees, str() as says):
                return (await self._after_judgement(task, plan, judge, agrees=agrees, says=says),)
            case Failed(reason, over_budget):
                return (await self._hand_over(task, HandOver(f"no judge: {reason}", (), over_budget), plan),)
            case Await():
                return ()
            case (token, mistake):
                more = {"steps": steps, "because": why}
                ask = Ask(ModelRole.JUDGE, str(token), mistake=str(mistake))
                need = await self._afforded(task, need)
                prompt = question(task, ask, judge.file, judge.schema, need, Known(plan.readings), more)
                return (msgspec.structs.replace(prompt, reason=f"{prompt.reason}: {why}"),)
        raise TerminalError(f"the answer to {_JUDGE} cannot be told")

    async def _after_judgement(self, task: Task, plan: Plan, judge: Judge, *, agrees: bool, says: str) -> Plan:
        if agrees:
            return msgspec.structs.replace(plan, notes=(*plan.notes, f"{judge.file.name} agrees: {says}"))
        return await self._hand_over(task, HandOver(f"another model does not agree: {says}"), plan)

    async def _hand_over(self, task: Task, said: HandOver, *plans: Plan) -> Plan:
        """The plan to have a person read it, with the plans that were made of it."""
        made = [(f"plan of {plan.playbook}", plan) for plan in plans]
        for label, understood in said.readings:
            plan = await self._maker.make(task.context, task.header, task.place, understood)
            made.append((label, plan))
        refuses = said.over_budget and self._settings.budget_of(task.header.domain).at_limit == "refuse"
        handed = Handed(said.reason, tuple(made), refuses=refuses)
        plan = hand_over(task.prompts, task.inputs, task.header, task.place.revision, handed)
        return msgspec.structs.replace(plan, usage=task.usage)


def _verdict(output: Json, _: Sources) -> tuple[Any, str]:
    answer = msgspec.json.decode(output, type=dict[str, Any])
    agrees, why = answer.get("agrees"), answer.get("why", "")
    if not isinstance(agrees, bool) or not isinstance(why, str):
        return None, "agrees must be true or false, and why a string"
    return (agrees, why[:300]), ""


def _was_shown(prompt: Prompt, steps: Sequence[Any]) -> bool:
    """Whether the judge saw these very steps."""
    return bool(canonical_json(msgspec.json.decode(prompt.user)["steps"]) == canonical_json(steps))


def _risk(task: Task, understood: Understood | None) -> Any:
    intents = task.prompts.classify.source.intents
    known = intents.get(understood.event_type) if understood else None
    return known.risk if known else "high"


def _round(name: str) -> int:
    number = name.partition("~")[0].removeprefix("plan").removeprefix("-")
    return int(number) if number else 1


def _round_before(name: str) -> str:
    before = _round(name) - 1
    return "plan" if before == 1 else f"plan-{before}"
