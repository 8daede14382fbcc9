"""What is demanded beside the policies: by limits over time, and by the stage that a tool may act at.

The rule: a demand takes away or adds an approval; no demand turns a deny or a wait into anything easier.
"""

from collections.abc import Iterable, Mapping

import msgspec

from mesh.autonomy import Stage
from mesh.pack import Sheet
from mesh.records import LimitUse, Plan, StepVerdict, Struct, Verdict
from policy_service.autonomy import Autonomy
from policy_service.bundle import Bundle
from policy_service.engine import Assessment, Circumstances, conclude
from policy_service.limits import sentence
from policy_service.quorum import joined, missing


class Demand(Struct, frozen=True, kw_only=True):
    """Steps must be approved by ``roles``, or are denied when there are none; ``policy`` names what demands it."""

    steps: frozenset[str]
    policy: str
    reason: str
    roles: tuple[str, ...] = ()


def demanded(bundle: Bundle, said: Assessment, demands: Iterable[Demand], approvals: frozenset[str]) -> Assessment:
    """The assessment with these demands on top."""
    if said.verdict is Verdict.DENY:
        return said
    steps = list(said.steps)
    for demand in demands:
        steps = [_stricter(step, demand, approvals) if step.step in demand.steps else step for step in steps]
    return conclude(bundle, steps, approvals)


def of_stages(
    bundle: Bundle, plan: Plan, said: Assessment, sheets: Mapping[str, Sheet], around: Circumstances
) -> list[Demand]:
    """What the tools' stages demand."""
    autonomy = bundle.governance.autonomy
    if autonomy is None:
        return []
    verdicts = {step.step: step for step in said.steps}
    demands = []
    for step in plan.steps:
        if step.id not in sheets:
            continue  # it is denied for that
        tool, verdict = step.call.tool, verdicts.get(step.id)
        stage = _stage(autonomy, around, tool)
        sheet = sheets[step.id]
        tainted = bool(verdict and verdict.tainted)
        if why := autonomy.why_approval(stage, tool, sheet.amount, sheet.currency, tainted):
            roles = autonomy.approver_roles
            demands.append(Demand(steps=frozenset({step.id}), policy=f"stage:{stage}", reason=why, roles=roles))
    return demands


def of_limits(bundle: Bundle, plan: Plan, uses: Iterable[LimitUse]) -> list[Demand]:
    """What the limits demand that would be exceeded."""
    demands = []
    for use in uses:
        limit = bundle.governance.limit(use.limit)
        if limit is None or not use.over:
            continue
        steps = frozenset(step.id for step in plan.steps if limit.counts(step.call.tool))
        reason = f"{limit.reason or 'over the limit'} ({sentence(use)})"
        demands.append(Demand(steps=steps, policy=limit.policy, reason=reason, roles=limit.approvers))
    return demands


def observed(bundle: Bundle, plan: Plan, said: Assessment, around: Circumstances) -> Assessment:
    """Deny what would be done with a tool that may only be observed yet, and say what would have come of it."""
    autonomy = bundle.governance.autonomy
    if autonomy is None or said.verdict is Verdict.DENY:
        return said
    tools = {step.call.tool for step in plan.steps}
    watched = sorted(tool for tool in tools if _stage(autonomy, around, tool) is Stage.OBSERVE)
    if not watched:
        return said
    reason = f"{', '.join(watched)} may only be observed yet; policy would have said: {said.verdict}"
    return msgspec.structs.replace(said, verdict=Verdict.DENY, reason=reason, observed=True)


def _stage(autonomy: Autonomy, around: Circumstances, tool: str) -> Stage:
    return Stage(around.stages.get(tool, autonomy.start))


def _stricter(step: StepVerdict, demand: Demand, approvals: frozenset[str]) -> StepVerdict:
    if step.verdict is Verdict.DENY:
        return step
    if not demand.roles:
        return StepVerdict(
            step=step.step,
            verdict=Verdict.DENY,
            policies=(demand.policy,),
            reasons=(demand.reason,),
            tainted=step.tainted,
            stage=step.stage,
        )
    waits = step.verdict is Verdict.NEEDS_APPROVAL or bool(missing(demand.roles, approvals))
    return msgspec.structs.replace(
        step,
        verdict=Verdict.NEEDS_APPROVAL if waits else Verdict.ALLOW,
        policies=tuple(dict.fromkeys((*step.policies, demand.policy))),
        reasons=tuple(dict.fromkeys((*step.reasons, demand.reason))),
        roles=joined((*step.roles, *demand.roles)),
    )
