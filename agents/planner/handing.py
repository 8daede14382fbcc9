"""Handing a text over to a person: a plan of one step, with what models made of the text beside it.

The rule: nobody has to read twice what was read; whoever gets it sees why, and may choose one of the plans as it is.
"""

from dataclasses import dataclass

import msgspec

from agents.planner.planning import Inputs, plan_of_steps, refusal
from agents.planner.prompts import Prompts
from mesh.canonical import effect_key
from mesh.record import Call, Header
from mesh.records import Candidate, Origin, Plan, Step

STEP = "hand-over"
_SAID_MAX = 1000  # of what models say about it: a tool that takes no more must not keep a text from its person


@dataclass(frozen=True, slots=True)
class Handed:
    """Why, and the plans that were made; ``refuses``: nobody is to be asked."""

    reason: str
    plans: tuple[tuple[str, Plan], ...] = ()
    refuses: bool = False


def hand_over(prompts: Prompts, inputs: Inputs, header: Header, revision: int, handed: Handed) -> Plan:
    """The plan that asks a person; where the pack has no way to, the plan to do nothing, with the reason."""
    invocation = prompts.classify.hand_over
    if invocation is None or handed.refuses:
        return refusal(header, inputs, None, handed.reason, revision)
    variables = inputs.variables
    reason = handed.reason[:_SAID_MAX]
    variables.put("reason", reason)
    variables.put("options", [_option(label, plan) for label, plan in handed.plans])
    call = Call(tool=invocation.tool, args=invocation.arguments(variables))
    step = Step(id=STEP, call=call, effect_key=effect_key(header.task_id, STEP))
    plan = plan_of_steps(inputs, header, revision, prompts.classify.file, (step,), reason)
    return msgspec.structs.replace(plan, origin=Origin.READ, candidates=tuple(_candidates(handed)))


def _option(label: str, plan: Plan) -> str:
    said = plan.rationale if plan.steps else f"nothing: {plan.refusal}"
    return f"{label}: {said}"[:_SAID_MAX]


def _candidates(handed: Handed) -> list[Candidate]:
    return [
        Candidate(
            label=label,
            playbook=plan.playbook,
            playbook_digest=plan.playbook_digest,
            steps=plan.steps,
            rationale=plan.rationale,
            understood=plan.understood,
            origin=plan.origin,
        )
        for label, plan in handed.plans
        if plan.steps
    ]
