"""What must be true of any plan, whoever made it; and the digest that permits and approvals are bound to."""

import re
from collections.abc import Iterable, Sequence

from mesh import canonical
from mesh.errors import TerminalError
from mesh.journal import Stored
from mesh.records import Candidate, Decision, Plan, Step

# Room in a subject token for "~undo" and "~resolve", which no step can claim for itself.
STEPS_MAX = 50
"""Steps of one plan: what a playbook may have. Facts are read and policies asked for each."""

_STEP_ID = re.compile(r"[a-z][a-z0-9_\-]{0,39}")


def plan_digest(task_id: str, domain: str, steps: Sequence[Step], anew: int = 0) -> str:
    """The digest of a task and its steps, to the byte.

    ``anew`` is the revision of a plan made anew: no word on the plan before it is about this one, whatever its steps.
    """
    revision = {"anew": anew} if anew else {}
    return canonical.digest({"task_id": task_id, "domain": domain, "steps": steps, **revision})


def candidate_digest(candidate: Candidate) -> str:
    """The digest of a candidate, whole: what a person signs who chooses it.

    Raises ``TerminalError`` for one that cannot be read.
    """
    try:
        return canonical.digest(candidate)
    except (ValueError, RecursionError) as error:
        raise TerminalError(f"the candidate {candidate.label!r} cannot be read: {error}") from error


def faults(plan: Plan) -> list[str]:
    """What is wrong with a plan as a proposal to act; empty when it is sound.

    Its digest is that of its steps, its effect keys are the runtime's own, its steps need only steps before them.
    """
    found: list[str] = []
    head = plan.header
    if len(plan.steps) > STEPS_MAX:
        return [f"the plan has {len(plan.steps)} steps: at most {STEPS_MAX}"]
    try:
        digest = plan_digest(head.task_id, head.domain, plan.steps, plan.revision if plan.anew else 0)
    except (ValueError, RecursionError) as error:  # not UTF-8, or nested too deep
        return [f"the plan's arguments cannot be read: {error}"]
    if plan.digest != digest:
        found.append("the plan's digest is not that of its steps")
    seen: set[str] = set()
    for step in plan.steps:
        if step.effect_key != canonical.effect_key(head.task_id, step.id):
            found.append(f"step {step.id} has an effect key that the runtime did not make")
        if not _STEP_ID.fullmatch(step.id):
            found.append(f"step {step.id!r} has an id that is none: lower-case letters, digits, _ and -, at most 40")
        if step.id in seen:
            found.append(f"two steps are called {step.id}")
        found += [f"step {step.id} needs {need}, which is no step before it" for need in step.needs if need not in seen]
        seen.add(step.id)
    return found


def plans_of(items: Iterable[Stored]) -> list[Plan]:
    """The plans among all of a task's records: the planner's own, then what took its place, in order.

    One made anew counts only when policy has declared the plan before it void: no planner takes its own plan back.
    """
    found: list[Plan] = []
    void: set[int] = set()
    for item in items:
        if isinstance(item.record, Plan):
            found.append(item.record)
        elif isinstance(item.record, Decision) and item.record.void:
            void.add(item.record.revision)
    counting = (plan for plan in found if not plan.anew or plan.revision - 1 in void)
    return sorted(counting, key=lambda plan: plan.revision)


def declared_void(items: Iterable[Stored], plan: Plan) -> Decision | None:
    """The decision that says that this plan is void, for what it cites has changed."""
    for item in items:
        match item.record:
            case Decision(void=facts) as decision if facts and decision.plan_digest == plan.digest:
                return decision
    return None
