"""Plans again from the journal alone: the recorded readings and citations, under the playbooks installed now."""

from agents.planner.planning import Inputs, make_plan, recalled_of
from agents.planner.playbook import choose, load_playbooks
from mesh.pack import load_packs
from mesh.plans import plans_of
from mesh.records import Context
from mesh.replay import Recorded, Replayed, compare


def replay(recorded: Recorded) -> Replayed:
    """What the plan of a task would be now."""
    context = next((item.record for item in recorded.items if isinstance(item.record, Context)), None)
    own = (plan for plan in reversed(plans_of(recorded.items)) if plan.anew or not plan.revision)
    plan = next(own, None)
    if context is None or plan is None:
        return Replayed(stage="planner", records=0)
    pack = load_packs((context.header.domain,))[context.header.domain]
    tools = {tool.name: tool for tool in pack.tools(pack.read_options(None))}
    playbooks = load_playbooks(pack.playbooks, tools)
    inputs = Inputs(context, plan.readings, recalled_of(plan), plan.notes)
    again = make_plan(choose(playbooks, context.event.type, inputs.variables), inputs, plan.header, plan.revision)
    fields = ("playbook", "playbook_digest", "digest", "steps", "refusal", "rationale")
    return Replayed(
        stage="planner",
        records=1,
        differences=compare(
            "plan",
            {name: getattr(plan, name) for name in fields},
            {name: getattr(again, name) for name in fields},
        ),
    )
