"""Planning by a playbook: from a context, readings and recalled facts to a plan, as a pure function.

The rule: the same inputs give the same plan, digest included; so a plan can be made again from the journal alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import msgspec

from agents.planner.learned import values_of
from agents.planner.playbook import Playbook, PlaybookStep
from mesh.canonical import effect_key
from mesh.experience import LearnedUse
from mesh.expressions import ExpressionError, Variables
from mesh.facts import FactStatus, RecalledFact
from mesh.plans import plan_digest
from mesh.records import Call, Citation, Context, Header, Origin, Plan, Prompt, Reading, Step, Understood

NOT_APPLICABLE = "the playbook cannot be applied"


@dataclass(frozen=True)
class Inputs:
    """What a plan is made of, beside the playbook."""

    context: Context
    readings: tuple[Reading, ...] = ()
    recalled: tuple[RecalledFact, ...] = ()
    notes: tuple[str, ...] = ()
    learned: tuple[LearnedUse, ...] = ()
    understood: Understood | None = None

    @property
    def event_type(self) -> str:
        """The type of the event, or of the request that was understood in its text."""
        return self.understood.event_type if self.understood else self.context.event.type

    @property
    def origin(self) -> Origin:
        """Whether models had a part in it."""
        return Origin.READ if self.understood else Origin.PLAYBOOK

    @cached_property
    def variables(self) -> Variables:
        """What expressions see; a request that was understood in a text, as if it had come as an event."""
        context = self.context
        values = {
            "event": {
                "id": context.event.id,
                "source": context.event.source,
                "type": self.event_type,
                "subject": context.event.subject,
            },
            "data": msgspec.json.decode(self.understood.data if self.understood else context.data),
            "reads": {reading.name: msgspec.json.decode(reading.answer) for reading in self.readings},
            "memory": msgspec.json.decode(msgspec.json.encode(self.recalled)),
            "task_id": context.header.task_id,
        }
        return Variables(values)


def make_plan(playbook: Playbook | None, inputs: Inputs, header: Header, revision: int = 0) -> Plan:
    """The plan, or the plan to do nothing with the reason. An expression that fails refuses by its name.

    A ``revision`` above 0 is of one made anew.
    """
    return _revised(_first_plan(playbook, inputs, header), revision)


class Recipe(Protocol):
    """What a plan was made by: its name, and the digest of its file."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def digest(self) -> str:
        """The digest of its file."""
        ...


def plan_of_steps(
    inputs: Inputs, header: Header, revision: int, recipe: Recipe, steps: tuple[Step, ...], rationale: str
) -> Plan:
    """The plan of steps that no playbook has made."""
    return _revised(_of_steps(inputs, header, recipe, steps, rationale), revision)


def refusal(header: Header, inputs: Inputs, recipe: Recipe | None, reason: str, revision: int = 0) -> Plan:
    """The plan to do nothing, and why."""
    return _revised(_refusal(header, inputs, recipe, reason), revision)


def _revised(plan: Plan, revision: int) -> Plan:
    if not revision:
        return plan
    head = plan.header
    digest = plan_digest(head.task_id, head.domain, plan.steps, revision)
    return msgspec.structs.replace(plan, digest=digest, revision=revision, anew=True)


def _of_steps(inputs: Inputs, header: Header, recipe: Recipe, steps: tuple[Step, ...], rationale: str) -> Plan:
    return Plan(
        header=header,
        playbook=recipe.name,
        playbook_digest=recipe.digest,
        digest=plan_digest(header.task_id, header.domain, steps),
        steps=steps,
        rationale=rationale,
        citations=citations_of(inputs.recalled),
        readings=inputs.readings,
        notes=inputs.notes,
        learned=inputs.learned,
        origin=inputs.origin,
        understood=inputs.understood,
    )


def _first_plan(playbook: Playbook | None, inputs: Inputs, header: Header) -> Plan:
    if playbook is None:
        return _refusal(header, inputs, None, f"no playbook for {inputs.event_type}")
    variables = inputs.variables
    put_parameters(playbook, inputs)
    variables.put("effect_keys", {step.id: effect_key(header.task_id, step.id) for step in playbook.steps})
    try:
        for condition, reason in playbook.refuse:
            if condition.holds(variables):
                return _refusal(header, inputs, playbook, reason.text_value(variables))
        steps = _steps(playbook, variables, header.task_id)
        rationale = playbook.rationale.text_value(variables)
    except ExpressionError as error:
        return _refusal(header, inputs, playbook, f"{NOT_APPLICABLE}: {error}")
    if not steps:
        return _refusal(header, inputs, playbook, "no step of the playbook applies")
    return _of_steps(inputs, header, playbook, steps, rationale)


def put_parameters(playbook: Playbook, inputs: Inputs) -> None:
    """Let expressions see the playbook's parameters, if it has any."""
    if playbook.parameters:
        inputs.variables.put("parameters", values_of(playbook, inputs.learned))


def _steps(playbook: Playbook, variables: Variables, task_id: str) -> tuple[Step, ...]:
    chosen = [step for step in playbook.steps if step.when.holds(variables)]
    present = {step.id for step in chosen}
    return tuple(_step(step, present, variables, task_id) for step in chosen)


def _step(step: PlaybookStep, present: set[str], variables: Variables, task_id: str) -> Step:
    undo = step.compensation
    return Step(
        id=step.id,
        call=Call(tool=step.call.tool, args=step.call.arguments(variables)),
        effect_key=effect_key(task_id, step.id),
        needs=tuple(need for need in step.needs if need in present),
        compensation=Call(tool=undo.tool, args=undo.arguments(variables)) if undo else None,
        optional=step.optional,
    )


def citations_of(recalled: Sequence[RecalledFact]) -> tuple[Citation, ...]:
    """Recalled facts as a record keeps them."""
    return tuple(
        Citation(
            fact_id=fact.id,
            version=fact.version,
            scope=fact.scope,
            subject=fact.subject,
            predicate=fact.predicate,
            text=fact.text,
            value=fact.value,
            status=fact.status,
            source=fact.source,
            authority=fact.authority,
            confidence=fact.confidence,
            valid_from=fact.valid_from,
            valid_to=fact.valid_to,
            score=fact.score,
        )
        for fact in recalled
    )


def recalled_of(record: Plan | Prompt) -> tuple[RecalledFact, ...]:
    """The facts as they were recalled for a plan or a question, from its citations."""
    return tuple(
        RecalledFact(
            id=cited.fact_id,
            version=cited.version,
            scope=cited.scope,
            subject=cited.subject,
            predicate=cited.predicate or cited.key,
            text=cited.text,
            value=cited.value,
            status=FactStatus(cited.status or FactStatus.CURRENT),
            source=cited.source,
            authority=cited.authority,
            confidence=cited.confidence,
            valid_from=cited.valid_from,
            valid_to=cited.valid_to,
            score=cited.score,
        )
        for cited in record.citations
    )


def _refusal(header: Header, inputs: Inputs, recipe: Recipe | None, reason: str) -> Plan:
    return Plan(
        header=header,
        playbook=recipe.name if recipe else "",
        playbook_digest=recipe.digest if recipe else "",
        digest=plan_digest(header.task_id, header.domain, ()),
        refusal=reason,
        citations=citations_of(inputs.recalled),
        readings=inputs.readings,
        notes=inputs.notes,
        learned=inputs.learned,
        origin=inputs.origin,
        understood=inputs.understood,
    )
