"""From a plan to a signed decision: reads the facts, asks the engine, signs what it says.

The rule: policy never trusts the planner about facts, and any failure to know is no permit.
"""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from mesh import plans
from mesh.canonical import token
from mesh.clock import now
from mesh.identity import Identity
from mesh.pack import Pack, Sheet
from mesh.records import Context, Decision, FactSheet, Header, Permit, Phase, Plan, Verdict
from mesh.settings import PolicySettings
from mesh.signing import PERMIT_TYPE, sign
from policy_service.bundle import Bundle
from policy_service.engine import Assessment, assess


async def read_sheets(pack: Pack, systems: Mapping[str, Any], context: Context, plan: Plan) -> dict[str, Sheet]:
    """The facts of each step, read now from the system that owns them; raises ``RetryableError`` while it is away.

    The steps are asked about side by side, so that a pack can answer the same question once.
    """
    if len(plan.steps) == 1:
        return {plan.steps[0].id: await pack.facts(context, plan, plan.steps[0], systems)}
    sheets = await asyncio.gather(*(pack.facts(context, plan, step, systems) for step in plan.steps))
    return {step.id: sheet for step, sheet in zip(plan.steps, sheets, strict=True)}


def weigh(
    bundle: Bundle, context: Context, plan: Plan, sheets: Mapping[str, Sheet], approvals: frozenset[str]
) -> Assessment:
    """What policy says of a plan; an unsound plan is denied before any policy is asked."""
    if found := plans.faults(plan):
        return Assessment(verdict=Verdict.DENY, reason="; ".join(found))
    return assess(bundle, context, plan, sheets, approvals)


def decide(
    header: Header,
    phase: Phase,
    plan: Plan,
    bundle: Bundle,
    sheets: Mapping[str, Sheet],
    said: Assessment,
    *,
    signer: Identity,
    settings: PolicySettings,
    approved_by: tuple[str, ...] = (),
) -> Decision:
    """The decision as a record, with the permit (or its refusal) signed."""
    at = now()
    permit = Permit(
        id=token("permit", header.task_id, plan.digest, phase),
        task_id=header.task_id,
        domain=header.domain,
        plan_digest=plan.digest,
        verdict=said.verdict,
        steps=tuple(step.id for step in plan.steps),
        bundle=bundle.digest,
        approved_by=approved_by,
        issued_at=at,
        expires_at=at + timedelta(seconds=settings.permit_ttl_s),
        obligations=tuple(obligation for step in said.steps for obligation in step.obligations),
    )
    waits = said.verdict is Verdict.NEEDS_APPROVAL
    return Decision(
        header=header,
        phase=phase,
        verdict=said.verdict,
        plan_digest=plan.digest,
        bundle=bundle.digest,
        steps=said.steps,
        sheets=tuple(
            FactSheet(step=step, facts=sheet.facts, amount=sheet.amount, currency=sheet.currency)
            for step, sheet in sheets.items()
        ),
        reason=said.reason,
        approve_by=at + timedelta(seconds=settings.approval_ttl_s) if waits else None,
        signed=sign(permit, PERMIT_TYPE, signer),
    )
