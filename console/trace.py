"""``workmesh trace TASK``: a whole task as a tree, from the event to the lesson, with the time of each record."""

from datetime import datetime
from pathlib import Path

import click
import msgspec
from rich.text import Text
from rich.tree import Tree

from console.journal import held_by, history, state_of
from console.words import limit_line
from mesh.cli import config_option, json_option, print_json, run_async, stdout
from mesh.halts import read_halts
from mesh.journal import Stored
from mesh.money import money
from mesh.operator import operator_bus
from mesh.records import (
    Approval,
    Completion,
    Context,
    Decision,
    Effect,
    Json,
    Lesson,
    Outcome,
    Plan,
    Prompt,
    Result,
    text,
)


class TracedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record with its place in the journal."""

    seq: int
    subject: str
    stored_at: datetime
    record: Json


@click.command()
@click.argument("task")
@json_option
@config_option
def trace(task: str, as_json: bool, config: Path | None) -> None:
    """Show everything the journal says of TASK."""
    items, held = run_async(_read(task, config))
    if as_json:
        print_json(
            [
                TracedRecord(
                    seq=item.seq,
                    subject=item.subject,
                    stored_at=item.time,
                    record=msgspec.Raw(msgspec.json.encode(item.record)),
                )
                for item in items
            ]
        )
    else:
        stdout().print(tree_of(items))
        if held:
            stdout().print(f"held: {held}")


async def _read(task: str, config: Path | None) -> tuple[list[Stored], str]:
    async with operator_bus(config) as (settings, bus):
        items = await history(bus, task)
        return items, held_by(items, await read_halts(bus, settings.root_key()))


def tree_of(items: list[Stored]) -> Tree:
    """The task as a tree for people."""
    head = items[0].record.header
    start = start_of(items)
    title = (f"task {head.task_id}", "bold"), f" ({head.domain}): ", (state_of(items), "bold")
    tree = Tree(Text.assemble(*title, f", trace {head.traceparent}"))
    for item in items:
        after = (item.time - start).total_seconds() * 1000
        place = f"{item.subject} #{item.seq}"
        node = tree.add(Text.assemble((item.record.kind, "cyan"), f" at +{after:.1f} ms  ", (place, "dim")))
        for line in lines_of(item):
            node.add(line)
    return tree


def start_of(items: list[Stored]) -> datetime:
    """When the event of a task was accepted."""
    first = items[0].record
    return first.event.accepted_at if isinstance(first, Context) else items[0].time


def lines_of(item: Stored) -> list[str]:
    """What a record says, in lines for people."""
    match item.record:
        case Context() as context:
            return _of_context(context)
        case Prompt() as prompt:
            return _of_prompt(prompt)
        case Completion() as completion:
            return _of_completion(completion)
        case Plan() as plan:
            return _of_plan(plan)
        case Decision() as decision:
            return _of_decision(decision)
        case Approval(statement=said):
            comment = f": {said.comment}" if said.comment else ""
            return [f"{said.person} as {said.role}: {said.word}{comment}", f"bound to plan {said.plan_digest}"]
        case Effect() as effect:
            word = f"call by {effect.call_by:%H:%M:%S.%f}"
            if effect.withdrawn or effect.closed:
                word = "closed, no epoch follows" if effect.closed else "withdrawn, was not sent"
            return [f"{effect.step}: {effect.tool}, epoch {effect.epoch}, by {effect.executor}, {word}", effect.key]
        case Result() as result:
            how = f", recovered: {result.recovered}" if result.recovered else ""
            answer = result.error or text(result.output)
            return [f"{result.step}: {result.status} in {result.duration_ms:.1f} ms{how}", f"answer: {answer}"]
        case Outcome() as outcome:
            amount = f", {money(outcome.amount, outcome.currency)} moved" if outcome.amount else ""
            reason = f": {outcome.reason}" if outcome.reason else ""
            return [f"{outcome.status}{reason}{amount}"]
        case Lesson() as lesson:
            return [lesson.correction or f"{lesson.playbook} {lesson.status}"]


def _of_context(context: Context) -> list[str]:
    event = context.event
    lines = [f"event {event.id} from {event.source}: {event.type}", f"about {context.entity}, {context.urgency}"]
    if context.after:
        lines.append(f"acts after task {context.after}")
    return [*lines, f"data {text(context.data)}", f"text from outside: {', '.join(context.taint) or 'none'}"]


def _of_prompt(prompt: Prompt) -> list[str]:
    lines = [f"{prompt.name}, by {prompt.file} ({prompt.digest[:19]}): {prompt.reason}"]
    lines += [f"read {reading.name}: {text(reading.answer)}" for reading in prompt.readings]
    return [*lines, f"asked of {', then '.join(prompt.chain)} ({prompt.mode}): {prompt.user}"]


def _of_completion(completion: Completion) -> list[str]:
    cost = sum(use.cost_micro_usd for use in completion.usage)
    how = f"as answered before ({completion.reused})" if completion.reused else f"{cost / 1e6:.6f} USD"
    lines = [f"{completion.name}: {completion.status} by {completion.model or 'no model'}, {how}"]
    if completion.reason:
        lines.append(f"because {completion.reason}")
    return [*lines, f"answer: {text(completion.output)}"]


def _learned(plan: Plan) -> list[str]:
    """What the plan was made under that was learned."""
    return [
        f"learned: {use.parameter or 'chosen for ' + use.target} {use.value} (proposal {use.proposal})"
        for use in plan.learned
    ]


def _of_plan(plan: Plan) -> list[str]:
    if plan.refusal:
        return [f"refused by playbook {plan.playbook}: {plan.refusal}", *_learned(plan)]
    lines = [f"playbook {plan.playbook} ({plan.playbook_digest[:19]}): {plan.rationale}"]
    lines += [f"read {reading.name}: {text(reading.answer)}" for reading in plan.readings]
    lines += [f"cites fact {cited.fact_id} version {cited.version}: {cited.text}" for cited in plan.citations]
    lines += [f"note: {note}" for note in plan.notes]
    lines += _learned(plan)
    if plan.understood:
        lines.append(f"understood as {plan.understood.event_type}: {text(plan.understood.data)}")
    for number, candidate in enumerate(plan.candidates, 1):
        lines.append(f"candidate {number}, {candidate.label}: {candidate.rationale}")
    for step in plan.steps:
        needs = f" after {', '.join(step.needs)}" if step.needs else ""
        lines.append(f"step {step.id}{needs}: {step.call.tool} {text(step.call.args)}")
    return [*lines, f"digest {plan.digest}"]


def _of_decision(decision: Decision) -> list[str]:
    lines = [f"{decision.phase}: {decision.verdict}" + (f", {decision.reason}" if decision.reason else "")]
    for step in decision.steps:
        roles = f", needs {', '.join(step.roles)}" if step.roles else ""
        tainted = f", from outside: {', '.join(step.tainted)}" if step.tainted else ""
        lines.append(f"step {step.step}: {step.verdict} by {', '.join(step.policies)}{roles}{tainted}")
    lines += [f"facts of {sheet.step}: {text(sheet.facts)}" for sheet in decision.sheets]
    lines += [f"limit {limit_line(use)}" for use in decision.limits]
    return [*lines, f"bundle {decision.bundle}"]
