"""Plans again from the journal alone: the recorded readings and citations, under the playbooks installed now.

The rule: what a playbook would have read or recalled otherwise than on record is not known, and so neither is its plan.
"""

import asyncio
from functools import cache

import msgspec

from agents.planner.learned import InForce, pick
from agents.planner.planning import (
    NOT_APPLICABLE,
    Inputs,
    make_plan,
    plan_of_steps,
    put_parameters,
    recalled_of,
)
from agents.planner.playbook import Playbook, load_playbooks
from agents.planner.prompts import Prompts, load_prompts
from agents.planner.reading import Classified, HandOver, Move, exchange_of, kept_of, of_revision, read_text
from agents.planner.repeats import repeating
from agents.planner.replay_by_model import replay_by_model
from agents.planner.unforeseen import Proposal, ReadFirst, propose
from mesh.canonical import canonical_json
from mesh.expressions import ExpressionError
from mesh.memory import Question
from mesh.pack import Pack, load_packs
from mesh.plans import plans_of
from mesh.records import Context, Origin, Plan, Understood
from mesh.replay import Recorded, Replayed, compare
from mesh.tools import Tool

_FIELDS = ("playbook", "playbook_digest", "digest", "steps", "refusal", "rationale")


def replay(recorded: Recorded) -> Replayed:
    """What the plan of a task would be now."""
    context = next((item.record for item in recorded.items if isinstance(item.record, Context)), None)
    own = (plan for plan in reversed(plans_of(recorded.items)) if plan.anew or not plan.revision)
    plan = next(own, None)
    if context is None or plan is None:
        return Replayed(stage="planner", records=0)
    prompts = _prompts(context.header.domain)
    if prompts is not None and prompts.reads_text(context.event.type) and plan.origin is not Origin.PLAYBOOK:
        if recorded.model:
            return asyncio.run(replay_by_model(recorded, context, plan))
        return _read_again(prompts, recorded, context, plan)
    if recorded.model:
        return Replayed(stage="planner", records=0, unknown="no model had a part in its plan")
    # A shadow plans many tasks again in one process: compiled once. A person's replay reads what is installed now.
    playbooks = (_load if recorded.learned is None else _loaded)(context.header.domain)
    in_force = InForce.of(plan.learned if recorded.learned is None else recorded.learned)
    inputs = Inputs(context, plan.readings, recalled_of(plan), plan.notes)
    try:
        book, learned = pick(playbooks, context.event.type, inputs.variables, in_force)
        inputs = Inputs(context, plan.readings, recalled_of(plan), plan.notes, learned)
        if recorded.learned is not None and (unknown := _unknown(playbooks, book, plan, inputs)):
            return Replayed(stage="planner", records=0, unknown=unknown)
    except ExpressionError as error:
        return Replayed(stage="planner", records=0, unknown=str(error))
    again = make_plan(book, inputs, plan.header, plan.revision)
    if recorded.learned is not None and again.refusal.startswith(NOT_APPLICABLE):
        return Replayed(stage="planner", records=0, unknown=again.refusal)
    return _compared(recorded, plan, again)


def _compared(recorded: Recorded, plan: Plan, again: Plan) -> Replayed:
    if plan.repeats:
        again = repeating(again, plan.repeats, plan.refusal)
    differences = compare(
        "plan", {name: getattr(plan, name) for name in _FIELDS}, {name: getattr(again, name) for name in _FIELDS}
    )
    shown = again if recorded.learned is not None else None
    return Replayed(stage="planner", records=1, differences=differences, plan=shown)


def _read_again(prompts: Prompts, recorded: Recorded, context: Context, plan: Plan) -> Replayed:
    """A text's plan from the recorded answers of models, held again against what they were shown: nobody is asked."""
    exchange = of_revision(exchange_of(recorded.items), plan.revision if plan.anew else 0)
    books = _loaded(context.header.domain)
    inputs = Inputs(context, plan.readings, recalled_of(plan), plan.notes)
    try:
        found: Move | Proposal | ReadFirst = read_text(
            prompts, lambda classified: kept_of(prompts, context, classified), exchange
        )
        if isinstance(found, Classified) and prompts.plan is not None:
            found = propose(prompts.plan, context.header.task_id, exchange)
        match found:
            case Proposal(steps=steps, rationale=rationale) if plan.origin is Origin.MODEL and prompts.plan is not None:
                again = plan_of_steps(inputs, plan.header, plan.revision, prompts.plan.file, steps, rationale)
                return _compared(recorded, plan, again)
            case Understood() if plan.understood is not None:
                inputs = Inputs(context, plan.readings, recalled_of(plan), plan.notes, plan.learned, found)
                book, _ = pick(books, inputs.event_type, inputs.variables, InForce.of(plan.learned))
                return _compared(recorded, plan, make_plan(book, inputs, plan.header, plan.revision))
            case HandOver(reason=reason) if plan.understood is None:
                return _compared(recorded, plan, msgspec.structs.replace(plan, rationale=reason))
    except ExpressionError as error:
        return Replayed(stage="planner", records=0, unknown=str(error))
    said = "they were understood otherwise" if plan.understood is None else "they are not understood so"
    return Replayed(stage="planner", records=0, unknown=f"under the prompts of now {said}, or a judge had a say")


def _load(domain: str) -> tuple[Playbook, ...]:
    pack = load_packs((domain,))[domain]
    return load_playbooks(pack.playbooks, _tools(pack))


@cache
def _prompts(domain: str) -> Prompts | None:
    pack = load_packs((domain,))[domain]
    return load_prompts(pack.prompts, _tools(pack), pack.events)


def _tools(pack: Pack) -> dict[str, Tool]:
    return {tool.name: tool for tool in pack.tools(pack.read_options(None))}


_loaded = cache(_load)


def _unknown(playbooks: tuple[Playbook, ...], book: Playbook | None, plan: Plan, inputs: Inputs) -> str:
    """What another playbook would have read or recalled that is not on record; raises ``ExpressionError``."""
    was = next((each for each in playbooks if each.name == plan.playbook), None)
    if book is None:
        return ""
    put_parameters(book, inputs)
    for name, invocation in book.reads:
        args = canonical_json(invocation.arguments(inputs.variables))
        read = next((reading.call for reading in plan.readings if reading.name == name), None)
        if read is None or read.tool != invocation.tool or canonical_json(read.args) != args:
            return f"{book.name} reads {name} ({invocation.tool}), which was not read so"
    if book.recall and (was is None or _recalls(book, inputs) != _recalls(was, inputs)):
        return f"{book.name} recalls otherwise than was recalled"
    return ""


def _recalls(book: Playbook, inputs: Inputs) -> list[Question | None]:
    return [recall.question(inputs.context.header.domain, inputs.variables) for recall in book.recall]
