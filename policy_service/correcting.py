"""A person's correction of a plan that waits: the same task, another plan, decided anew.

The rule: a correction changes arguments, leaves steps out, or takes one of the plan's own candidates as it is; it adds
no step, no tool and no effect key.
"""

from collections.abc import Mapping

import msgspec

from mesh.canonical import canonical_json
from mesh.errors import TerminalError
from mesh.plans import candidate_digest, plan_digest
from mesh.records import REVISIONS_MAX, Change, Header, Json, Plan, Statement, Step
from mesh.tools import Tool


def corrected(plan: Plan, said: Statement, header: Header, tools: Mapping[str, Tool]) -> Plan:
    """The plan as a person wants it; raises ``TerminalError`` for a correction that cannot be carried out."""
    if plan.revision >= REVISIONS_MAX:
        raise TerminalError(f"the plan was corrected {plan.revision} times: reject it")
    if not said.changes:
        raise TerminalError("the correction changes nothing: name a step and its arguments, or approve the plan")
    chosen = _chosen(plan, said)
    steps = chosen.steps
    for change in said.changes if chosen is plan else ():
        steps = _changed(steps, change, tools)
    if not steps:
        raise TerminalError("nothing would be left to do: reject the plan instead")
    if steps == plan.steps:
        raise TerminalError("the correction leaves the plan as it is: approve it")
    note = f"corrected by {said.person} ({said.role})" + (f": {said.comment}" if said.comment else "")
    return msgspec.structs.replace(
        chosen,
        header=header,
        steps=steps,
        digest=plan_digest(header.task_id, header.domain, steps),
        notes=(*plan.notes, note),
        revision=plan.revision + 1,
        anew=False,
    )


def _chosen(plan: Plan, said: Statement) -> Plan:
    """The plan, or the candidate of it that the person has chosen, whole: its steps can be corrected next."""
    choices = [change for change in said.changes if change.choose]
    if not choices:
        return plan
    if len(said.changes) > 1:
        raise TerminalError("choose one candidate, and correct its steps after")
    choice = choices[0]
    if not 1 <= choice.choose <= len(plan.candidates):
        raise TerminalError(f"there is no candidate {choice.choose}: the plan has {len(plan.candidates)}")
    candidate = plan.candidates[choice.choose - 1]
    if choice.digest != (stands := candidate_digest(candidate)):
        raise TerminalError(f"candidate {choice.choose} is {stands}, but {choice.digest!r} was chosen: look again")
    return msgspec.structs.replace(
        plan,
        playbook=candidate.playbook,
        playbook_digest=candidate.playbook_digest,
        steps=candidate.steps,
        rationale=candidate.rationale,
        understood=candidate.understood,
        origin=candidate.origin,
        candidates=(),
    )


def _changed(steps: tuple[Step, ...], change: Change, tools: Mapping[str, Tool]) -> tuple[Step, ...]:
    step = next((step for step in steps if step.id == change.step), None)
    if step is None:
        names = ", ".join(step.id for step in steps)
        raise TerminalError(f"the plan has no step {change.step!r}: its steps are {names}")
    if change.drop:
        if needing := [other.id for other in steps if change.step in other.needs]:
            raise TerminalError(f"step {needing[0]} needs {change.step}: leave that one out first")
        return tuple(other for other in steps if other is not step)
    args = _checked(step, change.args, tools)
    call = msgspec.structs.replace(step.call, args=args)
    return tuple(msgspec.structs.replace(step, call=call) if other is step else other for other in steps)


def _checked(step: Step, args: Json, tools: Mapping[str, Tool]) -> Json:
    """The arguments in their canonical form, if the tool takes them."""
    tool = tools.get(step.call.tool)
    if tool is None:
        raise TerminalError(f"this policy service does not know the tool {step.call.tool} of step {step.id}")
    try:
        tool.parse(args)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise TerminalError(f"step {step.id}: {step.call.tool} does not take these arguments: {error}") from error
    return msgspec.Raw(canonical_json(msgspec.json.decode(args)))
