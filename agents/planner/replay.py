"""Plans again from the journal alone: the recorded readings and citations, under the playbooks installed now.

The rule: what a playbook would have read or recalled otherwise than on record is not known, and so neither is its plan.
"""

from functools import cache

from agents.planner.expressions import ExpressionError
from agents.planner.learned import InForce, pick
from agents.planner.planning import NOT_APPLICABLE, Inputs, make_plan, put_parameters, recalled_of
from agents.planner.playbook import Playbook, load_playbooks
from mesh.canonical import canonical_json
from mesh.memory import Question
from mesh.pack import load_packs
from mesh.plans import plans_of
from mesh.records import Context, Plan
from mesh.replay import Recorded, Replayed, compare

_FIELDS = ("playbook", "playbook_digest", "digest", "steps", "refusal", "rationale")


def replay(recorded: Recorded) -> Replayed:
    """What the plan of a task would be now."""
    context = next((item.record for item in recorded.items if isinstance(item.record, Context)), None)
    own = (plan for plan in reversed(plans_of(recorded.items)) if plan.anew or not plan.revision)
    plan = next(own, None)
    if context is None or plan is None:
        return Replayed(stage="planner", records=0)
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
    differences = compare(
        "plan", {name: getattr(plan, name) for name in _FIELDS}, {name: getattr(again, name) for name in _FIELDS}
    )
    shown = again if recorded.learned is not None else None
    return Replayed(stage="planner", records=1, differences=differences, plan=shown)


def _load(domain: str) -> tuple[Playbook, ...]:
    pack = load_packs((domain,))[domain]
    return load_playbooks(pack.playbooks, {tool.name: tool for tool in pack.tools(pack.read_options(None))})


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
